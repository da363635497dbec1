"""A host whose memory runs out, with real processes; `tests/study/test_queue.py` has the rules."""

import pytest
import ray._private.utils

# --- with real processes ---------------------------------------------------------------------

ROOM = 4 * 2**30
"""Bytes that Ray's processes of a small study may take: twice what they take."""


@pytest.fixture
def memory_limit():
    """Environment variables with which Ray's memory monitor ends a worker when this machine's
    memory in use is `ROOM` more than now. Ray's own functions read it, which know of containers."""
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
def test_trial_ended_for_its_memory_resumes(driver, undisturbed, memory_limit):
    code, output = driver.run(order="eat", **memory_limit)
    assert code == 0, output
    # Ray's monitor may end the other worker as well, which has done nothing wrong.
    assert " of victim tried again (try 2 of 4): the host's memory ran out: " in output
    assert "Traceback" not in output
    assert driver.resumed_after()[3] >= 3
    driver.assert_as(undisturbed)
