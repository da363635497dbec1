"""A user's own images, network and experiment, in a folder outside of the checkout, on the command
line: from files to a report."""

import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageDraw

from analysis.results import load
from study import presets
from study.__main__ import main
from study.experiments import AUTOENCODER, EXPERIMENTS
from study.own import OwnCodeError, register, register_installed
from tests.names import NASTY_NAMES
from tests.phrases import phrase
from trainables import own
from trainables.contract import ConfigError
from trainables.shape import Shape

EXTENDING = Path(__file__).resolve().parents[2] / "docs" / "extending.md"


def code_block(name):
    """The Python code after a marker in docs/extending.md."""
    text = EXTENDING.read_text() if EXTENDING.is_file() else ""
    marker = f"<!-- {name} -->"
    if marker not in text:
        pytest.skip(f"docs/extending.md has no {marker}")
    return re.search(re.escape(marker) + r"\s*```python\n(.*?)```", text, re.DOTALL)[1]


def draw_shape(kind, draw, width=36, height=28):
    """A disc, a square or a triangle of some colour somewhere on a darker ground."""
    dark, light = (tuple(draw.integers(*span, 3).tolist()) for span in ((0, 90), (120, 256)))
    image = Image.new("RGB", (width, height), dark)
    pen, size = ImageDraw.Draw(image), int(draw.integers(4, 8))
    x, y = int(draw.integers(9, width - 9)), int(draw.integers(8, height - 8))
    if kind == "triangle":
        pen.polygon([(x, y - size), (x - size, y + size), (x + size, y + size)], fill=light)
    else:
        draw_it = pen.ellipse if kind == "disc" else pen.rectangle
        draw_it([x - size, y - size, x + size, y + size], fill=light)
    return image


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Three classes of 40 colour images of 28 × 36 pixels."""
    folder, draw = tmp_path_factory.mktemp("pictures") / "shapes & more", np.random.default_rng(0)
    for kind in ("disc", "square", "triangle"):
        (folder / kind).mkdir(parents=True)
        for number in range(40):
            draw_shape(kind, draw).save(folder / kind / f"{number}.png")
    return folder


def tables_of(out):
    return {path.name for path in Path(out, "report", "tables").glob("*.csv")}


@pytest.mark.ray
@pytest.mark.slow
def test_folder_of_colour_images_gives_a_complete_report(pictures, run_study, tmp_path):
    out = tmp_path / "results"
    options = ["--preset", "smoke", "--freeze", "fixed", "full", "scratch"]
    ran = run_study("run", "assignment", "--dataset", pictures, *options, "--out", out)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    results = load(out)
    assert results.missing.empty
    assert results.dataset.image_shape == (3, 28, 36)
    assert sorted(results.of("fewshot")["labels"].unique()) == [6, 12]  # 2 and 4 of each class
    assert {
        "reconstruction.csv",
        "interpolation.csv",
        "correlation.csv",
        "transfer.csv",
        "error_by_class.csv",
    } <= tables_of(out)
    pairs = pd.read_csv(out / "report" / "tables" / "interpolation_pairs.csv")["pair"]
    assert set(pairs) == {"disc-square", "disc-triangle", "square-triangle"}
    page = (out / "report" / "index.html").read_text()
    assert "shapes &amp; more" in page and "digit" not in page.partition("5 · ")[0]
    # The same folder elsewhere has the same cells: nothing is computed again.
    moved = tmp_path / "moved"
    shutil.copytree(pictures, moved)
    again = run_study("plan", "assignment", "--dataset", moved, *options, "--out", out)
    assert "\n0 replicates to compute" in again.stdout, again.stdout


@pytest.mark.slow
def test_unlabelled_images_give_the_first_three_sections(pictures, without_ray, tmp_path, capsys):
    flat, out = tmp_path / "flat", tmp_path / "results"
    flat.mkdir()
    for number, path in enumerate(sorted(pictures.rglob("*.png"))):
        shutil.copy(path, flat / f"{number}.png")
    options = ["--dataset", f"{flat}", "--image-size", "20x30", "--grey", "--preset", "smoke"]
    assert main(["run", "assignment", *options, "--out", f"{out}"]) == 0
    left_out = "left out, as the images have no labels: fewshot, supervised, steps, rates"
    assert left_out in capsys.readouterr().out
    assert load(out).dataset.image_shape == (1, 20, 30)
    assert {"reconstruction.csv", "interpolation.csv", "correlation.csv"} <= tables_of(out)
    assert "transfer.csv" not in tables_of(out)
    assert main(["run", "few-labels", *options, "--out", f"{tmp_path / 'other'}"]) == 2
    assert "its images have no labels, which few-labels needs" in capsys.readouterr().err


@pytest.mark.slow
def test_study_of_a_hundred_classes_runs(without_ray, tmp_path, recwarn):
    draw, out = np.random.default_rng(0), tmp_path / "results"
    centres = draw.integers(0, 256, (100, 8, 8))
    labels = np.repeat(np.arange(100), 8)
    images = np.clip(centres[labels] + draw.normal(0, 20, (800, 8, 8)), 0, 255).astype(np.uint8)
    np.savez(tmp_path / "x.npz", images=images, labels=[f"sort {n}" for n in labels])
    code = main(
        ["run", "assignment", "--dataset", f"{tmp_path / 'x.npz'}", "--preset", "smoke",
         "--freeze", "fixed", "--labels-per-class", "1", "2", "--pairs", "sort 3,sort 70",
         "--out", f"{out}"]
    )  # fmt: skip
    assert code == 0
    results = load(out)
    assert sorted(results.of("fewshot")["labels"].unique()) == [100, 200]
    control = results.of("supervised")
    assert control[control["labels"] == 200]["test_accuracy"].max() > 0.05  # chance is 0.01
    pairs = pd.read_csv(out / "report" / "tables" / "interpolation_pairs.csv")["pair"]
    assert set(pairs) == {"sort 3-sort 70"}
    assert not [w for w in recwarn if "unique classes" in str(w.message)]  # scikit-learn's


@pytest.mark.ray
@pytest.mark.slow
def test_own_network_and_experiment_of_the_docs_run(run_study, tmp_path):
    """With the code of docs/extending.md, to the letter; another command finds its results."""
    folder, out = tmp_path / "my code", tmp_path / "results"
    folder.mkdir()
    (folder / "my_nets.py").write_text(code_block("own-network"))
    (folder / "my_experiment.py").write_text(code_block("own-experiment"))
    network = f"{folder}/my_nets.py:build"
    options = ["--dataset", "digits", "--preset", "smoke", "--networks", "mlp", network]
    grid = ["autoencoder", *options, "--latent-dims", 2, "--out", out]
    ran = run_study("run", *grid)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "2 cells, 2 done, 0 missing" in run_study("plan", *grid).stdout  # the same ids again
    rows = load(out).of("autoencoder")
    (spec,) = {name for name in rows["network"] if own.is_own(name)}
    assert len(rows) == 4 and rows["replicate"].tolist() == [0, 1, 0, 1]
    (cell,) = rows[rows["network"] == spec]["cell"].unique()
    model = load(out).autoencoders(cell)[0]
    assert type(model.encoder[2]).__name__ == "Tanh"

    mine = ["run", f"{folder}/my_experiment.py", "--dataset", "digits", "--preset", "smoke"]
    ran = run_study(*mine, "--out", tmp_path / "mine")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    results = load(tmp_path / "mine")
    rows = results.of("softmax")
    assert results.missing.empty and len(rows) == 4 * 3
    assert rows[rows["labels"] == 160]["test_accuracy"].mean() > 0.7  # chance is 0.1
    assert "up to date" in run_study(*mine, "--out", tmp_path / "mine").stdout


# --- without a study -------------------------------------------------------------------------


@pytest.fixture
def write_code(tmp_path):
    def write(code, name="my_nets.py"):
        own.module_of.cache_clear()
        own.function_of.cache_clear()
        (tmp_path / name).write_text(code)
        return str(tmp_path / name)

    return write


def test_id_has_a_networks_content_and_not_its_folder(write_code):
    path = write_code("def build(image, latent_dim): ...")
    spec = own.full_name(f"{path}:build")
    assert own.portable_name(spec) == f"my_nets.py:build@{own.digest(Path(path))}"
    assert not own.is_own("mlp")
    write_code("def build(image, latent_dim): ...\n# other")
    with pytest.raises(OwnCodeError, match="has changed since the study began"):
        own.function_of(spec)


@pytest.mark.parametrize("name", NASTY_NAMES)
def test_own_code_may_lie_in_a_folder_of_any_name(name, write_code, tmp_path, monkeypatch):
    """A `~` in front is the home folder, and `./~` is a folder of that name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("study.own.EXPERIMENTS", {})
    (tmp_path / name).mkdir()
    write_code("def build(image, latent_dim): ...", f"{name}/nets.py")
    write_code(EXPERIMENT, f"{name}/mine.py")
    spec = own.full_name(f"./{name}/nets.py:build")
    assert own.is_own(spec)
    assert own.portable_name(spec).startswith("nets.py:build@")
    assert own.function_of(spec).__name__ == "build"
    assert register(f"./{name}/mine.py") == "NAME"


@pytest.mark.parametrize("use", [register, lambda path: own.full_name(f"{path}:build")])
def test_unknown_users_home_is_a_missing_folder(use):
    with pytest.raises(OwnCodeError, match=phrase("nobody-has-this-name/mine.py")):
        use("~nobody-has-this-name/mine.py")


LINEAR = "from torch import nn\ndef build(image, d):\n    return "
WRONG = {
    "": "has no function build",
    "import nothing_of_the_kind": "can't be imported (ModuleNotFoundError",
    "def build(:": "can't be imported (SyntaxError",
    "build = 3": "has no function build",
    f"{LINEAR}nn.Flatten()": "must return an encoder and a decoder, not Flatten",
    f"{LINEAR}nn.Flatten(), 3": "int is no torch module",
    f"{LINEAR}nn.Flatten(), nn.Identity()": "the encoder gives (2, 784) … must be (2, 5)",
    f"{LINEAR}nn.Sequential(nn.Flatten(), nn.Linear(784, d)), nn.Identity()":
        "the decoder gives (2, 5) … must be (2, 1, 28, 28)",
    f"{LINEAR}nn.Sequential(nn.Flatten(), nn.AdaptiveAvgPool1d(d)), nn.Sequential("
    "nn.Upsample(784), nn.Unflatten(1, (1, 28, 28)))": "fails on images",
    f"{LINEAR}nn.Linear(3, d), nn.Identity()": "fails on images of …RuntimeError",
}  # fmt: skip


@pytest.mark.parametrize("code", WRONG)
def test_unusable_network_is_refused_in_one_line(code, write_code, few_digits):
    path = write_code(code)

    def use():
        shape = Shape(5, 1, 4, network=own.full_name(f"{path}:build"))
        shape.check_data(few_digits)

    with pytest.raises((OwnCodeError, ConfigError), match=phrase(WRONG[code])) as caught:
        use()
    assert "\n" not in str(caught.value)


EXPERIMENT = """
from dataclasses import dataclass
from study.experiments import Experiment
from trainables.contract import Settings
VERSION = 1
@dataclass(frozen=True)
class Config(Settings):
    seed: int = 0
def train(): ...
E = Experiment(name="NAME", trainable=__name__, axes={"seed": (0, 1)})
"""


def test_experiments_of_a_file_are_registered(write_code, monkeypatch):
    monkeypatch.setattr("study.own.EXPERIMENTS", dict(EXPERIMENTS))
    path = write_code(EXPERIMENT.replace("NAME", "tilt"), "mine.py")
    assert register(path) == "tilt"
    assert register(path) == "tilt"  # registering it again is no conflict
    for code, problem in {
        EXPERIMENT.replace("NAME", "autoencoder"): "the name 'autoencoder' is taken",
        EXPERIMENT.replace("NAME", "assignment"): "the name 'assignment' is taken",
        EXPERIMENT.replace("def train", "def other"): "has no train",
        "x = 1": "has no Experiment with trainable=__name__",
        "raise SystemExit": "can't be imported (SystemExit",
        EXPERIMENT.replace("NAME", "../evil"): "a wrong name",
        EXPERIMENT.replace("NAME", "t").replace('"seed":', '"sead":'): "sead: not in Config",
        EXPERIMENT.replace("NAME", "t").replace("int = 0", "int"): None,
        EXPERIMENT.replace("NAME", "t").replace("(0, 1)", "7"): "axis seed: a tuple of values",
        EXPERIMENT.replace("NAME", "t").replace("trainable=", "best='up', trainable="): "best 'up'",
        EXPERIMENT.replace("NAME", "t").replace("trainable=", "needs='x', trainable="): "needs 'x'",
    }.items():
        if problem is None:
            register(write_code(code, "fine.py"))
            continue
        with pytest.raises(OwnCodeError, match=phrase(problem)):
            register(write_code(code, "other.py"))
    with pytest.raises(OwnCodeError, match="is not there"):
        register("/nowhere/x.py")


def test_presets_may_set_an_own_experiments_settings(write_code, monkeypatch):
    known = dict(EXPERIMENTS)
    for module in ("own", "presets"):
        monkeypatch.setattr(f"study.{module}.EXPERIMENTS", known)
    register(write_code(EXPERIMENT.replace("NAME", "tilt"), "mine.py"))  # its annotations are types
    path = Path(write_code('dataset = "digits"\n[axes.tilt]\nseed = [3, 4]\n', "x.toml"))
    assert presets.read(path).axes == {"tilt": {"seed": (3, 4)}}
    path = Path(write_code('dataset = "digits"\n[fixed.tilt]\nseed = "many"\n', "x.toml"))
    with pytest.raises(presets.PresetError, match="'many' is not of type int"):
        presets.read(path)


def test_installed_experiments_are_registered(monkeypatch):
    known = dict(EXPERIMENTS)
    monkeypatch.setattr("study.own.EXPERIMENTS", known)
    good = SimpleNamespace(load=lambda: AUTOENCODER, name="a", value="package:A")
    monkeypatch.setattr("study.own.entry_points", lambda group: [good])
    register_installed()


@pytest.mark.parametrize(
    ("load", "message"),
    [
        (lambda: 3, "package:B … is not an Experiment"),
        (lambda: 1 / 0, "package:B … can't be imported (ZeroDivisionError: division by zero)"),
        (lambda: replace(AUTOENCODER, trainable="no.such"), "can't be imported (ModuleNotFound"),
        (lambda: replace(AUTOENCODER, best="most"), "Experiment has a wrong best 'most': min or"),
    ],
)
def test_broken_installed_experiment_is_one_line(load, message, monkeypatch):
    bad = SimpleNamespace(load=load, name="b", value="package:B")
    monkeypatch.setattr("study.own.entry_points", lambda group: [bad])
    with pytest.raises(OwnCodeError, match=phrase(message)):
        register_installed()


def test_package_may_have_all_in_its_own_module(tmp_path, monkeypatch):
    """By name, or by the path of its file; the shipped ones are in two modules."""
    package = tmp_path / "pack_of_one"
    package.mkdir()
    (package / "__init__.py").write_text("Config, VERSION, train = object, 7, print\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("pack_of_one", str(package / "__init__.py")):
        assert {own.trainable_part(name, part).VERSION for part in ("settings", "train")} == {7}
    settings, train = (own.trainable_part("trainables.rotation", p) for p in ("settings", "train"))
    assert settings.Config is train.Config and not hasattr(settings, "train")
