"""The registry and the presets: every one of them can be run."""

import dataclasses

import pytest

from study.experiments import EXPERIMENTS, PRESETS, STUDIES, members
from study.grid import override, plan
from trainables.contract import Outcome
from trainables.settings.fewshot import FREEZE, PRETRAINING

TRAINABLE = [(name, preset) for name in EXPERIMENTS for preset in PRESETS]


def adjusted(study, preset):
    """The experiments of a study under a preset."""
    changes = PRESETS[preset]
    return [
        override(e, changes.axes.get(e.name, {}), changes.fixed.get(e.name, {}))
        for e in members(study)
    ]


def settings_of(experiment):
    return {setting.name for setting in dataclasses.fields(experiment.module().Config)}


def test_the_assignment_is_the_grid_that_was_asked_for():
    autoencoder, fewshot = members("assignment")
    assert autoencoder.name == "autoencoder"
    assert autoencoder.axes["latent_dim"] == (2, 6, 8, 10, 12, 14, 30)
    assert autoencoder.axes["depth"] == (2, 3)
    assert len(autoencoder.axes["batch_size"]) >= 2
    assert fewshot.name == "fewshot"
    assert fewshot.axes["latent_dim"] == (2, 6, 8, 10, 12, 14, 30)
    assert fewshot.axes["labels"] == (20, 40, 80, 160)
    assert set(fewshot.axes["freeze"]) >= {"fixed", "full", "scratch"}


def test_an_experiment_brings_what_it_needs_before_itself():
    assert [e.name for e in members("autoencoder")] == ["autoencoder"]
    assert [e.name for e in members("fewshot")] == ["autoencoder", "fewshot"]


def test_few_labels_has_every_arm_with_both_kinds_of_pretraining():
    autoencoder, fewshot = members("few-labels")
    assert fewshot.axes["freeze"] == FREEZE
    assert fewshot.axes["pretraining"] == tuple(PRETRAINING)
    cells = plan([autoencoder, fewshot], "0" * 16, STUDIES["few-labels"])
    assert len(cells[0]) == 2 * len(fewshot.axes["latent_dim"])
    assert members("fewshot")[1].axes["freeze"] == ("fixed", "full", "scratch")


def test_an_unknown_study_is_a_key_error():
    with pytest.raises(KeyError):
        members("nonsense")


def test_studies_are_made_of_experiments():
    for names in STUDIES.values():
        assert set(names) <= set(EXPERIMENTS)
    assert not set(STUDIES) & set(EXPERIMENTS)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_keeps_the_contract_of_trainables(name):
    experiment = EXPERIMENTS[name]
    module = experiment.module()
    assert experiment.name == name
    assert isinstance(module.VERSION, int)
    assert callable(module.train)
    assert module.Config.__dataclass_params__.frozen
    assert {*experiment.axes, *experiment.fixed} <= settings_of(experiment)
    assert experiment.best in ("min", "max")
    if experiment.needs:
        needed = EXPERIMENTS[experiment.needs]
        assert set(experiment.parent_settings) <= settings_of(experiment) & settings_of(needed)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_changes_only_what_there_is(name):
    """What an experiment doesn't have would be left out silently."""
    preset = PRESETS[name]
    for changes in (preset.axes, preset.fixed, preset.large):
        for experiment, settings in changes.items():
            assert set(settings) <= settings_of(EXPERIMENTS[experiment]) | {"replicates"}
    for experiment, axes in preset.axes.items():
        assert set(axes) <= set(EXPERIMENTS[experiment].axes)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("study", [*STUDIES, *EXPERIMENTS])
def test_every_preset_of_every_study_makes_a_grid(study, preset):
    experiments = adjusted(study, preset)
    for experiment, cells in zip(experiments, plan(experiments, "0" * 16), strict=True):
        assert cells
        for cell in cells:
            assert set(cell.config) == settings_of(experiment)


def test_a_few_shot_cell_starts_from_an_autoencoder_that_is_on_the_grid_anyway():
    for preset in PRESETS:
        autoencoders = plan(adjusted("autoencoder", preset), "0" * 16)[0]
        with_few_shot = plan(adjusted("assignment", preset), "0" * 16)[0]
        assert [cell.id for cell in with_few_shot] == [cell.id for cell in autoencoders]


def test_the_smoke_preset_runs_and_gives_the_metric_that_is_promised(few_digits):
    experiments = adjusted("assignment", "smoke")
    weights = {}
    for experiment, cells in zip(experiments, plan(experiments, "0" * 16), strict=True):
        module = experiment.module()
        for cell in cells[-3:]:
            cell.settings.check_data(few_digits)
            outcome = module.train(
                cell.settings, range(cell.replicates), few_digits, lambda m: None,
                weights.get(cell.parent_id),
            )  # fmt: skip
            assert isinstance(outcome, Outcome)
            assert len(outcome.rows) == cell.replicates == 2
            assert all(isinstance(row[experiment.metric], float) for row in outcome.rows)
            weights[cell.id] = {
                r: {name: value[r] for name, value in outcome.weights.items()} for r in range(2)
            }
