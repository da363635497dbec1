"""The command line is a contract: what it takes and what it changes. What it refuses is in
`test_bad_input.py`."""

import re
from types import SimpleNamespace

import numpy as np
import pytest

import study.commands as command_line
from study.__main__ import main
from study.command_line.options import fit_axes, select
from study.command_line.parser import parser
from study.errors import BadInput
from study.experiments import EXPERIMENTS, STUDIES
from study.grid import plan
from study.presets import NAMED
from study.store import Block, Store
from trainables.contract import Outcome
from trainables.data import Dataset, Split
from trainables.fewshot.settings import FREEZE, PRETRAINING
from trainables.shape import NETWORKS

OPTIONS = [
    "--preset", "--dataset", "--data-dir", "--out", "--latent-dims", "--depths", "--labels",
    "--freeze", "--pretraining", "--losses", "--replicates", "--encoders", "--batch-sizes",
    "--epochs", "--learning-rate", "--seed",
    "--address", "--cpus-per-trial", "--gpus-per-trial", "--log",
]  # fmt: skip
"""Options of `plan` and `run`."""

PLACES = ["--dataset", "--data-dir", "--out", "--address", "--cpus-per-trial", "--gpus-per-trial"]
"""Options of `check`."""


pytestmark = pytest.mark.usefixtures("isolated")


def exit_code(*arguments):
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as stop:
        return stop.code


# --- help ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "mentioned"),
    [
        ("plan", OPTIONS),
        ("run", OPTIONS),
        ("check", PLACES),
        ("report", ["RESULTS"]),
        ("export", ["RESULTS", "--best", "--data-dir", "torch.export", "README.md"]),
        ("compare", ["RESULTS", "--out"]),
    ],
)
def test_help_mentions_every_option(command, mentioned, capsys):
    assert exit_code(command, "--help") == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    for option in mentioned:
        assert option in captured.out
    if "--preset" in mentioned:
        for name in [*NAMED, *STUDIES, *EXPERIMENTS]:
            assert name in captured.out


def test_help_mentions_every_command_and_exit_code(capsys):
    assert exit_code("--help") == 0
    shown = capsys.readouterr().out
    for word in (
        "plan",
        "run",
        "report",
        "export",
        "compare",
        "check",
        "0 every replicate is done",
        "1 something",
        "2 bad",
    ):
        assert word in " ".join(shown.split())


@pytest.mark.parametrize("value", [*FREEZE, *PRETRAINING, *NETWORKS])
def test_help_names_every_arm_pretraining_and_network(value, capsys):
    assert exit_code("run", "--help") == 0
    assert re.search(rf"\b{value}\b", words(capsys))


# --- output of `study plan` ------------------------------------------------------------------


def words(capsys):
    """What was printed, without its line breaks."""
    return " ".join(capsys.readouterr().out.split())


def test_plan_of_the_assignment_counts_its_cells(tmp_path, capsys):
    out = tmp_path / "results"
    assert exit_code("plan", "assignment", "--replicates", 3, "--out", out) == 0
    shown = words(capsys)
    assert "autoencoder: 14 cells, 0 done, 14 missing; 42 replicates, 42 missing" in shown
    assert "fewshot: 210 cells, 0 done, 210 missing; 630 replicates, 630 missing" in shown
    assert "supervised: 10 cells, 0 done, 10 missing; 30 replicates, 30 missing" in shown
    # Checks share cells with the grids, which count once: one of 3 widths; of steps and rates, the
    # four at 100 steps and at the rates that all have.
    checks = 6 * 3 + 6 * 3 + 2 * 3 + 3 * 3 + 12 * 2 + 8 * 2
    wanted = 42 + 630 + 30 + checks
    assert f"{wanted} replicates to compute, each trial on 1 CPU and a share of a GPU" in shown
    assert "mnist-5k" in shown
    assert str(out) in shown
    assert not out.exists()


def test_plan_follows_the_options(tmp_path, capsys):
    chosen = ["--latent-dims", 2, 14, "--labels", 20, 40, 80, "--freeze", "fixed", "scratch"]
    command = ["plan", "fewshot", "--preset", "smoke", "--out", tmp_path, *chosen]
    assert exit_code(*command, "--cpus-per-trial", 0.5) == 0
    shown = words(capsys)
    assert "autoencoder: 2 cells" in shown
    assert "fewshot: 12 cells" in shown
    assert "28 replicates to compute, each trial on 0.5 CPU" in shown


def test_plan_counts_done_and_failed_cells(tmp_path, capsys, digits):
    command = ["fewshot", "--preset", "smoke", "--out", str(tmp_path)]
    selection = select(parser().parse_args(["plan", *command]))
    autoencoders, few_shot = plan(selection.experiments, digits.fingerprint)
    store = Store(tmp_path)
    store.create()
    block = Block(autoencoders[0].id, range(1))
    store.write_block(block, autoencoders[0].config, None, Outcome([{"replicate": 0}]), {})
    store.write_failure(few_shot[3].id, few_shot[3].config, "out of memory")
    assert exit_code("plan", *command) == 0
    shown = words(capsys)
    assert "autoencoder: 2 cells, 0 done, 2 missing; 4 replicates, 3 missing" in shown
    failed = "48 missing; 1 cell failed last time"
    assert f"fewshot: 24 cells, 0 done, 24 missing; 48 replicates, {failed}" in shown
    assert "51 replicates to compute" in shown


# --- effects of options ----------------------------------------------------------------------


def selected(*arguments, data=None):
    chosen = select(parser().parse_args(["plan", *map(str, arguments)]), data)
    return {experiment.name: experiment for experiment in chosen.experiments}


def test_axes_are_replaced_in_all_experiments_with_them():
    chosen = selected("fewshot", "--latent-dims", 3, 4, "--depths", 1, "--labels", 30)
    for experiment in chosen.values():
        assert experiment.axes["latent_dim"] == (3, 4)
        assert experiment.axes["depth"] == (1,)
    assert chosen["fewshot"].axes["labels"] == (30,)
    assert "labels" not in chosen["autoencoder"].axes


def test_classifiers_take_the_first_of_several_widths():
    """Arms are paired by d, depth and batch size alone."""
    chosen = selected("assignment", "--widths", 4, 8, "--networks", "mlp", "convolutional")
    assert chosen["autoencoder"].axes["width"] == (4, 8)
    assert chosen["autoencoder"].axes["network"] == ("mlp", "convolutional")
    for name in ("fewshot", "steps", "rates", "betas"):
        assert (chosen[name].axes["width"], chosen[name].axes["network"]) == ((4,), ("mlp",))
    assert chosen["supervised"].axes["width"] == (4,)
    for name in ("fewshot", "few-labels"):
        with pytest.raises(BadInput, match=f"must be one value: {name} compares its arms at one"):
            selected(name, "--widths", 4, 8)
        assert selected(name, "--widths", 8)["fewshot"].axes["width"] == (8,)


def test_seed_and_replicates_apply_to_all_experiments():
    for experiment in selected("assignment", "--seed", 7, "--replicates", 5).values():
        assert experiment.fixed["seed"] == 7
        fewer = {"longer": 3, "steps": 2, "rates": 2}  # checks that cost several times as much
        assert experiment.replicates == fewer.get(experiment.name, 5)


def test_encoders_are_a_setting_of_few_shot_alone():
    chosen = selected("assignment", "--encoders", 2)
    assert chosen["fewshot"].fixed["encoders"] == 2
    assert "encoders" not in chosen["autoencoder"].fixed


@pytest.mark.parametrize(
    ("name", "changed"),
    [("assignment", "autoencoder"), ("autoencoder", "autoencoder"), ("fewshot", "fewshot")],
)
def test_training_options_apply_to_the_named_experiment(name, changed):
    options = ["--epochs", 3, "--learning-rate", 0.5, "--batch-sizes", 10, 20]
    for experiment in selected(name, *options).values():
        if experiment.check_of:
            continue
        mine = experiment.name == changed
        assert (experiment.fixed.get("epochs") == 3) == mine
        assert (experiment.fixed.get("learning_rate") == 0.5) == mine
        assert (experiment.axes.get("batch_size") == (10, 20)) == mine


def test_one_experiment_brings_only_needed_cells(tmp_path, capsys):
    assert main(["plan", "fewshot", "--latent-dims", "3", "--out", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "autoencoder: 1 cell, 0 done, 1 missing; 8 replicates, 8 missing" in shown
    assert "latent_dim 3, depth 3, batch_size 32" in shown
    assert "fewshot: 30 cells, 0 done, 30 missing; 240 replicates, 240 missing" in shown
    assert "248 replicates to compute, each trial on 1 CPU and a share of a GPU" in shown


def test_options_override_a_presets_axes_and_settings():
    smoke = selected("assignment", "--preset", "smoke")
    assert smoke["autoencoder"].axes["latent_dim"] == (2, 8)
    assert smoke["autoencoder"].replicates == 2
    changed = selected(
        "assignment", "--preset", "smoke", "--latent-dims", 3, "--replicates", 7, "--epochs", 9
    )
    assert changed["autoencoder"].axes["latent_dim"] == (3,)
    assert changed["autoencoder"].fixed == smoke["autoencoder"].fixed | {"epochs": 9}
    assert changed["autoencoder"].replicates == 7


def test_large_datasets_take_the_presets_settings_for_them(large_data):
    large = NAMED["quick"].large["autoencoder"]
    assert large
    chosen = selected("assignment", data=large_data)["autoencoder"]
    assert {**chosen.fixed, "replicates": chosen.replicates}.items() >= large.items()
    asked = selected("assignment", "--epochs", 77, data=large_data)["autoencoder"]
    assert asked.fixed["epochs"] == 77


def test_default_is_the_quick_preset_on_embedded_data(monkeypatch):
    monkeypatch.setattr(command_line, "load", lambda name, *others: SimpleNamespace(name=name))
    arguments = parser().parse_args(["run", "assignment"])
    assert arguments.preset == "quick"
    assert command_line.load_data(arguments).name == "mnist-5k"
    assert str(arguments.out) == "results"
    assert arguments.address == "local"
    full = parser().parse_args(["run", "assignment", "--preset", "full"])
    assert command_line.load_data(full).name == "mnist"


def test_defaults_fit_the_data():
    """As many labels of each class as of MNIST's ten, or the most there are; half of the images."""
    labels = np.repeat(np.arange(3, dtype=np.uint8), 20)
    split = Split(np.zeros((60, 4, 4), np.uint8), labels)
    data = Dataset("three", split, split, split, ("a", "b", "c"))
    axes = {"labels": (10, 20, 40, 80, 160, 320), "batch_size": (32, 64), "depth": (2,)}
    assert fit_axes(axes, data) == {"labels": (3, 6, 12, 24, 48, 60), "batch_size": (30,)}
    chosen = selected("fewshot", "--labels-per-class", 5, data=data)
    assert chosen["fewshot"].axes["labels"] == (15,)


def test_numbers_of_labels_in_a_preset_file_stay(tmp_path):
    """As a search on data of three classes writes them."""
    path = tmp_path / "best.toml"
    path.write_text('dataset = "digits"\n[axes.fewshot]\nlabels = [12]\n')
    split = Split(np.zeros((60, 4, 4), np.uint8), np.repeat(np.arange(3, dtype=np.uint8), 20))
    data = Dataset("three", split, split, split, ("a", "b", "c"))
    assert selected("fewshot", "--preset", path, data=data)["fewshot"].axes["labels"] == (12,)
