"""A trial that Ray ends for want of memory, as the failure of that trial alone.

Ray's memory monitor ends a worker before the kernel would, and whoever waits for it is told by an
`OutOfMemoryError`. Ray Tune 2.60 knows only `RayActorError` and `RayTaskError` as failures of a
trial; at any other it ends itself, and every trial with it. There is no public way to change that:
`pyproject.toml` has a ceiling on Ray's version, and a test in `tests/study/faults` says what broke.
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
    """In the block, Tune goes on with the other trials."""
    before = RayActorManager._actor_task_failed

    def failed(self: RayActorManager, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, OutOfMemoryError):
            exception = Evicted(error_msg=str(exception))
        before(self, tracked_actor_task, exception)

    with patch.object(RayActorManager, "_actor_task_failed", failed):
        yield
