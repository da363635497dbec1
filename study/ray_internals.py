"""All that the study uses of Ray's private parts: each with the reason, and a test.

`pyproject.toml` has a ceiling on Ray's version, and `tests/study/test_ray_internals.py` says what
broke when that is raised.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from ray.air.execution._internal.actor_manager import RayActorManager
from ray.exceptions import OutOfMemoryError, RayActorError


class Evicted(RayActorError):
    """Ray's memory monitor has ended the worker."""


@contextmanager
def evictions_fail_their_trial() -> Iterator[None]:
    """Treat a worker that the memory monitor ends as a failure of its trial alone.

    Whoever waits for such a worker gets an `OutOfMemoryError`. Ray Tune 2.60 knows only
    `RayActorError` and `RayTaskError` as failures of a trial; any other ends the whole run.
    """
    before = RayActorManager._actor_task_failed

    def failed(self: RayActorManager, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, OutOfMemoryError):
            exception = Evicted(error_msg=str(exception))
        before(self, tracked_actor_task, exception)

    with patch.object(RayActorManager, "_actor_task_failed", failed):
        yield
