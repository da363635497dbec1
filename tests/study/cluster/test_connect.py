"""Ray on this machine: what it may use, where it is, what it leaves."""

import sys

import pytest

from study.cluster.connect import local_options, remove_logs
from study.resources import Resources
from trainables.limits import installed_memory


def test_local_ray_uses_what_this_process_may(monkeypatch):
    monkeypatch.setattr("study.cluster.connect.cores", lambda: 3)
    monkeypatch.setattr("study.cluster.connect.memory", lambda: 10 * 2**30)
    options = local_options(Resources())
    assert (options["num_cpus"], options["object_store_memory"]) == (3, 3 * 2**30)
    assert local_options(Resources(cpus=2))["num_cpus"] == 2
    monkeypatch.setattr("study.cluster.connect.memory", installed_memory)
    assert "object_store_memory" not in local_options(Resources())


@pytest.mark.parametrize(("folder", "moved"), [("/tmp", False), ("/" + 60 * "x", True)])
def test_long_temporary_folder_is_not_used_for_sockets(folder, moved, monkeypatch):
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", folder)
    assert ("_temp_dir" in local_options(Resources())) is moved


def test_python_path_with_spaces_is_quoted(monkeypatch):
    """Ray starts Tune's workers by a shell."""
    assert "runtime_env" not in local_options(Resources()) or " " in sys.executable
    monkeypatch.setattr(sys, "executable", "/my study/bin/python")
    assert local_options(Resources())["runtime_env"] == {"py_executable": "'/my study/bin/python'"}


def test_own_logs_are_removed_and_others_kept(tmp_path):
    ours, theirs = tmp_path / "session_1", tmp_path / "session_2"
    for session in (ours, theirs):
        (session / "logs").mkdir(parents=True)
        (session / "logs" / "raylet.out").write_text("…")
    (tmp_path / "session_latest").symlink_to(ours)
    remove_logs(ours)
    assert [path.name for path in tmp_path.iterdir()] == ["session_2"]
    (tmp_path / "session_latest").symlink_to(theirs)
    remove_logs(ours)
    assert (tmp_path / "session_latest").exists()
