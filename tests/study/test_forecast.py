"""Forecasts of a study's time: the model of seconds, the simulated queue, the plan's output.

Recorded runs are in `tests/study/recorded`: each block's start and seconds, and how they were made.
"""

import json
import math
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from statistics import median

import pytest

import study.estimate
from study.__main__ import main
from study.errors import BadInput
from study.estimate import MAX_MEASURED_CELLS, Machine, cost, machine_of
from study.experiments import AUTOENCODER, EXPERIMENTS, FEWSHOT
from study.forecast import START_SECONDS, TRIAL_COST, Forecast, forecast, makespan
from study.grid import Cell, override, plan
from study.packing import seconds as timing
from study.queue import Queue, Task, missing_tasks
from study.rates import Rates
from study.resources import Resources
from study.store import Block, Store
from trainables.contract import Outcome

MEASURED = study.estimate.measure_unknown
RECORDED = sorted((Path(__file__).parent / "recorded").glob("*.json"))
BUSY = [path for path in RECORDED if path.stem.startswith("busy")]
"""Real runs, by the clock, on a machine whose load went from 4 to 22 while they ran."""
STEADY = [path for path in RECORDED if path not in BUSY]
"""CPU seconds of real blocks with simulated starts, and `QUIET`."""
QUIET = [path for path in RECORDED if path.stem.startswith("quiet")]
"""Real runs, by the clock, on a machine with little else to do."""


def autoencoders(dims, replicates=2, **fixed):
    axes = {"latent_dim": tuple(dims), "depth": (2,), "batch_size": (64,)}
    return plan([override(AUTOENCODER, axes, {"replicates": replicates, **fixed})], "")[0]


def tasks_of_seconds(seconds, replicates=1):
    """Tasks, and rates that have seen each of them often."""
    cells, rates = autoencoders(range(1, 1 + len(seconds)), replicates), Rates()
    for _ in range(50):
        for cell, its in zip(cells, seconds, strict=True):
            rates.observe(cell, replicates, its)
    return missing_tasks(cells, {}), rates


# --- the simulated queue ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("workers", "seconds"),
    [(1, 20 + 15 + 12 + 10 + 4 * TRIAL_COST), (2, 32 + 2 * TRIAL_COST), (3, 32 + 2 * TRIAL_COST)],
)
def test_children_wait_for_their_parent(workers, seconds):
    """An encoder of 20 s, then its classifiers of 12 and 10 s; beside them one of 15 s."""
    axes = {"latent_dim": (2,), "depth": (2,)}
    arms = {**axes, "labels": (20,), "freeze": ("fixed", "full", "scratch")}
    fewshot = override(FEWSHOT, arms, {"replicates": 1})
    encoder = override(AUTOENCODER, {**axes, "batch_size": (64,)}, {"replicates": 1})
    groups = plan([encoder, fewshot], "")
    tasks = missing_tasks([cell for cells in groups for cell in cells], {})
    by_freeze = {None: 20.0, "fixed": 12.0, "full": 10.0, "scratch": 15.0}
    expected = {task: by_freeze[task.cell.config.get("freeze")] for task in tasks}
    assert makespan(expected, workers, Rates()) == pytest.approx(seconds)
    assert not any(task.losses or task.trial for task in tasks)  # they are as they were


def test_longest_block_bounds_the_forecast():
    tasks, rates = tasks_of_seconds([30.0, 30.0, 30.0])
    assert forecast(tasks, 1, rates).seconds == pytest.approx(90.3, rel=0.01)
    assert forecast(tasks, 2, rates).seconds == pytest.approx(60.2, rel=0.01)
    assert forecast(tasks, 8, rates).seconds == pytest.approx(30.1, rel=0.01)


def test_forecast_divides_a_long_last_block():
    tasks, rates = tasks_of_seconds([80.0], replicates=4)
    assert forecast(tasks, 1, rates).seconds == pytest.approx(80.1, rel=0.01)
    assert forecast(tasks, 2, rates).seconds == pytest.approx(40.1, rel=0.01)
    assert forecast(tasks, 2, rates, {tasks[0]: 0.0}).seconds == pytest.approx(80.1, rel=0.01)


def test_forecast_subtracts_elapsed_time():
    tasks, rates = tasks_of_seconds([30.0, 30.0])
    queue = Queue(tasks, rates=rates)
    (first,) = queue.take(2)
    assert forecast(tasks, 1, rates, {first: 20.0}).seconds == pytest.approx(40.2, rel=0.01)
    assert forecast(tasks, 2, rates, {first: 20.0}).seconds == pytest.approx(30.1, rel=0.01)
    assert forecast([first], 2, rates, {first: 99.0}).seconds < 3


def test_running_blocks_come_first():
    """While the one of 40 s runs, the other two follow one another beside it."""
    tasks, rates = tasks_of_seconds([30.0, 30.0, 40.0])
    assert forecast(tasks, 2, rates, {tasks[2]: 0.0}).seconds == pytest.approx(60.2, rel=0.05)


def test_running_part_of_a_cell_is_not_its_waiting_part():
    (cell,) = autoencoders([2], replicates=4)
    waits, runs = Task(cell, range(2)), Task(cell, range(2, 4))
    seconds = makespan({waits: 50.0, runs: 2.0}, 1, Rates(), [runs])
    assert seconds == pytest.approx(52, rel=0.01)


def test_forecast_samples_many_blocks(monkeypatch):
    tasks, rates = tasks_of_seconds([float(10 + number % 7) for number in range(300)])
    exact = forecast(tasks, 4, rates).seconds
    monkeypatch.setattr("study.forecast.MAX_SIMULATED_TASKS", 100)
    assert forecast(tasks, 4, rates).seconds == pytest.approx(exact, rel=0.05)


# --- seconds of a block ----------------------------------------------------------------------


def test_no_forecast_before_a_block_is_done():
    tasks = missing_tasks(autoencoders([2, 8]), {})
    assert forecast(tasks, 2, Rates()) is None
    assert forecast([], 2, Rates()) == Forecast(0, 0, 0)


def test_seconds_scale_with_work_from_the_nearest_rate():
    rates = Rates(images=3600)
    for cell in autoencoders([2, 4, 8, 16], epochs=2):
        rates.observe(cell, 2, 10.0 + (cell.config["latent_dim"] == 16))
    (longer,) = autoencoders([4], epochs=8)
    assert rates.seconds(longer, 2) == pytest.approx(40, rel=0.1)
    (between,) = autoencoders([10], epochs=2)
    assert rates.seconds(between, 2) == pytest.approx(10.5, rel=0.1)


def test_outlier_is_ignored():
    rates = Rates()
    for cell in autoencoders(range(2, 12)):
        rates.observe(cell, 2, 200.0 if cell.config["latent_dim"] == 2 else 4.0)
    (cell,) = autoencoders([30])
    assert rates.seconds(cell, 2) == pytest.approx(4.0, rel=0.4)


def test_slower_machine_slows_all_forecasts():
    earlier = Rates()
    cells = autoencoders(range(2, 22))
    for cell in cells:
        earlier.observe(cell, 2, 10.0, earlier=True)
    assert earlier.seconds(cells[-1], 2) == pytest.approx(10, rel=0.01)
    for cell in cells[::5]:
        earlier.observe(cell, 2, 20.0)
    assert earlier.seconds(cells[-1], 2) == pytest.approx(18, rel=0.2)


def test_range_widens_for_unknown_settings():
    rates = Rates()
    cells = autoencoders(range(2, 12))
    for cell in cells:
        rates.observe(cell, 2, 10.0)
    usual = rates.log_sd([(cells[2], 2, 10.0)])
    for other, factor in (({"width": 64}, 1.5), ({"objective": "variational"}, 2.0)):
        assert rates.log_sd([(*autoencoders([4], **other), 2, 10.0)]) > factor * usual


# --- recorded runs ---------------------------------------------------------------------------


def read_run(path):
    """A run: its blocks as tasks, with their starts and ends."""
    run, cells = json.loads(path.read_text()), {}
    for block in run["blocks"]:
        experiment = EXPERIMENTS[block["experiment"]]
        settings = experiment.settings_module().Config(**block["config"])
        cell = Cell(experiment, settings, cells.get(block["parent"]), 0, block["cell"])
        block["cell"] = cells.setdefault(block["cell"], cell)
        # As they were computed: undivided.
        block["task"] = Task(block["cell"], range(*block["replicates"]), resumable=True)
        block["end"] = block["start"] + block["seconds"]
    return run


def forecast_after(run, part, before=None):
    """The forecast after a part of a run's time, and the time that was left."""
    end = max(block["end"] for block in run["blocks"])
    now, rates = part * end, Rates(run["images"])
    for block in before["blocks"] if before else ():
        rates.observe(block["cell"], len(block["task"].replicates), block["seconds"], earlier=True)
    for block in sorted(run["blocks"], key=lambda block: block["end"]):
        if block["end"] <= now:
            rates.observe(block["cell"], len(block["task"].replicates), block["seconds"])
    left = [block for block in run["blocks"] if block["end"] > now]
    elapsed = {block["task"]: now - block["start"] for block in left if block["start"] <= now}
    for number, task in enumerate(elapsed):
        task.trial = number
    return forecast([b["task"] for b in left], run["workers"], rates, elapsed), end - now


def forecast_errors(paths, before=()):
    """Forecasts after a tenth, a quarter, a half and three quarters of each run: their number, the
    median of relative errors, and the share of ranges that hold the truth. Earlier runs are those
    `before`, one at a time."""
    found = []
    for path in paths:
        for earlier in [other for other in before if other != path] or [None]:
            for part in (0.1, 0.25, 0.5, 0.75):
                run = read_run(path)
                predicted, left = forecast_after(run, part, read_run(earlier) if earlier else None)
                if predicted:
                    found.append(
                        (abs(predicted.seconds / left - 1), predicted.low <= left <= predicted.high)
                    )
    relative, inside = zip(*found, strict=True)
    return len(found), median(relative), sum(inside) / len(found)


def test_time_left_is_right_to_a_quarter():
    """Medians seen: 13 % within a run (n = 18), 9 % after another one (n = 80); of runs by the
    clock 11 % (n = 4) and 4 % (n = 16)."""
    for runs, before, least in (
        (STEADY, (), 18),
        (STEADY, STEADY, 80),
        (QUIET, (), 4),
        (QUIET, STEADY, 16),
    ):
        number, error, inside = forecast_errors(runs, before)
        assert number >= least and error < 0.25 and inside >= 0.7


def test_time_left_errs_more_when_the_machine_slows():
    """No forecast knows of the load. Medians seen: 36 % within a run (n = 14), 38 % after another
    one (n = 48); the ranges hold 86 and 73 %. The target of a quarter is missed here."""
    number, error, inside = forecast_errors(BUSY)
    assert number >= 14 and error < 0.4 and inside >= 0.7


def test_simulated_queue_is_right_to_ten_percent():
    """With the true seconds of blocks, the simulated workers end when the real ones did."""
    for path in RECORDED:
        run = read_run(path)
        end = max(block["end"] for block in run["blocks"])
        exact = {block["task"]: block["seconds"] for block in run["blocks"]}
        assert makespan(exact, run["workers"], Rates()) == pytest.approx(end, rel=0.1), path


# --- output of `study plan` ------------------------------------------------------------------


@pytest.fixture
def plan_output(tmp_path, capsys):
    """What `study plan autoencoder` says, in one line."""

    def command(*options, preset="smoke"):
        out = ["--out", str(tmp_path / "results")]
        code = main(["plan", "autoencoder", "--preset", preset, *out, *map(str, options)])
        assert code == 0
        return " ".join(capsys.readouterr().out.split())

    return command


def write_blocks(folder, cells, seconds):
    store = Store(folder)
    store.create()
    for cell in cells:
        rows = [{"replicate": r} for r in range(2)]
        facts = {"seconds": seconds, "started": 1.0}
        store.write_block(Block(cell.id, range(2)), cell.config, None, Outcome(rows), facts)


def cells_of(digits, dims):
    axes = {"latent_dim": dims, "depth": (2,), "batch_size": (64,)}
    fixed = {"epochs": 1, "width": 4, "replicates": 2, "contrastive_updates": 7}
    return plan([override(AUTOENCODER, axes, fixed)], digits.fingerprint)[0]


def test_finished_blocks_give_time_and_cost(plan_output, tmp_path, digits):
    """Of 16 blocks of 100 s four are done; the other twelve take two workers 600 s."""
    dims = tuple(range(2, 18))
    write_blocks(tmp_path / "results", cells_of(digits, dims[:4]), 100.0)
    output = plan_output("--latent-dims", *dims, "--cpus", 2, "--price-per-hour", 36)
    assert (
        "about 10 min (" in output and "on 2 cores, then the report; from finished blocks" in output
    )
    assert "cost: about 6" in output and "at 36 an hour of this machine" in output
    twice = plan_output("--latent-dims", *dims, "--cpus", 4)
    assert "about 5 min (" in twice and "cost" not in twice


@pytest.mark.parametrize(
    ("number", "options", "words"),
    [
        (1, (), "about 20 min (|on 2 cores and 1 GPU, "),
        (2, (), "about 10 min (|on 2 cores and 2 GPUs, "),
        (1, ("--gpus-per-trial", 0.5), "about 10 min (|on 2 cores and 1 GPU, "),
        (1, ("--gpus-per-trial", 0), "about 10 min (|on 2 cores, "),
    ],
)
def test_blocks_wait_for_a_gpu(number, options, words, plan_output, tmp_path, digits, monkeypatch):
    """Twelve missing blocks of 100 s."""
    monkeypatch.setattr("study.estimate.gpus", lambda: number)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    dims = tuple(range(2, 18))
    write_blocks(tmp_path / "results", cells_of(digits, dims[:4]), 100.0)
    output = plan_output("--latent-dims", *dims, "--cpus", 2, *options)
    assert all(part in output for part in words.split("|"))


def test_all_done_is_nothing_to_compute(plan_output, tmp_path, digits):
    write_blocks(tmp_path / "results", cells_of(digits, (2, 8)), 100.0)
    output = plan_output("--price-per-hour", 1)
    assert "nothing to compute" in output and "about" not in output and "cost" not in output


@pytest.mark.slow
def test_plan_measures_steps_if_nothing_is_done(plan_output, monkeypatch, tmp_path):
    monkeypatch.setattr("study.estimate.measure_unknown", MEASURED)
    output = plan_output()
    measured = [f"from a few steps of {cells} on this machine" for cells in ("1 cell", "2 cells")]
    assert any(words in output for words in measured)
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(("number", "asked"), [(1, (1, (20, 220))), (0, (2, (4, 12)))])
def test_steps_on_a_gpu_are_timed_by_one_process(number, asked, monkeypatch, digits):
    """A plan for a cluster with GPUs may be made on a machine without one."""
    seen = []

    class Processes:
        def __init__(self, workers, context, initializer):
            seen.append(workers)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def submit(self, *arguments):
            raise BrokenProcessPool

        def shutdown(self, **options):
            pass

    monkeypatch.setattr(timing, "gpus", lambda: number)
    monkeypatch.setattr(timing, "ProcessPoolExecutor", Processes)
    monkeypatch.setattr(timing, "sample", lambda task, data, lengths: (seen.append(lengths), 1.0))
    tasks = [Task(cell, range(2), gpus=1.0) for cell in cells_of(digits, (2, 8))]
    assert timing.measure(Rates(), tasks, digits, workers=2, threads=1) == 0
    assert tuple(seen) == asked


def test_largest_plans_are_measured_only_when_asked(plan_output, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "study.estimate.measure_unknown", lambda *others: asked.append(others) or ""
    )
    dims = range(1, 2 + MAX_MEASURED_CELLS // 200)
    options = ("--latent-dims", *dims, "--batch-sizes", *range(1, 201))
    assert "--price-per-hour measures some" in plan_output(*options)
    assert not asked
    plan_output(*options, "--price-per-hour", 1)
    assert asked


def test_cost_scales_with_price_and_nodes():
    hour = Forecast(3600, 1800, 7200)
    one, four = Machine(2, 1, ""), Machine(8, 4, "")
    assert cost(hour, 1.2, one) == "cost: about 1.2 (0.6 to 2.4) at 1.2 an hour of this machine"
    assert cost(hour, 2.4, one).startswith("cost: about 2.4 (1.2 to 4.8)")
    assert cost(hour, 1.2, four) == "cost: about 4.8 (2.4 to 9.6) at 1.2 an hour of each of 4 nodes"


def test_cluster_size_is_that_of_its_configuration(request, tmp_path):
    machine = machine_of(Resources(cpus_per_trial=2), request.config.rootpath / "cluster.yaml")
    assert (machine.workers, machine.nodes, machine.gpus) == (4 * 24, 4, 16)
    assert machine.description == "4 worker nodes of 192 cores and 16 GPUs in total"
    assert (
        machine_of(Resources(gpus_per_trial=0), request.config.rootpath / "cluster.yaml").gpus == 0
    )
    assert machine_of(Resources("head:6379"), None) is None
    with pytest.raises(BadInput, match=r"--cluster .*: can't be read \(No such file"):
        machine_of(Resources(), tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("a: 1", "lacks max_workers, which `ray up` needs"),
        ("", "is not a configuration for `ray up`"),
        ("- a", "is not a configuration for `ray up`"),
        ("max_workers: 1\navailable_node_types: {w: 3}", "is not a configuration for `ray up`"),
    ],
)
def test_other_files_describe_no_cluster(content, problem, tmp_path):
    (tmp_path / "no.yaml").write_text(content)
    with pytest.raises(BadInput) as caught:
        machine_of(Resources(), tmp_path / "no.yaml")
    assert caught.value.arguments == ("--cluster", tmp_path / "no.yaml", problem)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        ((360, 240, 540), "about 6 min (4 to 9)"),
        ((60, 40, 90), "about 1 min (40 s to 2 min)"),
        ((20_000, 10_000, 40_000), "about 5.6 h (2.8 to 11)"),
        ((12.2, 12.1, 12.3), "about 12 s"),
    ],
)
def test_forecast_in_words(seconds, words):
    assert str(Forecast(*seconds)) == words
    assert Forecast(*seconds).plus(-math.inf).seconds == 0
    assert Forecast(*seconds).plus(START_SECONDS).low == seconds[1] + START_SECONDS
