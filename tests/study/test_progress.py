"""Progress messages of a running study."""

import io

import pytest
from rich.console import Console

from study.experiments import AUTOENCODER, FEWSHOT
from study.faults import Fault
from study.grid import override, plan
from study.progress import StudyProgress
from study.queue import Queue, missing_tasks
from study.words import brief, describe, duration, mean_and_sd, plain, reason


def make_progress(experiment=AUTOENCODER, dims=(2, 8, 14), finished=None, workers=1, **options):
    """A progress, its queue, and the screen that it prints on."""
    axes = {"latent_dim": dims, "depth": (2,)}
    axes |= {"batch_size": (32,)} if experiment is AUTOENCODER else {"freeze": ("scratch",)}
    chosen = override(experiment, axes, {"replicates": 2})
    needed = [AUTOENCODER] if experiment.needs else []
    cells = plan([*needed, override(chosen, {"labels": (20,)}, {})], "", [experiment.name])
    queue = Queue(missing_tasks(cells[-1], finished or {}))
    screen = io.StringIO()
    progress = StudyProgress(Console(file=screen, width=400, **options), queue, workers)
    return progress, queue, screen


def start(progress, queue):
    (task,) = queue.take(1)
    progress.started(task)
    return task


def finish(progress, queue, task, value, seconds=10.0):
    queue.finish(task, seconds)
    progress.done(task, value)


def test_piped_output_has_one_line_per_event():
    progress, queue, screen = make_progress()
    one, two = start(progress, queue), start(progress, queue)
    assert screen.getvalue() == ""
    finish(progress, queue, one, 0.05)
    finish(progress, queue, two, 0.03)
    assert screen.getvalue().splitlines() == [
        (
            "autoencoder: done    latent_dim=2  val_mse 0.05  "
            "[1 done, 0 failed, 1 running of 3; best autoencoder 0.05 "
            "(latent_dim=2); about 20 s left]"
        ),
        (
            "autoencoder: done    latent_dim=8  val_mse 0.03  "
            "[2 done, 0 failed, 0 running of 3; best autoencoder 0.03 "
            "(latent_dim=8); about 10 s left]"
        ),
    ]


def test_long_block_reports_epoch_and_state_at_intervals():
    progress, queue, screen = make_progress()
    now, states = [0.0], []
    progress.clock, progress.tell = lambda: now[0], states.append
    task = start(progress, queue)
    for second in range(1, 131):
        now[0] = float(second)
        progress.reported(task, {"epoch": 1 + second // 50})
    state = "[0 done, 0 failed, 1 running of 3]"
    assert screen.getvalue().splitlines() == [
        f"autoencoder: epoch 2  latent_dim=2  {state}",
        f"autoencoder: epoch 3  latent_dim=2  {state}",
    ]
    assert len(states) == 26


def test_growing_cluster_counts_all_running_trials():
    progress, queue, _ = make_progress()
    for _ in range(2):
        start(progress, queue)
    progress.resized(1)
    assert "1 running of 3" in progress.state()
    progress.resized(2)
    assert "2 running of 3" in progress.state()


def test_part_of_a_cells_replicates_is_named():
    ((cell,),) = plan([override(AUTOENCODER, {"latent_dim": (2,), "depth": (2,),
                                              "batch_size": (32,)}, {})], "")  # fmt: skip
    progress, queue, screen = make_progress(dims=(2,), finished={cell.id: [range(1)]})
    finish(progress, queue, start(progress, queue), 0.05)
    assert "latent_dim=2, replicate 1  val_mse" in screen.getvalue()


def test_failure_is_counted_and_is_never_the_best():
    progress, queue, screen = make_progress()
    bad, good = start(progress, queue), start(progress, queue)
    queue.drop(bad)
    progress.failed(bad, "Traceback …")
    assert progress.state() == "0 done, 1 failed, 1 running of 3"
    finish(progress, queue, good, 0.03)
    lines = screen.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("autoencoder: FAILED  latent_dim=2 ")
    state = "1 done, 1 failed, 0 running of 3; best autoencoder 0.03 "
    assert progress.state().startswith(state)


@pytest.mark.parametrize(("experiment", "best"), [(AUTOENCODER, 0.1), (FEWSHOT, 0.9)])
def test_best_is_the_least_error_or_highest_accuracy(experiment, best):
    progress, queue, _ = make_progress(experiment)
    for value in (0.5, best, 0.7):
        finish(progress, queue, start(progress, queue), value)
    assert f"best {experiment.name} {best} (" in progress.state()


def test_no_time_is_left_when_all_have_ended():
    progress, queue, _ = make_progress(dims=(2,))
    task = start(progress, queue)
    assert "left" not in progress.state()  # nothing has ended, so nothing is known
    finish(progress, queue, task, 0.05)
    assert "left" not in progress.state()


def test_less_than_a_second_left_is_not_shown():
    progress, queue, _ = make_progress()
    finish(progress, queue, start(progress, queue), 0.05, seconds=0.2)
    assert "left" not in progress.state()


@pytest.mark.parametrize("workers", [1, 2])
def test_no_more_blocks_run_than_there_are_workers(workers):
    """Tune is given one more, which takes the place of the next that ends."""
    progress, queue, _ = make_progress(workers=workers)
    taken = [start(progress, queue) for _ in range(workers + 1)]
    assert f"{workers} running of 3" in progress.state()
    finish(progress, queue, taken[0], 0.05)
    assert f"{workers} running of 3" in progress.state()


def test_best_is_that_of_the_latest_experiment():
    progress, queue, screen = make_progress()
    progress.best["fewshot"] = (0.9, "labels=20")
    finish(progress, queue, start(progress, queue), 0.05)
    assert "best autoencoder 0.05" in screen.getvalue()
    assert "fewshot" not in screen.getvalue()


def test_retried_block_counts_as_running_once():
    progress, queue, _ = make_progress(dims=(2,))
    task = start(progress, queue)
    assert queue.retry(task, Fault.LOST, "a")
    assert "0 running of 1" in progress.state()
    assert start(progress, queue) is task
    assert "1 running of 1" in progress.state()


def test_block_found_finished_has_no_value():
    progress, queue, screen = make_progress()
    finish(progress, queue, start(progress, queue), None)
    assert "1 done" in screen.getvalue()
    assert "best" not in screen.getvalue()


def test_terminal_has_a_bar_and_no_event_lines():
    progress, queue, screen = make_progress(force_terminal=True, color_system=None)
    one, bad = start(progress, queue), start(progress, queue)
    finish(progress, queue, one, 0.05)
    queue.drop(bad)
    progress.failed(bad, "no")
    progress.close()
    shown = screen.getvalue()
    assert "2/3" in shown
    assert "1 done, 1 failed, 0 running of 3; best autoencoder 0.05" in shown
    assert "FAILED" not in shown


# --- words -----------------------------------------------------------------------------------


def test_cell_is_described_by_what_varies():
    axes = {"latent_dim": (2, 8), "depth": (3,), "freeze": ("fixed", "full")}
    config = {"latent_dim": 8, "depth": 3, "freeze": "full", "width": 16}
    assert describe(config, axes) == "latent_dim=8 freeze=full"


def test_only_cell_is_described_by_its_first_axis():
    assert describe({"latent_dim": 8, "depth": 3}, {"latent_dim": (8,), "depth": (3,)}) == (
        "latent_dim=8"
    )


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3599, "59 min 59 s"),
        (3600, "1 h 00 min"),
        (7620, "2 h 07 min"),
        (90_000, "25 h 00 min"),
    ],
)
def test_durations_are_in_the_largest_two_units(seconds, words):
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("", "unknown"),
        ("\n \n", "unknown"),
        ("out of memory", "out of memory"),
        ("Traceback …\n  File …\nValueError: no\n", "ValueError: no"),
        ("trainables.contract.Diverged: loss: nan", "Diverged: loss: nan"),
        ("\x1b[36mray::run()\x1b[39m\n\x1b[1mKeyError: 'x.y'\x1b[0m", "KeyError: 'x.y'"),
        ("not tried: the cell 0.1 that it builds on", "not tried: the cell 0.1 that it builds on"),
    ],
)
def test_reason_is_the_last_line_of_the_traceback(error, words):
    assert reason(error) == words


def test_plain_text_has_no_colours():
    assert plain("\x1b[36mTraceback\x1b[39m [1m") == "Traceback [1m"


def test_one_value_has_a_mean_and_no_spread():
    assert mean_and_sd([0.21, 0.23]) == "0.22000 ± 0.01414 SD"
    assert mean_and_sd([0.21]) == "0.21000 (one model, so no SD)"


def test_long_lists_of_values_are_brief():
    assert brief([2, 1 / 3, 1.0, "fixed"]) == "2 0.3333 1 fixed"
    assert brief(range(1, 13)) == "1 2 3 4 5 6 7 8 9 10 11 12"
    assert brief(range(1, 251)) == "1 2 3 … 250 (250 values)"
