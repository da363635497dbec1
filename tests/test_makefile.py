"""`make` in a copy of the checkout, with an interpreter that notes what it is asked for."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Each call adds a line to ARGUMENTS, with a unit separator after each argument. The AT-th call
# sends its process group the signal INTERRUPT, in the middle of what it does.
PYTHON = r"""#!/bin/sh
printf '%s\037' "$@" >> "$ARGUMENTS"
echo >> "$ARGUMENTS"
case "$*" in *venv*) mkdir -p .venv/bin && cp "$0" .venv/bin/python;; esac
if [ "$(wc -l < "$ARGUMENTS")" = "${AT:-0}" ]; then
  touch .venv/half
  kill -s "$INTERRUPT" 0
  sleep 5
fi
case "$*" in *requirements.lock*) sleep "${SLOW:-0}";; esac
"""
ANY = ["a b", "s3://b/p?a=1&b=2", "it's", '"quoted"', "$HOME", "$(shell echo x)", "%d", "~", "ø μ",
       "#1", "a;b|c>d", "*", "back\\slash", "`x`", "(a", "a,b", "--x=y"]  # fmt: skip
"""Values that a shell or make could take for something else."""


class Checkout:
    """A folder with the Makefile, and the interpreter."""

    def __init__(self, folder, python):
        self.folder, self.python, self.arguments = folder, python, folder.parent / "arguments"
        folder.mkdir(parents=True)
        shutil.copy(ROOT / "Makefile", folder)
        (folder / "requirements.lock").write_text("# nothing\n")
        (folder / "pyproject.toml").write_text("")
        python.parent.mkdir(parents=True, exist_ok=True)
        python.write_text(PYTHON)
        python.chmod(0o755)

    def start(self, *words, **environment):
        """`make` with these words, as a terminal starts it: in a process group of its own."""
        own = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL")}
        environment = {"PYTHON": str(self.python), "ARGUMENTS": str(self.arguments), **environment}
        return subprocess.Popen(
            ["make", *words],
            cwd=self.folder,
            env={**own, **environment},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def make(self, *words, code=0, **environment):
        """The calls of the interpreter that `make` causes, each as its arguments."""
        self.arguments.write_text("")
        process = self.start(*words, **environment)
        output, _ = process.communicate(timeout=60)
        assert code is None or process.returncode == code, output
        return [line.split("\x1f")[:-1] for line in self.arguments.read_text().splitlines()]

    @property
    def environment(self):
        return {path.name for path in (self.folder / ".venv").iterdir()}

    def change_lock(self):
        later = (self.folder / ".venv/.installed").stat().st_mtime + 1
        os.utime(self.folder / "requirements.lock", (later, later))


@pytest.fixture(autouse=True)
def outer_make(monkeypatch):
    """The variables of a `make test OPTIONS=…` that runs these tests don't reach the makes here."""
    for name in ("MAKEFLAGS", "MAKEOVERRIDES", "OPTIONS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path / "checkout", tmp_path / "python3")


INSTALLATION = ["-c", "venv", "-r", "--editable", "compileall"]
"""What `make setup` calls the interpreter for."""


def kinds(calls):
    """What the interpreter was called for."""
    known = [*INSTALLATION, "study"]
    return [next(kind for kind in known if kind in call) for call in calls]


# --- installation ------------------------------------------------------------------------------


def test_finished_installation_is_left_alone(checkout):
    assert kinds(checkout.make("setup")) == INSTALLATION
    assert checkout.environment == {"bin", ".installed"}
    assert checkout.make("setup") == []


@pytest.mark.parametrize("at", [2, 3, 4, 5], ids=["venv", "lock", "editable", "compile"])
@pytest.mark.parametrize("signal", ["INT", "TERM", "KILL"])
def test_interrupted_installation_is_made_anew(signal, at, checkout):
    checkout.make("setup", code=None, AT=str(at), INTERRUPT=signal)
    assert "half" in checkout.environment and ".installed" not in checkout.environment
    assert kinds(checkout.make("setup")) == INSTALLATION
    assert checkout.environment == {"bin", ".installed"}


@pytest.mark.parametrize("signal", ["INT", "KILL"])
def test_interrupted_update_is_made_anew(signal, checkout):
    checkout.make("setup")
    checkout.change_lock()
    checkout.make("setup", code=None, AT="1", INTERRUPT=signal)
    assert "half" in checkout.environment and ".installed" not in checkout.environment
    assert kinds(checkout.make("setup")) == INSTALLATION
    assert checkout.environment == {"bin", ".installed"}


def test_update_keeps_what_the_user_installed(checkout):
    checkout.make("setup")
    (checkout.folder / ".venv/jupyter").touch()
    checkout.change_lock()
    assert kinds(checkout.make("setup")) == INSTALLATION[2:]
    assert "jupyter" in checkout.environment


def test_moved_environment_is_made_anew(checkout):
    checkout.make("setup")
    (checkout.folder / ".venv/half").touch()
    checkout.folder = checkout.folder.rename(checkout.folder.with_name("elsewhere"))
    assert kinds(checkout.make("setup")) == INSTALLATION
    assert checkout.environment == {"bin", ".installed"}


def test_environment_without_its_interpreter_is_made_anew(checkout):
    checkout.make("setup")
    (checkout.folder / ".venv/half").touch()
    (checkout.folder / ".venv/bin/python").unlink()
    (checkout.folder / ".venv/bin/python").symlink_to("/no/such/python")
    assert kinds(checkout.make("setup")) == INSTALLATION
    assert checkout.environment == {"bin", ".installed"}


@pytest.mark.skipif(not shutil.which("flock"), reason="without flock they are not kept apart")
def test_two_installations_at_once_are_one(checkout):
    both = [checkout.start("setup", SLOW="0.5") for _ in range(2)]
    assert [process.wait(timeout=60) for process in both] == [0, 0]
    assert len(checkout.arguments.read_text().splitlines()) == len(INSTALLATION)


TINY = """[project]
name = "tiny"
version = "1"
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""
BACKEND = """
from zipfile import ZipFile

METADATA = "Metadata-Version: 2.1\\nName: tiny\\nVersion: 1"

def build_editable(folder, *_):
    name = "tiny-1-py3-none-any.whl"
    with ZipFile(f"{folder}/{name}", "w") as wheel:
        wheel.writestr("tiny.py", "")
        wheel.writestr("tiny-1.dist-info/METADATA", METADATA)
        wheel.writestr("tiny-1.dist-info/WHEEL", "Wheel-Version: 1.0\\nTag: py3-none-any")
        wheel.writestr("tiny-1.dist-info/RECORD", "")
    return name

build_wheel = build_editable
"""


@pytest.mark.slow
def test_pip_installs_here_whatever_is_configured(checkout, tmp_path):
    (checkout.folder / "pyproject.toml").write_text(TINY)
    (checkout.folder / "backend.py").write_text(BACKEND)
    elsewhere = str(tmp_path / "elsewhere")
    settings = {"user": "true", "target": elsewhere, "prefix": elsewhere, "root": elsewhere,
                "constraint": str(tmp_path / "missing.txt"), "require-hashes": "true",
                "require-virtualenv": "true", "python": "/no/such/python"}  # fmt: skip
    configuration = tmp_path / "pip.conf"
    configuration.write_text("\n".join(["[global]", *(f"{k} = {v}" for k, v in settings.items())]))
    variables = {f"PIP_{k.replace('-', '_').upper()}": v for k, v in settings.items()}
    foreign = tmp_path / "foreign"  # `venv` and `pip` of another folder
    foreign.mkdir()
    for name in ("venv", "pip", "tiny"):
        (foreign / f"{name}.py").write_text("raise SystemExit('foreign')")
    for environment in (
        {"PYTHONPATH": str(foreign), "PYTHONWARNINGS": "error", "PYTHONOPTIMIZE": "2"},
        {"PIP_CONFIG_FILE": str(configuration)},
        variables,
    ):
        checkout.make("setup", PYTHON=sys.executable, **environment)
        [installed] = checkout.folder.rglob("tiny.py")
        assert installed.parent.name == "site-packages"
        assert not Path(elsewhere).exists()
        installed.unlink()
        checkout.change_lock()


def write_wheel(folder, name, version, metadata=""):
    """Write a wheel without modules; return its line in a lock."""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(
            f"{info}/METADATA",
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{metadata}",
        )
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return f"{name}=={version} --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


@pytest.mark.slow
def test_newer_release_of_a_locked_package_is_ignored(checkout, tmp_path):
    """Also if another package wants it with an extra, as pytest-cov wants coverage[toml]."""
    (checkout.folder / "pyproject.toml").write_text(TINY)
    (checkout.folder / "backend.py").write_text(BACKEND)
    extra = "Provides-Extra: toml\n"
    lock = write_wheel(tmp_path, "base", 1, extra)
    write_wheel(tmp_path, "base", 2, extra)
    lock += write_wheel(tmp_path, "top", 1, "Requires-Dist: base[toml]>=1\n")
    (checkout.folder / "requirements.lock").write_text(lock)
    checkout.make("setup", PYTHON=sys.executable, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(tmp_path))
    installed = {path.name for path in checkout.folder.rglob("*.dist-info")}
    assert {"base-1.dist-info", "top-1.dist-info"} <= installed


def test_installed_packages_have_what_they_require():
    """pip doesn't resolve what the lock lists."""
    command = [sys.executable, "-m", "pip", "check"]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


def test_versions_of_python_agree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    low, high = map(int, re.findall(r"3\.(\d+)", project["requires-python"]))
    classified = re.findall(r"Python :: 3\.(\d+)", " ".join(project["classifiers"]))
    assert set(map(int, classified)) <= {*range(low, high)}
    assert f"(3, {low}) <= sys.version_info < (3, {high})" in (ROOT / "Makefile").read_text()
    for file in ("Makefile", "README.md", "tests/pythons.sh"):
        assert f"3.{low} to 3.{high - 1}" in " ".join((ROOT / file).read_text().split("\n# "))


def test_each_python_has_its_line(checkout, tmp_path):
    (bad := tmp_path / "bad python").write_text("#!/bin/sh\nexit 1\n")
    bad.chmod(0o755)
    (checkout.folder / "tests").mkdir()
    script = shutil.copy(ROOT / "tests/pythons.sh", checkout.folder / "tests")
    ran = subprocess.run(
        ["bash", script, bad, checkout.python],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TMPDIR": str(tmp_path), "ARGUMENTS": str(checkout.arguments)},
    )
    first, second = ran.stdout.splitlines()
    assert f"({bad}): failed; see {tmp_path}" in first
    assert f"({checkout.python}): the study ran" in second
    assert ran.returncode == 1


# --- values ------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ANY)
def test_value_reaches_the_study_as_it_is(value, checkout):
    called = ["-m", "study", "run", "assignment", "--preset", value, "--out", value]
    words = [f"OUT={value}", f"PRESET={value}", "OPTIONS=--epochs 3"]
    assert checkout.make("study", *words)[-1] == [*called, "--epochs", "3"]
    # From the environment too.
    assert checkout.make("study", OUT=value, PRESET=value)[-1] == called


@pytest.mark.parametrize("value", [value for value in ANY if " " not in value])
def test_values_reach_the_benchmarks_as_they_are(value, checkout):
    called = checkout.make("bench", f"DATA={value} x", f"NAMES={value} second")[-1]
    assert called == ["-m", "benchmarks", value, "second", "--data-dir", f"{value} x"]
    assert checkout.make("chaos", f"MINUTES={value}")[-1][-1] == value


FOLDERS = ["a b", 'it\'s & #1 (ø) 100% $HOME `x` ~ "q"', "-x", "[a]*"]


@pytest.mark.parametrize("name", FOLDERS)
def test_checkout_and_interpreter_may_have_any_path(name, tmp_path):
    checkout = Checkout(tmp_path / name / "checkout", tmp_path / name / "python 3")
    assert kinds(checkout.make("study")) == [*INSTALLATION, "study"]
    assert checkout.environment == {"bin", ".installed"}
    assert checkout.make("setup") == []
    assert kinds(checkout.make("study", f"PYTHON={checkout.python}")) == ["study"]
