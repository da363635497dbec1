"""Shared fixtures: real digits, few of them, double precision, the command line as a process, an
S3 server on this machine."""

import itertools
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision.datasets.mnist

from study.__main__ import main
from trainables.data import Dataset, Split, load

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """The tests' networks are tiny: threads would only wait for one another."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def shared_cache(tmp_path_factory):
    """Train the judges of a dataset once, and measure a model once, in all tests."""
    os.environ["STUDY_CACHE_DIR"] = str(tmp_path_factory.getbasetemp() / "kept")


@pytest.fixture(scope="session", autouse=True)
def handle_sigint():
    """Handle SIGINT: a script's background ignores it, and commands started there would too."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def double_precision():
    """Everything in float64, for tests of equality up to rounding."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture(scope="session")
def digits():
    """The dataset `mnist-5k`."""
    return load("mnist-5k")


@pytest.fixture
def large_data():
    """The parts of a large dataset of ten classes that options look at."""
    return SimpleNamespace(train=range(10_000), classes=tuple("0123456789"), most_labels=9000)


def first_of_each_class(split, count):
    chosen = [np.flatnonzero(split.labels == digit)[:count] for digit in range(10)]
    indices = np.stack(chosen, axis=1).reshape(-1)
    return Split(split.images[indices], split.labels[indices])


@pytest.fixture(scope="session")
def few_digits(digits):
    """100 training, 30 validation and 50 test images of `mnist-5k`, equally many of each class."""
    return Dataset(
        "few-digits",
        first_of_each_class(digits.train, 10),
        first_of_each_class(digits.validation, 3),
        first_of_each_class(digits.test, 5),
    )


@pytest.fixture
def no_network(monkeypatch):
    """Every download of torchvision fails at once."""

    def unreachable(*arguments, **options):
        raise URLError("Name or service not known")

    monkeypatch.setattr(torchvision.datasets.mnist, "download_and_extract_archive", unreachable)


@pytest.fixture(scope="session")
def copy_packages():
    """Copies the three packages to a folder, for a test that changes them."""

    def copy(folder):
        for package in ("study", "trainables", "analysis"):
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / package, folder / package, ignore=ignored)
        return folder

    return copy


@pytest.fixture(scope="session")
def run_study():
    """Run `python -m study …` as a process, from the checkout or a copy of it, optionally after
    some Python; importing a module of `without` is an error."""

    def run(*arguments, folder=ROOT, first="", without=(), **environment):
        program = ["-m", "study"]
        if first or without:
            first = first or f"sys.modules |= dict.fromkeys({list(without)})"
            main = "from study.__main__ import main; sys.exit(main())"
            program = ["-c", f"import sys; {first}; {main}"]
        return subprocess.run(
            [sys.executable, *program, *map(str, arguments)],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(folder), **environment},
            capture_output=True,
            text=True,
            timeout=240,
        )

    return run


@pytest.fixture
def refusal(capsys):
    """Runs a command that exits with 2, and returns its one line on standard error. Only if it is
    `late` has it printed something before, such as its plan."""

    def run(*arguments, late=False):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = stop.code
        captured = capsys.readouterr()
        assert code == 2 and (captured.out != "") == late, captured
        (line,) = captured.err.splitlines()
        return line

    return run


CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "anyone",
    "AWS_SECRET_ACCESS_KEY": "anything",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",  # otherwise a machine without it is asked for seconds
}


class S3:
    """moto's S3 server on its own port, with another client library than the study's.

    `STUDY_TEST_S3=PORT` names a real one on this machine instead (`make test-s3` starts Ceph's).
    """

    def __init__(self):
        # Imported here: importing them takes longer than most tests.
        import boto3

        self.server = None
        self.port = int(os.environ.get("STUDY_TEST_S3", 0))
        if not self.port:
            self.start_moto()
        self.client = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{self.port}",
            region_name="us-east-1",
            aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        )

    def start_moto(self):
        from moto.server import ThreadedMotoServer

        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]  # the same after an interruption
        self.server = ThreadedMotoServer(ip_address="127.0.0.1", port=self.port, verbose=False)
        self.server.start()

    def uri(self, bucket, path="results"):
        """The value of `--out` for a place on this server."""
        return f"s3://{bucket}/{path}?endpoint_override=127.0.0.1:{self.port}&scheme=http"

    def keys(self, bucket):
        """The names of all objects of a bucket."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return [found["Key"] for page in pages for found in page.get("Contents", [])]

    def put(self, bucket, key, content):
        self.client.put_object(Bucket=bucket, Key=key, Body=content)

    def upload(self, bucket, folder):
        """Copy a results folder to the place that `uri` names."""
        for path in Path(folder).rglob("*"):
            if path.is_file():
                self.put(bucket, f"results/{path.relative_to(folder)}", path.read_bytes())

    def get(self, bucket, key):
        return self.client.get_object(Bucket=bucket, Key=key)["Body"].read()


@pytest.fixture(scope="session")
def s3_server():
    server = S3()
    yield server
    if server.server:
        server.server.stop()


@pytest.fixture
def s3(s3_server, monkeypatch):
    """The server, with its credentials in the environment."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    return s3_server


@pytest.fixture
def moto_server(s3):
    """moto's server, for tests that reach into it."""
    if s3.server is None:
        pytest.skip("needs moto, and not a real S3 server")
    return s3.server


BUCKETS = (f"bucket-{os.getpid()}-{number}" for number in itertools.count())


@pytest.fixture
def bucket(s3):
    """The name of a new bucket."""
    name = next(BUCKETS)
    s3.client.create_bucket(Bucket=name)
    return name
