"""What the user sees while a study runs, and the words for it."""

import io
import pickle
from types import SimpleNamespace

import pytest
from rich.console import Console

from study import progress
from study.experiments import AUTOENCODER, FEWSHOT
from study.progress import ProgressCallback
from study.words import describe, duration, plain, reason


class Clock:
    now = 0.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def trial(latent_dim, **results):
    config = {"latent_dim": latent_dim, "depth": 2, "batch_size": 32, "cell": "0" * 16}
    return SimpleNamespace(trial_id=str(latent_dim), config=config, last_result=results)


def start(callback, *trials):
    for one in trials:
        callback.on_trial_start(0, [], one)


def follow(total=3, experiment=AUTOENCODER, **options):
    screen = io.StringIO()
    console = Console(file=screen, width=400, **options)
    return ProgressCallback(console, experiment, total), screen


def test_off_a_terminal_every_event_is_one_line(clock):
    callback, screen = follow()
    one, two = trial(2, val_mse=0.05), trial(8, val_mse=0.03)
    start(callback, one, two)
    assert screen.getvalue() == ""
    clock.now = 10
    callback.on_trial_complete(0, [], one)
    clock.now = 20
    callback.on_trial_complete(0, [], two)
    assert screen.getvalue().splitlines() == [
        (
            "autoencoder: done    latent_dim=2 depth=2 batch_size=32  val_mse 0.05  "
            "[1 done, 0 failed, 1 running of 3; best val_mse 0.05 "
            "(latent_dim=2 depth=2 batch_size=32); about 20 s left]"
        ),
        (
            "autoencoder: done    latent_dim=8 depth=2 batch_size=32  val_mse 0.03  "
            "[2 done, 0 failed, 0 running of 3; best val_mse 0.03 "
            "(latent_dim=8 depth=2 batch_size=32); about 10 s left]"
        ),
    ]


def test_a_failure_is_counted_and_is_never_the_best(clock):
    callback, screen = follow()
    bad, good = trial(2), trial(8, val_mse=0.03)
    start(callback, bad, good)
    callback.on_trial_error(0, [], bad)
    assert callback.state() == "0 done, 1 failed, 1 running of 3; about 0 s left"
    callback.on_trial_complete(0, [], good)
    lines = screen.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("autoencoder: FAILED  latent_dim=2 ")
    assert callback.state().startswith("1 done, 1 failed, 0 running of 3; best val_mse 0.03 ")


@pytest.mark.parametrize(
    ("experiment", "metric", "best"),
    [(AUTOENCODER, "val_mse", 0.1), (FEWSHOT, "val_accuracy", 0.9)],
)
def test_the_best_is_the_least_error_or_the_greatest_accuracy(experiment, metric, best, clock):
    callback, _ = follow(total=3, experiment=experiment)
    for value in (0.5, best, 0.7):
        one = trial(2, **{metric: value})
        one.config |= {"labels": 20, "freeze": "fixed"}
        start(callback, one)
        callback.on_trial_complete(0, [], one)
    assert f"best {metric} {best} (" in callback.state()


def test_no_time_is_left_when_all_have_ended(clock):
    callback, _ = follow(total=1)
    start(callback, trial(2))
    assert "left" not in callback.state()  # nothing has ended, so nothing is known
    callback.on_trial_complete(0, [], trial(2, val_mse=0.05))
    assert "left" not in callback.state()


def test_a_trial_without_a_result_is_no_error(clock):
    callback, screen = follow()
    one = trial(2)
    one.last_result = None
    start(callback, one)
    callback.on_trial_complete(0, [], one)
    assert "1 done" in screen.getvalue()
    assert "best" not in screen.getvalue()


def test_on_a_terminal_there_is_a_bar_and_no_line_an_event():
    callback, screen = follow(force_terminal=True, color_system=None)
    one, bad = trial(2, val_mse=0.05), trial(8)
    start(callback, one, bad)
    callback.on_trial_complete(0, [], one)
    callback.on_trial_error(0, [], bad)
    callback.close()
    shown = screen.getvalue()
    assert "2/3" in shown
    assert "1 done, 1 failed, 0 running of 3; best val_mse 0.05" in shown
    assert "FAILED" not in shown


def test_the_callback_can_be_saved_by_tune():
    callback, _ = follow(force_terminal=True)
    assert vars(pickle.loads(pickle.dumps(callback))) == {}  # no terminal is in it
    callback.close()


# --- words -----------------------------------------------------------------------------------


def test_a_cell_is_described_by_what_varies():
    axes = {"latent_dim": (2, 8), "depth": (3,), "freeze": ("fixed", "full")}
    config = {"latent_dim": 8, "depth": 3, "freeze": "full", "width": 16}
    assert describe(config, axes) == "latent_dim=8 freeze=full"


def test_a_cell_of_a_grid_of_one_is_described_by_its_first_axis():
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
def test_the_reason_of_a_failure_is_the_last_line_of_its_traceback(error, words):
    assert reason(error) == words


def test_plain_text_has_no_colours():
    assert plain("\x1b[36mTraceback\x1b[39m [1m") == "Traceback [1m"


def test_a_trial_that_fails_before_it_has_started_was_never_running(clock):
    callback, screen = follow()
    start(callback, trial(2))
    callback.on_trial_error(0, [], trial(8))
    assert "[0 done, 1 failed, 1 running of 3; about 0 s left]" in screen.getvalue()
