"""The version of the code, as git names it."""

import os
import shutil
import subprocess

import pytest

from study import provenance


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A function that makes a checkout with a commit, under any file name."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))

    def make(name):
        folder = tmp_path / name
        (folder / "study").mkdir(parents=True)
        (folder / "study/provenance.py").write_text(name)
        who = ["-c", "user.name=anyone", "-c", "user.email=anyone@localhost"]
        for words in (["init", "-q"], ["add", "."], [*who, "commit", "-q", "-m", "first"]):
            subprocess.run(["git", *words], cwd=folder, check=True)
        return folder, f"git {head(folder)}"

    return make


def head(folder):
    command = ["git", "rev-parse", "--short=12", "HEAD"]
    return subprocess.run(
        command, cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


def code_of(folder, monkeypatch):
    monkeypatch.setattr(provenance, "__file__", str(folder / "study/provenance.py"))
    return provenance.code_version.__wrapped__()


@pytest.mark.parametrize("name", ["plain", "it's a & # (\xf8) $HOME", "-x"])
def test_code_is_named_by_its_commit(name, repository, monkeypatch):
    folder, commit = repository(name)
    assert code_of(folder, monkeypatch) == commit
    (folder / "study/provenance.py").write_text("changed")
    assert code_of(folder, monkeypatch) == f"{commit}+changes"


def test_git_variables_are_ignored(repository, monkeypatch):
    folder, commit = repository("ours")
    other, foreign = repository("other")
    assert commit != foreign
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / ".git/index"))
    monkeypatch.setenv("GIT_OBJECT_DIRECTORY", str(other / ".git/objects"))
    assert code_of(folder, monkeypatch) == commit


def test_folder_inside_another_repository_has_no_commit(repository, monkeypatch):
    folder, _ = repository("outer")
    inner = folder / "inner"
    shutil.copytree(folder / "study", inner / "study")
    (inner / ".git").mkdir()  # what is left of a repository
    assert code_of(inner, monkeypatch).startswith("sources ")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_checkout_of_another_user_is_named_by_its_commit(repository, monkeypatch):
    folder, commit = repository("theirs")
    for path in (folder, *folder.rglob("*")):
        os.chown(path, 12345, 12345)
    assert code_of(folder, monkeypatch) == commit
