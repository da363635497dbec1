"""The report has a process of its own, whose errors arrive as they are; and so has torch, which the
driver doesn't load."""

import os
import pickle
import signal
import subprocess
import sys
import time

import psutil
import pytest

from study import reporting
from study.lightness import torch_hidden
from study.store import DamagedCell, StoreError


def test_what_is_wrong_with_results_is_said_as_if_there_were_no_other_process(tmp_path):
    with pytest.raises(StoreError, match=f"^{tmp_path} holds no study"):
        reporting.write(tmp_path)


def test_a_damaged_cell_arrives_with_its_reason():
    error = pickle.loads(pickle.dumps(DamagedCell("/cells/0/rows.parquet", "too short")))
    assert str(error) == str(DamagedCell("/cells/0/rows.parquet", "too short"))
    assert error.reason == "damaged: rows.parquet: too short"


def test_a_process_that_is_killed_is_an_error_with_a_way_on(monkeypatch):
    monkeypatch.setattr(reporting, "_write", os._exit)
    with pytest.raises(StoreError, match="was killed, as for want of memory; `study report 9`"):
        reporting.write(9)


def test_the_driver_loads_no_torch():
    program = (
        "import study.launch, study.search.command, study.search.trials, study.cluster.nodes\n"
        "import sys, tensorboardX; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_torch_is_hidden_in_the_block_alone():
    program = (
        "from study.lightness import torch_hidden\n"
        "with torch_hidden():\n"
        "    try: import torch\n"
        "    except ImportError: print('hidden')\n"
        "import torch; print(torch.zeros(2).tolist())"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ran.stdout == "hidden\n[0.0, 0.0]\n"


def test_a_torch_that_is_there_stays():
    import torch

    with torch_hidden():
        assert sys.modules["torch"] is torch
    assert sys.modules["torch"] is torch


SLEEPING = """
from study import reporting
import time
reporting._write = time.sleep
reporting.write(100)
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL, signal.SIGTERM])
def test_it_does_not_outlive_the_driver(how):
    driver = subprocess.Popen([sys.executable, "-c", SLEEPING], stderr=subprocess.DEVNULL)
    writers = []
    while not writers:  # the last that is started
        time.sleep(0.1)
        children = psutil.Process(driver.pid).children()
        writers = [c for c in children if "spawn_main" in " ".join(c.cmdline())]
    time.sleep(1)
    driver.send_signal(how)
    assert driver.wait(timeout=10) != 0
    _, alive = psutil.wait_procs(writers, timeout=10)
    assert alive == []
