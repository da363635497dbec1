"""Output to terminals, files and closed pipes."""

import contextlib
import io
import os
import pty
import pwd
import signal
import subprocess
import sys

import pytest

from study.__main__ import ensure_home
from study.console import console
from study.signals import Interrupted


def print_to(stream, monkeypatch, **environment):
    """Print with the study's console on a file, a pipe, or nothing."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stdout", stream)
    console().print("failed: [red]", style="red")


@pytest.mark.parametrize("forced", ["FORCE_COLOR", "CLICOLOR_FORCE", "TTY_COMPATIBLE", "COLORTERM"])
def test_files_get_no_control_codes(forced, tmp_path, monkeypatch):
    with (tmp_path / "log").open("w") as file:
        print_to(file, monkeypatch, **{forced: "1", "TERM": "xterm-256color"})
    assert (tmp_path / "log").read_bytes() == b"failed: [red]\n"


@pytest.mark.parametrize(
    ("environment", "coloured", "live"),
    [({}, True, True), ({"NO_COLOR": "1"}, False, True), ({"TERM": "dumb"}, False, False)],
)
def test_terminals_get_what_they_can_show(environment, coloured, live, monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    master, slave = pty.openpty()
    with os.fdopen(slave, "w") as terminal:
        print_to(terminal, monkeypatch, **environment)
        output = os.read(master, 1000)
        assert (b"\x1b[31m" in output) is coloured
        assert b"failed: " in output
        screen = console()
        assert (screen.is_terminal and not screen.is_dumb_terminal) is live
    os.close(master)


@pytest.mark.parametrize("sink", ["closed pipe", "/dev/full"])
def test_unwritable_output_ends_the_command(sink, monkeypatch):
    if sink == "closed pipe":
        reader, sink = os.pipe()
        os.close(reader)
    with open(sink, "w") as stream:
        with pytest.raises(Interrupted) as ending:
            print_to(stream, monkeypatch)
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # for Python's last flush
    assert ending.value.exit_code == 141


def test_console_without_stdout_is_silent(monkeypatch):
    print_to(None, monkeypatch)


PLAN = [sys.executable, "-m", "study", "plan", "autoencoder", "--dataset", "digits", "--out"]


@pytest.mark.parametrize(
    ("redirection", "code", "stderr"),
    [
        ("", 0, ""),
        ("| true; exit ${PIPESTATUS[0]}", 141, ""),
        ("> /dev/full", 141, ""),
        (">&-", 0, ""),
        ("--seed x 2>/dev/full", 2, ""),
        ("--seed x 2>&-", 2, ""),
        ("--seed -1", 2, "study plan: --seed: -1 is not an integer of at least 0"),
    ],
)
def test_plan_ends_in_order_wherever_its_output_goes(redirection, code, stderr, tmp_path):
    command = " ".join([*PLAN, str(tmp_path / "results"), redirection])
    done = subprocess.run(["bash", "-c", f"sleep 0.1; {command}"], capture_output=True, text=True)
    assert (done.returncode, done.stderr.partition(" (see")[0].strip()) == (code, stderr)


@pytest.mark.parametrize("replaced", [False, True])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_ends_a_command_in_one_line(number, replaced, monkeypatch, capsys):
    import study.commands
    from study.__main__ import main

    def busy(arguments):
        if replaced:  # as Ray's core does
            with contextlib.suppress(KeyboardInterrupt):
                signal.raise_signal(number)
            raise KeyboardInterrupt
        signal.raise_signal(number)
        raise AssertionError("it went on")

    monkeypatch.setitem(study.commands.COMMANDS, "plan", busy)
    before = signal.getsignal(number)
    assert main(["plan", "autoencoder"]) == 128 + number
    output = {signal.SIGINT: "interrupted"}.get(number, f"ended by {number.name}")
    assert capsys.readouterr().err == f"study plan: {output}\n"
    assert signal.getsignal(number) == before


def test_user_without_a_home_has_the_root_folder(monkeypatch):
    """Ray can't be imported otherwise."""

    def nameless(user):
        raise KeyError(user)

    monkeypatch.setattr(pwd, "getpwuid", nameless)
    monkeypatch.setenv("HOME", "/somewhere")
    ensure_home()
    assert os.environ["HOME"] == "/somewhere"
    monkeypatch.delenv("HOME")
    ensure_home()
    assert os.environ["HOME"] == "/"


STUCK = """
import time
from study import signals
signals.ENDING_SECONDS = 0.5
with signals.interruptible():
    while True:
        try:
            print("ready", flush=True)
            time.sleep(60)
        except KeyboardInterrupt:  # lost, as in a destructor
            pass
"""


def test_ending_that_hangs_is_cut_off():
    process = subprocess.Popen(
        [sys.executable, "-c", STUCK], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    _, output = process.communicate(timeout=30)
    assert process.returncode == 143
    assert output == "ended by SIGTERM: what is done is kept; the same command goes on from it\n"


def test_ending_that_hangs_is_cut_off_without_a_terminal():
    process = subprocess.Popen(
        [sys.executable, "-c", STUCK], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    process.stderr.close()  # writing to it is an error from now on
    process.send_signal(signal.SIGHUP)
    try:
        assert process.wait(timeout=30) == 129
    finally:
        process.kill()
        process.stdout.close()


def test_stream_that_works_is_written_to(monkeypatch):
    stream = io.StringIO()
    print_to(stream, monkeypatch)
    assert stream.getvalue() == "failed: [red]\n"
