"""`study run victim`, a study that tests interrupt, as a process; and commands without Ray."""

import json
import os
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import pytest
from safetensors import safe_open

import study.commands as command_line
from analysis import report
from study.queue import missing_tasks
from study.store import Block, Store
from tests.computing import assert_same_tables, compute, tables
from trainables.contract import Outcome

ROOT = Path(__file__).resolve().parents[2]

VICTIM = '''
"""Autoencoders, one of which obeys an order, once, in the middle of its training."""

import os
import signal
import time
from pathlib import Path

from trainables.autoencoder import train as autoencoder
from trainables.autoencoder.train import Config

VERSION = 1


def eat_memory():
    """128 MiB ten times a second, for ever: whoever watches the memory ends it."""
    eaten = []
    while True:
        eaten.append(bytearray(os.urandom(2**12) * 2**15))
        time.sleep(0.1)


def train(config, replicates, data, report, parent=None, checkpoint=None):
    def after_epoch(metrics):
        report(metrics)
        order = Path(os.environ["ORDERS"]) / "order"
        if config.latent_dim == 3 and metrics["epoch"] == 4 and order.exists():
            words = order.read_text()
            order.unlink()
            if words == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if words == "eat":
                eat_memory()
            order.with_name("pid").write_text(str(os.getpid()))
            time.sleep(100)

    return autoencoder.train(config, replicates, data, after_epoch, checkpoint=checkpoint)
'''

REGISTERED = """

EXPERIMENTS["victim"] = Experiment(
    name="victim",
    trainable="trainables.victim",
    axes={"latent_dim": (2, 3)},
    fixed={"depth": 1, "width": 2, "batch_size": 200, "epochs": 6},
    replicates=2,
)
"""


class Driver:
    """`study run victim` as a process, from a copy of the packages that leaves a checkpoint after
    every epoch."""

    def __init__(self, packages, folder, out=None):
        self.packages, self.orders = packages, folder / "orders"
        self.out = out or folder / "results"
        self.orders.mkdir(parents=True)
        self.store = Store(self.out)

    def start(self, order=None, first=None, options=(), **environment):
        """Start the process, optionally after some lines of Python, with more options and other
        environment variables."""
        if order:
            (self.orders / "order").write_text(order)
        main = "import sys; from study.__main__ import main; sys.exit(main())"
        program = "\n".join([first or "", main])
        command = ["run", "victim", "--no-report", "--out", self.out, *options]
        mine = {"PYTHONPATH": str(self.packages), "ORDERS": str(self.orders)}
        return subprocess.Popen(
            [sys.executable, "-c", program, *command],
            cwd=self.packages,
            env={**os.environ, **mine, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )

    def run(self, order=None, **others):
        """Exit code and output."""
        process = self.start(order, **others)
        output, _ = process.communicate(timeout=120)
        return process.returncode, output

    def start_and_wait(self):
        """The started process, and the worker that waits in epoch 4 of the second cell; the first
        cell is done."""
        process = self.start(order="wait")
        pid = self.orders / "pid"
        self.wait_for(lambda: pid.exists() and pid.read_text() and len(self.done()) == 1)
        return process, int(pid.read_text())

    def done(self):
        """Ids of the cells with some finished replicates."""
        return set(self.store.blocks())

    def resumed_after(self):
        """The epoch from which each cell resumed, by d."""
        return {
            self.store.config(cell)["latent_dim"]: provenance["resumed_after_epoch"]
            for cell in self.done()
            for provenance in self.store.provenance([cell])
        }

    def tables(self):
        return tables(self.store)

    def assert_as(self, undisturbed):
        """Assert equality to the last bit, and that nothing else is left behind."""
        assert_same_tables(self.tables(), undisturbed)
        assert self.left_over() == []
        assert self.store.failures() == {}

    def assert_resumable(self):
        """Assert that one cell is done, the other has a checkpoint, and none has failed."""
        assert len(self.done()) == 1 and self.store.failures() == {}
        (begun,) = (self.out / "progress").iterdir()
        with safe_open(begun, "pt") as checkpoint:
            assert json.loads(checkpoint.metadata()["progress"])["epoch"] == 3

    def wait_for(self, condition, seconds=90):
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.05)

    def wait_for_the_death_of(self, pid):
        self.wait_for(lambda: not alive(pid), seconds=30)

    def left_over(self):
        """Files among blocks, finished or in progress, that belong to no block."""
        place = self.store.place
        blocks = [Block(cell, r) for cell, found in self.store.blocks().items() for r in found]
        expected = 2 * len(blocks)  # a marker and arrays each
        found = [path for path in (self.out / "blocks").rglob("*") if path.is_file()]
        return list(place.list("progress")) + (found if len(found) != expected else [])


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture(scope="session")
def packages(copy_packages, tmp_path_factory):
    """A copy of the packages with an experiment whose workers and drivers die."""
    copy = copy_packages(tmp_path_factory.mktemp("victim") / "copy")
    (copy / "trainables" / "victim.py").write_text(VICTIM)
    registry = copy / "study" / "experiments.py"
    registry.write_text(registry.read_text() + REGISTERED)
    checkpoint = copy / "study" / "store" / "checkpoint.py"
    text = checkpoint.read_text()
    assert "SAVE_INTERVAL = 10.0\n" in text
    checkpoint.write_text(text.replace("SAVE_INTERVAL = 10.0\n", "SAVE_INTERVAL = 0.0\n"))
    return copy


@pytest.fixture(scope="session")
def undisturbed(packages, tmp_path_factory):
    """The tables of an undisturbed study."""
    driver = Driver(packages, tmp_path_factory.mktemp("undisturbed"))
    code, output = driver.run()
    assert code == 0, output
    return driver.tables()


@pytest.fixture
def driver(packages, tmp_path):
    return Driver(packages, tmp_path)


@pytest.fixture
def make_driver(packages):
    """Makes a driver with its orders in a folder, and its results there or elsewhere."""
    return lambda folder, out=None: Driver(packages, folder, out)


@pytest.fixture
def mount_tmpfs(tmp_path):
    """Mounts a file system with these options, and returns its folder."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options):
        if os.geteuid() != 0:
            pytest.skip("mounting a file system needs root")
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        mounted = subprocess.run(command, capture_output=True, text=True, check=False)
        if mounted.returncode:
            pytest.skip(f"a file system can't be mounted: {mounted.stderr.strip()}")
        return folder

    yield mount
    if folder.is_mount():
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def local_store(tmp_path):
    """An empty store in a folder."""
    store = Store(tmp_path / "results")
    store.create()
    return store


# --- commands without Ray --------------------------------------------------------------------


@pytest.fixture(autouse=True)
def nothing_measured(monkeypatch):
    """Plans in this process train nothing: that takes seconds and has its own tests."""
    monkeypatch.setattr("study.estimate.measure_unknown", lambda *others: "")


@pytest.fixture
def cached_digits(monkeypatch, digits):
    """`mnist-5k` read from disk only once."""
    monkeypatch.setattr(command_line, "load", lambda *source: digits)


class FakeSession:
    """A `study.launch.Session` that writes blocks, or failures, and computes nothing."""

    def __init__(self, store, asked, error=None):
        self.store, self.asked, self.error = store, asked, error

    def compute(self, name, cells, finished):
        for task in missing_tasks(cells, finished):
            cell, rows = task.cell, [{"replicate": r} for r in task.replicates]
            self.asked.append(task.block)
            if self.error:
                self.store.write_failure(cell.id, cell.config, self.error)
            else:
                self.store.write_block(task.block, cell.config, cell.parent_id, Outcome(rows), {})


@pytest.fixture
def fake_session(monkeypatch, cached_digits):
    """Makes commands compute nothing. Call the value with the error of every block, or none; it
    returns a list of the blocks asked for."""

    def install(error=None):
        asked = []

        monkeypatch.setattr("study.cluster.connect.cluster", nullcontext)
        monkeypatch.setattr(
            "study.launch.Session", lambda store, *others: FakeSession(store, asked, error)
        )
        monkeypatch.setattr("study.reporting.write", lambda folder, *others: folder)
        return asked

    return install


class LocalSession:
    """A `study.launch.Session` that computes one block after another in this process."""

    def __init__(self, store, data, *others):
        self.store, self.data = store, data

    def compute(self, name, cells, finished):
        for task in missing_tasks(cells, finished):
            compute(task.cell, task.replicates, self.data, self.store)


@pytest.fixture
def without_ray(monkeypatch):
    """Makes commands compute blocks and write the report in this process."""
    monkeypatch.setattr("study.cluster.connect.cluster", nullcontext)
    monkeypatch.setattr("study.launch.Session", LocalSession)
    monkeypatch.setattr("study.reporting.write", lambda folder, *others: report.write(folder))


@pytest.fixture
def computed_blocks(fake_session):
    """Blocks that commands asked for; they are written, and nothing is computed."""
    return fake_session()


HOLD = """
import sys, time
from study.store.lock import exclusive_lock
from study.store.places import Folder
with exclusive_lock(Folder(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def start_holder():
    """Start a process that runs a script with one argument, and wait until it prints "held"."""
    started = []

    def start(script, argument):
        process = subprocess.Popen(
            [sys.executable, "-c", script, argument],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def holder(tmp_path, start_holder):
    """Another process, which holds the lock of `tmp_path`."""
    return start_holder(HOLD, tmp_path)
