"""Cells and their ids: a computed result is found again, and no other one is."""

import dataclasses
import json
from types import SimpleNamespace

import pytest

from study.experiments import AUTOENCODER, FEWSHOT, Experiment
from study.grid import cell_id, gaps, lay_out, override, plan, record
from trainables.autoencoder.train import Config as AutoencoderConfig
from trainables.contract import ConfigError, added_field

DATA = "0123456789abcdef"


def ids(cells):
    return [cell.id for cell in cells]


def small_grids(**axes):
    """The autoencoder and few-shot grids at two latent dimensions, and with other axes."""
    chosen = {"latent_dim": (2, 8), "depth": (2,), "batch_size": (64,), "labels": (20, 40)} | axes
    few = {"freeze": ("fixed", "full", "scratch"), **chosen}
    del few["batch_size"]
    return [
        override(AUTOENCODER, chosen, {}),
        override(FEWSHOT, few, {}),
    ]


# --- ids -------------------------------------------------------------------------------------


def test_id_never_changes():
    """Results on disk would not be found again."""
    config = {"latent_dim": 14, "depth": 3}
    assert cell_id("trainables.autoencoder", 1, config, DATA, None) == "2e384e3f6afa90e8"


def test_order_of_settings_has_no_effect_on_an_id():
    config = dataclasses.asdict(AutoencoderConfig(latent_dim=14))
    turned = dict(reversed(config.items()))
    assert list(turned) != list(config)
    assert cell_id("a", 1, turned, DATA, None) == cell_id("a", 1, config, DATA, None)


def test_every_setting_changes_the_id():
    config = dataclasses.asdict(AutoencoderConfig(latent_dim=14))
    changes = {
        "latent_dim": 15, "depth": 2, "batch_size": 33, "epochs": 9, "learning_rate": 0.02,
        "weight_decay": 0.0, "width": 17, "kernel": 5, "activation": "relu", "seed": 1,
        "augment": 1.0, "noise": 0.1, "target": "view", "warm_up": 0.2,
        "optimiser": "muon", "network": "mlp", "objective": "variational", "beta": 0.1,
        "temperature": 0.5, "contrastive_updates": 7, "precision": "bfloat16",
    }  # fmt: skip
    assert set(changes) == set(config)
    found = [
        cell_id("trainables.autoencoder", 1, config, DATA, None),
        cell_id("trainables.other", 1, config, DATA, None),
        cell_id("trainables.autoencoder", 2, config, DATA, None),
        cell_id("trainables.autoencoder", 1, config, "fedcba9876543210", None),
        cell_id("trainables.autoencoder", 1, config, DATA, "0" * 16),
        cell_id("trainables.autoencoder", 1, config, DATA, "1" * 16),
        *(
            cell_id("trainables.autoencoder", 1, config | {name: value}, DATA, None)
            for name, value in changes.items()
        ),
    ]
    assert len(set(found)) == len(found) == 6 + len(changes)


def test_number_of_replicates_is_no_part_of_an_id():
    few, many = (plan([override(AUTOENCODER, {}, {"replicates": n})], DATA)[0] for n in (2, 20))
    assert ids(few) == ids(many)
    assert {cell.replicates for cell in few} == {2}
    assert {cell.replicates for cell in many} == {20}
    assert "replicates" not in few[0].config


def test_minus_zero_is_zero():
    zero, minus = (
        cell_id("a", 1, {"noise": value, "depth": 2}, DATA, None) for value in (0.0, -0.0)
    )
    assert zero == minus


@dataclasses.dataclass(frozen=True)
class LaterConfig(AutoencoderConfig):
    later: int = added_field(0)


def test_later_setting_leaves_older_ids_alone(monkeypatch):
    """At its default it is no part of the id."""
    chosen = override(AUTOENCODER, {"latent_dim": (2,)}, {})
    before = ids(plan([chosen], DATA)[0])
    module = SimpleNamespace(Config=LaterConfig, VERSION=AUTOENCODER.settings_module().VERSION)
    monkeypatch.setattr(Experiment, "settings_module", lambda self: module)
    assert ids(plan([chosen], DATA)[0]) == before
    changed = ids(plan([override(chosen, {}, {"later": 1})], DATA)[0])
    assert not set(changed) & set(before)


# --- gaps ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "finished", "missing"),
    [
        (4, [], [range(4)]),
        (4, [range(4)], []),
        (4, [range(20)], []),
        (4, [range(2)], [range(2, 4)]),
        (8, [range(2), range(4, 6)], [range(2, 4), range(6, 8)]),
        (8, [range(1, 3), range(2, 9)], [range(1)]),
        (3, [range(3, 9)], [range(3)]),
    ],
)
def test_gaps_are_the_replicates_in_no_block(wanted, finished, missing):
    assert gaps(wanted, finished) == missing


# --- recipes ---------------------------------------------------------------------------------


def with_recipes(recipes, few_shot=None):
    autoencoder, fewshot = small_grids(latent_dim=(2, 14))
    return [
        dataclasses.replace(autoencoder, recipes=recipes),
        dataclasses.replace(fewshot, recipes=few_shot or {}),
    ]


def test_recipe_applies_at_its_latent_dimension_only():
    (experiment, _) = with_recipes({14: {"width": 24, "batch_size": 128}})
    (cells,) = plan([experiment], DATA)
    found = [(c.config["latent_dim"], c.config["width"], c.config["batch_size"]) for c in cells]
    batches = experiment.axes["batch_size"]
    depths = len(experiment.axes["depth"])
    assert set(found) == {(14, 24, 128), *((2, 16, batch) for batch in batches)}
    assert found.count((14, 24, 128)) == depths


def test_few_shot_cells_start_from_the_recipes_own_cell():
    recipe = {14: {"width": 24, "learning_rate": 0.003, "epochs": 2}}
    experiments = with_recipes(recipe, {14: {"width": 24}})
    autoencoders, few_shot = plan(experiments, DATA)
    by_id = {cell.id: cell for cell in autoencoders}
    parents = {cell.config["latent_dim"]: by_id[cell.parent_id] for cell in few_shot if cell.parent}
    assert parents[14].config["learning_rate"] == 0.003
    assert parents[14].config["epochs"] == 2
    assert parents[14].config["width"] == 24
    assert parents[2].config["width"] == 16
    assert len(autoencoders) == len(plan(experiments[:1], DATA)[0])


def test_id_does_not_depend_on_the_experiments_name():
    renamed = dataclasses.replace(small_grids()[0], name="renamed")
    assert ids(plan([renamed], DATA)[0]) == ids(plan(small_grids()[:1], DATA)[0])


# --- cells -----------------------------------------------------------------------------------


def test_assignment_has_the_product_of_its_axes():
    autoencoders, few_shot = plan([AUTOENCODER, FEWSHOT], DATA)
    assert len(autoencoders) == 7 * 2 * 1
    assert len(few_shot) == 7 * 1 * 5 * 6
    assert len(set(ids(autoencoders + few_shot))) == 14 + 210


def test_cells_are_the_product_of_the_axes_in_their_order():
    experiment = override(AUTOENCODER, {"latent_dim": (2, 8), "depth": (2, 3)}, {})
    (cells,) = plan([experiment], DATA)
    found = [tuple(cell.config[axis] for axis in experiment.axes) for cell in cells]
    sizes = experiment.axes["batch_size"]
    assert found == [(d, depth, size) for d in (2, 8) for depth in (2, 3) for size in sizes]


def test_cells_configuration_is_complete():
    experiment = override(AUTOENCODER, {"latent_dim": (2,)}, {"epochs": 4})
    expected = dataclasses.asdict(AutoencoderConfig(2, depth=2, batch_size=32, epochs=4))
    (cells,) = plan([experiment], DATA)
    assert cells[0].config == expected


def test_value_asked_for_twice_is_one_cell():
    assert len(plan([override(AUTOENCODER, {"latent_dim": (2, 8, 2)}, {})], DATA)[0]) == 2 * 2


def test_impossible_value_is_named():
    with pytest.raises(ConfigError, match="depth = 9"):
        plan([override(AUTOENCODER, {"depth": (2, 9)}, {})], DATA)


def test_grown_grid_keeps_its_ids():
    before = plan(small_grids(), DATA)
    grown = plan(small_grids(latent_dim=(2, 5, 8), labels=(20, 30, 40)), DATA)
    for old, new in zip(before, grown, strict=True):
        assert set(ids(old)) < set(ids(new))
    assert [len(cells) for cells in grown] == [3, 3 * 3 * 3]


def test_changed_data_keep_no_id():
    before, after = plan(small_grids(), DATA), plan(small_grids(), "fedcba9876543210")
    for old, new in zip(before, after, strict=True):
        assert not set(ids(old)) & set(ids(new))


def test_option_changes_only_experiments_that_have_it():
    autoencoder = override(AUTOENCODER, {"labels": (20,), "latent_dim": (3,)}, {"hidden": 8})
    assert autoencoder.axes == {**AUTOENCODER.axes, "latent_dim": (3,)}
    assert autoencoder.fixed == AUTOENCODER.fixed
    assert override(FEWSHOT, {"labels": (20,)}, {"hidden": 8}).fixed["hidden"] == 8


def test_record_of_a_plan_is_plain_data(few_digits, tmp_path):
    experiments = small_grids()
    groups = plan(experiments, few_digits.fingerprint)
    kept = record("assignment", "study run", few_digits, tmp_path / "data", experiments, groups)
    kept = json.loads(json.dumps(kept))
    assert kept["study"] == "assignment"
    assert kept["command"] == "study run"
    assert kept["dataset"] == "few-digits"
    assert kept["data_dir"] == str(tmp_path / "data")
    assert kept["fingerprint"] == few_digits.fingerprint
    for group, experiment, cells in zip(kept["experiments"], experiments, groups, strict=True):
        assert group["name"] == experiment.name
        assert group["metric"] == experiment.metric
        assert group["axes"]["latent_dim"] == [2, 8]
        assert [cell["id"] for cell in group["cells"]] == ids(cells)
        assert [cell["parent"] for cell in group["cells"]] == [cell.parent_id for cell in cells]
        assert [cell["config"] for cell in group["cells"]] == [cell.config for cell in cells]
        assert [cell["replicates"] for cell in group["cells"]] == [c.replicates for c in cells]


# --- cells that build on others --------------------------------------------------------------


def test_few_shot_builds_on_the_autoencoder_of_its_shape():
    autoencoders, few_shot = plan(small_grids(), DATA)
    by_id = {cell.id: cell for cell in autoencoders}
    pretrained = [cell for cell in few_shot if cell.config["freeze"] != "scratch"]
    assert len(pretrained) == 2 * 2 * 2
    for cell in pretrained:
        parent = by_id[cell.parent_id]
        assert parent is cell.parent
        assert parent.experiment.name == "autoencoder"
        for name in ("latent_dim", "depth", "width", "kernel", "activation", "seed"):
            assert parent.config[name] == cell.config[name]
    assert {cell.parent_id for cell in pretrained} == set(by_id)


def test_scratch_builds_on_nothing():
    few_shot = plan(small_grids(), DATA)[1]
    assert [c.parent for c in few_shot if c.config["freeze"] == "scratch"] == [None] * 4
    only_scratch = plan(small_grids(freeze=("scratch",)), DATA)[1]
    assert all(cell.parent is None for cell in only_scratch)


def test_few_shot_builds_on_the_first_batch_size():
    autoencoders, few_shot = plan(small_grids(batch_size=(16, 64)), DATA)
    by_id = {cell.id: cell.config["batch_size"] for cell in autoencoders}
    assert {by_id[cell.parent_id] for cell in few_shot if cell.parent} == {16}


def test_parent_missing_from_its_grid_is_added():
    autoencoder, _ = small_grids()
    fewshot = override(FEWSHOT, {"latent_dim": (2, 5), "depth": (3,), "labels": (20,)}, {})
    autoencoders, few_shot = plan([autoencoder, fewshot], DATA)
    shapes = [(cell.config["latent_dim"], cell.config["depth"]) for cell in autoencoders]
    assert shapes == [(2, 2), (8, 2), (2, 3), (5, 3)]
    assert {cell.parent_id for cell in few_shot if cell.parent} == set(ids(autoencoders[2:]))


def test_kind_of_pretraining_chooses_the_autoencoder():
    autoencoder, fewshot = small_grids()
    fewshot = override(fewshot, {"pretraining": ("plain", "augmented"), "labels": (20,)}, {})
    autoencoders, few_shot = plan([autoencoder, fewshot], DATA)
    by_id = {cell.id: cell.config for cell in autoencoders}
    assert len(autoencoders) == 4  # both for each of the two latent dimensions
    for cell in few_shot:
        if cell.parent:
            augmented = cell.config["pretraining"] == "augmented"
            assert by_id[cell.parent_id]["augment"] == (1.0 if augmented else 0.0)
            assert by_id[cell.parent_id]["noise"] == (0.2 if augmented else 0.0)
            assert by_id[cell.parent_id]["latent_dim"] == cell.config["latent_dim"]


def test_changed_autoencoder_changes_its_children():
    autoencoder, fewshot = small_grids()
    before = plan([autoencoder, fewshot], DATA)[1]
    after = plan([override(autoencoder, {}, {"epochs": 99}), fewshot], DATA)[1]
    for old, new in zip(before, after, strict=True):
        assert old.config == new.config
        assert (old.id == new.id) == (old.config["freeze"] == "scratch")


def test_parent_has_the_fixed_settings_of_its_experiment():
    autoencoder = override(AUTOENCODER, {"batch_size": (16,)}, {"epochs": 3})
    parents, _ = plan([autoencoder, override(FEWSHOT, {}, {"epochs": 200})], DATA, ("fewshot",))
    for found in (parent.config for parent in parents):
        assert (found["batch_size"], found["epochs"]) == (16, 3)


@pytest.mark.parametrize(
    ("asked", "few_shot", "encoders", "wanted"),
    [(3, 8, 0, 8), (3, 8, 4, 4), (10, 8, 4, 10), (3, 8, 20, 8), (1, 1, 0, 1)],
)
def test_parent_has_the_replicates_its_children_need(asked, few_shot, encoders, wanted):
    autoencoder, fewshot = small_grids(latent_dim=(2,), freeze=("fixed",))
    autoencoder = override(autoencoder, {}, {"replicates": asked})
    fewshot = override(fewshot, {}, {"replicates": few_shot, "encoders": encoders})
    parents, children = plan([autoencoder, fewshot], DATA)
    assert [cell.replicates for cell in parents] == [wanted]
    assert {cell.replicates for cell in children} == {few_shot}


def test_implied_parent_has_only_needed_replicates():
    autoencoder, fewshot = small_grids(latent_dim=(2,), freeze=("fixed",))
    fewshot = override(fewshot, {}, {"replicates": 8, "encoders": 2})
    (parent,), _ = plan([override(autoencoder, {}, {"replicates": 5}), fewshot], DATA, ("fewshot",))
    assert parent.replicates == 2


def test_layout_has_no_ids_yet():
    assert {cell.id for cells in lay_out(small_grids()) for cell in cells} == {""}
