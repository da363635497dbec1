"""Every use of Ray's private API, each with its reason and a test.

`pyproject.toml` has a ceiling on Ray's version. When it is raised, tests on Ray
(`tests/study/faults`) show what broke.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import ray._private.utils
import ray._raylet
from ray._common.utils import get_default_ray_temp_dir as get_default_ray_temp_dir
from ray._private.node import Node
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.exceptions import OutOfMemoryError, RayActorError


class Evicted(RayActorError):
    """Ray's memory monitor has ended the worker."""


@contextmanager
def evictions_fail_their_trial() -> Iterator[None]:
    """Treat a worker that the memory monitor ends as a failure of its trial alone.

    Calls to such a worker raise `OutOfMemoryError`. Ray Tune 2.60 treats only `RayActorError` and
    `RayTaskError` as failures of a trial; any other error ends the whole run.
    """
    before = RayActorManager._actor_task_failed

    def failed(self: RayActorManager, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, OutOfMemoryError):
            exception = Evicted(error_msg=str(exception))
        before(self, tracked_actor_task, exception)

    with patch.object(RayActorManager, "_actor_task_failed", failed):
        yield


@contextmanager
def starting_actors_are_kept() -> Iterator[None]:
    """Keep an actor that is starting when another one becomes free.

    Ray Tune 2.60 gives a free actor to the oldest pending trial and kills the actor that is
    starting for it, even if a newer trial has no actor. If trials end more often than an actor
    needs to start, then the cores of a new host, or of a worker that has died, are never used.
    """
    from ray.tune.execution.tune_controller import TuneController  # a second of import

    before = TuneController._maybe_reuse_cached_actor

    def reuse(self: TuneController, trial: Any) -> bool:
        own = self._trial_to_actor.get(trial)
        is_starting = own is not None and self._actor_manager.is_actor_started(own)
        if is_starting and trial not in self._resetting_trials:
            return False
        return before(self, trial)

    with patch.object(TuneController, "_maybe_reuse_cached_actor", reuse):
        yield


@contextmanager
def services_left_out() -> Iterator[None]:
    """Start a local Ray without its dashboard, autoscaler and forwarder of workers' output.

    No study uses them on one machine; a cluster that it joins keeps its own. Without them, Ray
    starts in 3.3 s, not 4.6, ends in 0.45 s, not 1.45 (medians of n = 3 on two cores), and takes
    180 MiB less.
    """
    with ExitStack() as patches:
        for service in ("start_api_server", "start_monitor", "start_log_monitor"):
            patches.enter_context(patch.object(Node, service, lambda *_, **__: None))
        yield


@contextmanager
def signals_kept() -> Iterator[None]:
    """Keep the handler of SIGTERM, which `ray.init` replaces twice.

    Ray's handler in Python exits with code 15. The handler of its core worker, in C++, dumps the
    stack and aborts. A SIGTERM that comes while the core worker is made is handled afterwards.
    """
    handler = signal.getsignal(signal.SIGTERM)
    before = ray._raylet.CoreWorker  # type: ignore[attr-defined]

    def with_sigterm_blocked(*arguments: Any) -> Any:
        masked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        try:
            return before(*arguments)
        finally:
            signal.signal(signal.SIGTERM, handler)
            signal.pthread_sigmask(signal.SIG_SETMASK, masked)

    with (
        patch.object(ray._private.utils, "set_sigterm_handler", lambda handler: None),
        patch.object(ray._raylet, "CoreWorker", with_sigterm_blocked),
    ):
        yield
