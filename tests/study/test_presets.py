"""Preset files: written and read back, and refused in one line that names file and key."""

from dataclasses import replace

import pytest

from study.command_line.options import select
from study.command_line.parser import parser
from study.experiments import EXPERIMENTS, Preset
from study.grid import plan
from study.presets import NAMED, PresetError, find, read, write
from tests.names import NASTY_NAMES
from tests.phrases import phrase

WHOLE = Preset(
    description='found with "care" at α = 0.1',
    dataset="mnist-5k",
    axes={"autoencoder": {"latent_dim": (2, 14), "batch_size": (64,)}},
    fixed={"autoencoder": {"replicates": 2, "weight_decay": 0.1}},
    large={"autoencoder": {"epochs": 1}},
    recipes={"autoencoder": {2: {"width": 8}, 14: {"learning_rate": 5e-3, "activation": "silu"}}},
)


def test_written_preset_is_read_back(tmp_path):
    write(tmp_path / "a" / "found.toml", WHOLE, comment="how\n\nit was found")
    assert read(tmp_path / "a" / "found.toml") == WHOLE
    assert (tmp_path / "a" / "found.toml").read_text().startswith("# how\n#\n# it was found\n\n")


@pytest.mark.parametrize("name", NASTY_NAMES)
def test_preset_may_name_any_path_and_lie_there(name, tmp_path):
    preset = replace(WHOLE, description=f"found on {name}", dataset=f"/data/{name}")
    path = tmp_path / name / "found.toml"
    write(path, preset, comment=f"study search --dataset /data/{name}\nData: {name}")
    assert find(str(path)) == preset


def test_every_named_preset_survives_a_file(tmp_path):
    for name, preset in NAMED.items():
        path = tmp_path / f"{name}.toml"
        write(path, preset)
        assert read(path) == preset


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dataset = ", "is not TOML"),
        ("", "dataset: is missing"),
        ('dataset = "cifar"', "dataset: 'cifar' is not a dataset: mnist-5k"),
        ('dataset = "mnist"\nspeed = 1', "speed: not one of description, dataset, axes"),
        ('dataset = "mnist"\ndescription = 3', "description: 3 is not a string"),
        ('dataset = "mnist"\nfixed = 3', "fixed: 3 is not a table"),
        ('dataset = "mnist"\n[fixed.resnet]', "fixed.resnet: not an experiment: autoencoder"),
        ('dataset = "mnist"\n[fixed]\nautoencoder = 1', "fixed.autoencoder: 1 is not a table"),
        ('dataset = "mnist"\n[fixed.autoencoder]\nwidht = 8',
         "fixed.autoencoder.widht: autoencoder has no such setting"),
        ('dataset = "mnist"\n[fixed.autoencoder]\nwidth = "8"',
         "fixed.autoencoder.width: '8' is not of type int"),
        ('dataset = "mnist"\n[fixed.autoencoder]\nwidth = true',
         "fixed.autoencoder.width: True is not of type int"),
        ('dataset = "mnist"\n[large.autoencoder]\nkernel = 4',
         "large.autoencoder.kernel: 4 must be 3, 5 or 7"),
        ('dataset = "mnist"\n[axes.autoencoder]\ndepth = 3',
         "axes.autoencoder.depth: 3 is not a list of values"),
        ('dataset = "mnist"\n[axes.autoencoder]\ndepth = []',
         "axes.autoencoder.depth: [] is not a list"),
        ('dataset = "mnist"\n[axes.autoencoder]\nwidth = [8]',
         "axes.autoencoder.width: autoencoder has no such axis: latent_dim"),
        ('dataset = "mnist"\n[recipes.autoencoder.two]\nwidth = 8',
         "recipes.autoencoder.two: not a latent dimension"),
        ('dataset = "mnist"\n[recipes.autoencoder.14]\nlatent_dim = 8',
         "recipes.autoencoder.14.latent_dim: must not be set: the recipe's key"),
        ('dataset = "mnist"\n[recipes.autoencoder.14]\nlearning_rate = -1.0',
         "recipes.autoencoder.14.learning_rate: -1.0 must be a number above 0"),
        ('dataset = "mnist"\n[recipes.autoencoder]\n14 = 3',
         "recipes.autoencoder.14: 3 is not a table"),
    ],
)  # fmt: skip
def test_wrong_file_is_refused_with_file_and_key(text, message, tmp_path, refusal):
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(PresetError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: {message}")
    line = refusal("plan", "autoencoder", "--preset", path)
    assert line.startswith(f"study plan: --preset: {path}: {message}")


def test_missing_file_and_unknown_name_are_refused():
    with pytest.raises(PresetError, match=phrase("gone.toml: can't be read (No such file")):
        find("gone.toml")
    with pytest.raises(PresetError, match="'huge' is not a preset: smoke, quick, full, best, or a"):
        find("huge")


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PresetError, match="is not TOML"):
        read(tmp_path / "bytes.toml")


def planned_cells(path, *options):
    arguments = parser().parse_args(["plan", "assignment", "--preset", str(path), *options])
    selection = select(arguments)
    return plan(selection.experiments, "0" * 16)


def test_options_override_a_preset_file(tmp_path):
    path = tmp_path / "found.toml"
    write(path, WHOLE)
    autoencoders, few_shot, *_ = planned_cells(path, "--latent-dims", "14", "--depths", "3")
    (cell,) = autoencoders
    assert cell.config["learning_rate"] == 5e-3
    assert cell.config["activation"] == "silu"
    assert cell.replicates == 8  # one for each replicate of the classifiers
    # The classifiers have the encoder's architecture, and start from that very cell.
    assert {c.config["activation"] for c in few_shot} == {"silu"}
    assert {c.parent_id for c in few_shot if c.config["freeze"] != "scratch"} == {cell.id}
    assert {c.config["learning_rate"] for c in few_shot} == {1e-2}

    asked = ["--latent-dims", "14", "--depths", "3", "--learning-rate", "0.02"]
    assert planned_cells(path, *asked)[0][0].config["learning_rate"] == 0.02


def test_best_preset_has_a_recipe_for_each_dimension():
    best = NAMED["best"]
    dims = set(best.axes["autoencoder"]["latent_dim"])
    assert dims == set(best.recipes["autoencoder"])
    assert best.dataset == "mnist"
    autoencoders, few_shot, *_ = planned_cells("best")
    assert {cell.config["latent_dim"] for cell in autoencoders} == dims
    names = {known for recipe in best.recipes["autoencoder"].values() for known in recipe}
    assert names <= set(autoencoders[0].config)
    known = {cell.id for cell in autoencoders}
    assert {cell.parent_id for cell in few_shot if cell.parent} <= known
    assert set(EXPERIMENTS) >= set(best.axes)


def test_documented_preset_is_one(request, tmp_path):
    text = (request.config.rootpath / "docs" / "using.md").read_text(encoding="utf-8")
    path = tmp_path / "documented.toml"
    path.write_text(text.partition("```toml\n")[2].partition("```")[0], encoding="utf-8")
    cells, _ = planned_cells(path)[:2]
    assert {cell.config["latent_dim"]: cell.config["learning_rate"] for cell in cells}[14] == 0.005
    assert {cell.config["precision"] for cell in cells} == {"bfloat16"}
