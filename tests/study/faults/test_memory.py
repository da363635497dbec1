"""Memory that runs out, of a host and of a GPU: what is tried again, with what, and how it ends."""

import re

import pytest
import ray._private.utils
import torch
from ray.exceptions import RayActorError, RayTaskError

from study.faults.eviction import Evicted
from study.faults.retries import (
    AtOnce,
    Fault,
    Grant,
    after,
    announcements,
    at_once,
    fault,
    last_words,
)
from study.grid import Cell
from study.packing.share import share_of

CELL = Cell("autoencoder", "trainables.autoencoder", {}, None, "0" * 16)
KILLED = Evicted(error_msg="1 worker(s) were killed due to the node running low on memory.")
DIED = RayActorError(error_msg="The actor died unexpectedly.")


def raised(cause):
    """As Ray hands on what a trial raises."""
    return RayTaskError("train", f"Traceback …\n{cause!r}", cause).as_instanceof_cause()


GPU_FULL = raised(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."))


# --- the rules -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (GPU_FULL, Fault.GPU_MEMORY),
        (KILLED, Fault.HOST_MEMORY),
        (raised(MemoryError()), Fault.HOST_MEMORY),
        (raised(RuntimeError("DefaultCPUAllocator: can't allocate memory")), Fault.HOST_MEMORY),
        (DIED, Fault.LOST),
        (raised(ValueError("no")), Fault.OWN),
        (raised(RuntimeError("no")), Fault.OWN),
    ],
)
def test_what_ended_a_trial_is_known_by_its_error(error, kind):
    assert fault(error) is kind


def test_torchs_own_error_for_a_full_host_is_recognised():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert fault(raised(caught.value)) is Fault.HOST_MEMORY


def tries(grant, error):
    """All grants that one error after the other leads to, the first included."""
    grants = []
    while grant:
        grants.append(grant)
        grant = after(grant, error)
    return grants


@pytest.mark.parametrize(
    ("trials", "next_ones"), [(8, [8, 4, 2, 1]), (7, [7, 3, 1]), (2, [2, 1]), (1, [1])]
)
def test_a_cell_too_large_for_its_share_of_a_gpu_gets_twice_as_much(trials, next_ones):
    given = [grant.gpus for grant in tries(Grant(CELL, share_of(trials)), GPU_FULL)]
    assert given == [share_of(number) for number in next_ones]


def test_a_cell_without_a_gpu_is_never_given_one():
    assert after(Grant(CELL, 0.0), GPU_FULL) is None
    assert "0 GPUs" not in last_words(Grant(CELL, 0.0), GPU_FULL)


def test_a_cell_too_large_for_a_whole_gpu_fails_with_that_reason():
    assert after(Grant(CELL, 1.0), GPU_FULL) is None
    (*_, reason) = last_words(Grant(CELL, 1.0), GPU_FULL).splitlines()
    assert reason == (
        "OutOfMemoryError: the cell doesn't fit a whole GPU; fewer --replicates or smaller "
        "--batch-sizes take less"
    )
    assert "2 GPUs" in last_words(Grant(CELL, 2.0), GPU_FULL)


def test_where_the_hosts_memory_runs_out_again_fewer_run_at_once():
    grants = tries(Grant(CELL, 0.5), KILLED)
    assert [at_once([grant]) for grant in grants] == [
        AtOnce.ALL, AtOnce.ALL, AtOnce.HALF, AtOnce.ONE,
    ]  # fmt: skip
    assert {grant.gpus for grant in grants} == {0.5}
    (*_, reason) = last_words(grants[-1], KILLED).splitlines()
    assert reason.startswith("OutOfMemoryError: the host's memory ran out in 4 tries, the last")
    assert "fewer --replicates" in reason


def test_a_cell_whose_worker_dies_is_alone_the_last_time():
    """The kernel's own killing for memory looks like any death."""
    modes = [at_once([grant]) for grant in tries(Grant(CELL, 0.0), DIED)]
    assert modes == [AtOnce.ALL, AtOnce.ALL, AtOnce.ALL, AtOnce.ONE]


def test_faults_of_both_kinds_are_counted_apart():
    shared = after(Grant(CELL, share_of(4), lost=3), GPU_FULL)
    assert (shared.gpus, shared.lost) == (0.5, 3)
    assert after(shared, DIED) is None


def test_retries_are_announced_in_a_line_each():
    given = [Grant(CELL, 0.25), Grant(CELL, 0.25), Grant(CELL, 0.25), Grant(CELL, 0.5, 1, True)]
    errors = [GPU_FULL, GPU_FULL, DIED, KILLED]
    retries = [
        (grant, fault(error), after(grant, error))
        for grant, error in zip(given, errors, strict=True)
    ]
    assert announcements(retries) == [
        "1 cell has lost the worker; trying again, half as many",
        "1 cell has run out of the host's memory; trying again, half as many",
        "2 cells have run out of GPU memory at 4 trials a GPU; trying again at 2",
    ]


# --- with real processes ---------------------------------------------------------------------

ROOM = 4 * 2**30
"""Bytes that Ray's processes of a small study may take: twice what they do."""


@pytest.fixture
def watched():
    """Environment variables with which Ray's memory monitor ends a worker when this machine's
    memory in use is `ROOM` more than now. Read by Ray's own means, which know of containers."""
    total = ray._private.utils.get_system_memory()
    used = ray._private.utils.get_used_memory()
    if total - used < 2 * ROOM:
        pytest.skip(f"{(total - used) / 2**30:.1f} GiB are free, {2 * ROOM / 2**30:.0f} are needed")
    return {
        "RAY_memory_usage_threshold": f"{(used + ROOM) / total:.4f}",
        "RAY_memory_monitor_refresh_ms": "100",
    }


@pytest.mark.ray
@pytest.mark.slow
def test_a_trial_that_eats_all_memory_is_ended_and_goes_on(driver, undisturbed, watched):
    code, said = driver.run(order="eat", **watched)
    assert code == 0, said
    # Ray's monitor may end the other worker as well, which has done nothing wrong.
    ended = r"^victim: (1 cell has|2 cells have) run out of the host's memory; trying again"
    assert re.search(ended, said, re.MULTILINE), said
    assert "Traceback" not in said
    assert driver.resumed_after()[3] >= 3
    driver.assert_as(undisturbed)
