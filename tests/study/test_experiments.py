"""The registry and the presets: every one of them can be run."""

import dataclasses

import pytest

from study.command_line.options import select
from study.command_line.parser import parser
from study.experiments import (
    AUTOENCODER,
    EXPERIMENTS,
    STUDIES,
    larger_batches,
    members,
    trained_longer,
)
from study.grid import override, plan
from study.presets import NAMED
from tests.trainables.helpers import weights_by_replicate
from trainables.contract import Outcome, Report
from trainables.fewshot.settings import FREEZE, PRETRAINING
from trainables.own import trainable_part


def experiments_of(study, preset):
    """The experiments of a study under a preset."""
    return select(parser().parse_args(["plan", study, "--preset", preset])).experiments


def settings_of(experiment):
    return {setting.name for setting in dataclasses.fields(experiment.settings_module().Config)}


def test_assignment_has_the_grid_asked_for():
    autoencoder, fewshot, supervised, *checks = members("assignment")
    assert autoencoder.name == "autoencoder"
    assert autoencoder.axes["latent_dim"] == (2, 6, 8, 10, 12, 14, 30)
    assert autoencoder.axes["depth"] == (2, 3)
    assert fewshot.name == "fewshot"
    assert fewshot.axes["latent_dim"] == (2, 6, 8, 10, 12, 14, 30)
    assert fewshot.axes["labels"] == (10, 20, 40, 80, 160)
    assert set(fewshot.axes["freeze"]) >= {"fixed", "full", "scratch"}
    assert supervised.axes == {"labels": fewshot.axes["labels"], "augment": (0.0, 1.0)}
    assert [check.name for check in checks] == [
        "longer", "batches", "widths", "betas", "steps", "rates",
    ]  # fmt: skip


@pytest.mark.parametrize("preset", ["quick", "full"])
def test_arms_are_compared_at_equal_steps(preset):
    experiments = {e.name: e for e in experiments_of("assignment", preset)}
    few_shot, supervised = experiments["fewshot"], experiments["supervised"]
    assert few_shot.fixed["epochs"] == supervised.fixed["epochs"]
    assert few_shot.replicates == supervised.replicates
    # As many encoders as classifiers, so that replicates are independent.
    _, classifiers = plan([experiments["autoencoder"], few_shot], "0" * 16)
    for cell in classifiers:
        if cell.parent:
            assert cell.parent.replicates == cell.replicates
            assert cell.settings.parent_replicate(5) == 5


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [([32, 48], (64, 3, 6)), ([32, 64], (64, 3, 6)), ([32, 100], (96, 3, 9)), ([48], (96, 3, 6))],
)
def test_larger_batches_are_at_least_twice_the_smallest(sizes, expected):
    base = EXPERIMENTS["autoencoder"]
    axes = {**base.axes, "batch_size": tuple(sizes)}
    checked = larger_batches(
        dataclasses.replace(base, axes=axes, fixed={**base.fixed, "epochs": 3})
    ).axes
    assert (*checked["batch_size"], *checked["epochs"]) == expected


def test_checks_inherit_settings_of_their_base():
    """They include the preset's and the command line's settings of the base."""
    asked = ["plan", "assignment", "--epochs", "3", "--latent-dims", "2", "5", "14",
             "--batch-sizes", "10", "40", "--replicates", "8"]  # fmt: skip
    chosen = select(parser().parse_args(asked))
    names = [experiment.name for experiment in chosen.experiments]
    grids = dict(zip(names, plan(chosen.experiments, "0" * 16), strict=True))
    found = {
        name: [
            tuple(cell.config[k] for k in ("latent_dim", "depth", "batch_size", "epochs", "width"))
            for cell in grids[name]
        ]
        for name in ("longer", "batches", "widths")
    }
    assert found["longer"] == [(d, depth, 10, 12, 16) for d in (2, 14) for depth in (2, 3)]
    assert found["batches"] == [(d, 3, 40, epochs, 16) for d in (2, 14) for epochs in (3, 12)]
    assert found["widths"] == [(14, 3, 10, 3, width) for width in (8, 16, 32)]
    assert {cell.replicates for cell in grids["longer"]} == {4}
    variational = [
        (c.config["objective"], c.config["beta"], c.config["latent_dim"]) for c in grids["betas"]
    ]
    assert variational == [("variational", beta, 14) for beta in (0.01, 0.1, 1.0)]
    few = {cell.config["epochs"] for cell in grids["steps"]}
    assert few == {50, 100, 200, 400}
    assert {cell.config["labels"] for cell in grids["steps"]} == {20, 160}
    assert {cell.config["freeze"] for cell in grids["rates"]} == {"fixed", "full"}
    # A check and the grid share their common cells, computed once.
    common = grids["widths"][1]
    assert any(cell is common for cell in grids["autoencoder"])
    assert common.replicates == 8


def test_recipes_do_not_fix_axes_of_checks():
    """A recipe replaces the values of axes; those of a check would all become its own."""
    chosen = select(parser().parse_args(["plan", "assignment", "--preset", "best"]))
    names = [experiment.name for experiment in chosen.experiments]
    grids = dict(zip(names, plan(chosen.experiments, "0" * 16), strict=True))
    recipe = NAMED["best"].recipes["autoencoder"][14]
    base = [cell for cell in grids["autoencoder"] if cell.config["latent_dim"] == 14]
    plain = [cell for cell in base if not cell.config["augment"]]
    assert {(c.config["width"], c.config["epochs"]) for c in plain} == {(16, recipe["epochs"])}
    assert [c.config["width"] for c in grids["widths"]] == [8, 16, 32]
    batches = [(c.config["batch_size"], c.config["epochs"]) for c in grids["batches"]]
    size, epochs = recipe["batch_size"], recipe["epochs"]
    assert batches == [(2 * size, epochs), (2 * size, 2 * epochs)]
    for cell in (*grids["widths"], *grids["batches"]):
        assert cell.config["latent_dim"] == 14
        assert (cell.config["network"], cell.config["kernel"]) == ("resnet", 5)


def test_check_alone_computes_nothing_of_its_base():
    chosen = select(parser().parse_args(["plan", "longer"]))
    base, longer = plan(chosen.experiments, "0" * 16, chosen.asked)
    assert base == [] and len(longer) == 6
    assert {cell.config["epochs"] for cell in longer} == {16}


def test_recipes_of_a_base_are_trained_longer_too():
    base = override(AUTOENCODER, {"latent_dim": (2, 14)}, {"epochs": 5})
    base = dataclasses.replace(base, recipes={2: {"epochs": 7, "width": 8}})
    (cells,) = plan([trained_longer(base)], "0" * 16)
    assert {(c.config["latent_dim"], c.config["epochs"]) for c in cells} == {(2, 28), (14, 20)}


def test_needed_experiments_come_first():
    assert [e.name for e in members("autoencoder")] == ["autoencoder"]
    assert [e.name for e in members("fewshot")] == ["autoencoder", "fewshot"]


def test_few_labels_crosses_all_arms_with_pretraining():
    autoencoder, fewshot, supervised = members("few-labels")
    assert fewshot.axes["freeze"] == FREEZE
    assert fewshot.axes["pretraining"] == ("plain", "augmented", "contrastive")
    assert set(fewshot.axes["pretraining"]) < set(PRETRAINING)
    cells = plan([autoencoder, fewshot, supervised], "0" * 16, STUDIES["few-labels"])
    assert len(cells[0]) == 3 * len(fewshot.axes["latent_dim"])


def test_unknown_study_is_a_key_error():
    with pytest.raises(KeyError):
        members("nonsense")


def test_studies_are_made_of_experiments():
    for names in STUDIES.values():
        assert set(names) <= set(EXPERIMENTS)
    assert not set(STUDIES) & set(EXPERIMENTS)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiment_keeps_the_contract_of_trainables(name):
    experiment = EXPERIMENTS[name]
    module = trainable_part(experiment.trainable, "train")
    assert experiment.name == name
    assert isinstance(module.VERSION, int)
    assert callable(module.train)
    assert module.Config.__dataclass_params__.frozen
    assert {*experiment.axes, *experiment.fixed} <= settings_of(experiment)
    assert experiment.best in ("min", "max")
    if experiment.needs:
        needed = EXPERIMENTS[experiment.needs]
        assert set(experiment.parent_settings) <= settings_of(experiment) & settings_of(needed)


@pytest.mark.parametrize("name", NAMED)
def test_preset_changes_existing_settings_only(name):
    """A setting that an experiment lacks would be left out silently."""
    preset = NAMED[name]
    for changes in (preset.axes, preset.fixed, preset.large):
        for experiment, settings in changes.items():
            assert set(settings) <= settings_of(EXPERIMENTS[experiment]) | {"replicates"}
    for experiment, axes in preset.axes.items():
        assert set(axes) <= set(EXPERIMENTS[experiment].axes)


@pytest.mark.parametrize("preset", NAMED)
@pytest.mark.parametrize("study", [*STUDIES, *EXPERIMENTS])
def test_every_preset_of_every_study_makes_a_grid(study, preset):
    experiments = experiments_of(study, preset)
    for experiment, cells in zip(experiments, plan(experiments, "0" * 16), strict=True):
        assert cells
        for cell in cells:
            assert set(cell.config) == settings_of(experiment)


def test_few_shot_adds_no_autoencoders_to_the_grid():
    for preset in NAMED:
        autoencoders = plan(experiments_of("autoencoder", preset), "0" * 16)[0]
        with_few_shot = plan(experiments_of("fewshot", preset), "0" * 16)[0]
        assert [cell.id for cell in with_few_shot] == [cell.id for cell in autoencoders]


def test_smoke_preset_gives_the_promised_metric(few_digits):
    smoke = ["plan", "assignment", "--preset", "smoke", "--batch-sizes", "20"]
    experiments = select(parser().parse_args(smoke)).experiments
    weights = {}
    for experiment, cells in zip(experiments, plan(experiments, "0" * 16), strict=True):
        module = trainable_part(experiment.trainable, "train")
        for cell in cells[-3:]:
            cell.settings.check_data(few_digits)
            outcome = module.train(
                cell.settings,
                range(cell.replicates),
                few_digits,
                Report(),
                weights.get(cell.parent_id),
            )
            assert isinstance(outcome, Outcome)
            assert len(outcome.rows) == cell.replicates >= 2
            assert all(isinstance(row[experiment.metric], float) for row in outcome.rows)
            weights[cell.id] = weights_by_replicate(outcome)
