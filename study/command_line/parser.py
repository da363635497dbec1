"""The command line: its commands, their options, and the help that teaches them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NoReturn

from study.command_line.option_types import (
    address,
    count,
    cpus,
    folder,
    gpus,
    one_of,
    positive,
    preset,
    results,
    setting,
    whole,
)
from study.experiments import EXPERIMENTS, STUDIES
from study.presets import NAMED
from study.search.spaces import SPACES
from trainables.data import DATASETS


class _Parser(argparse.ArgumentParser):
    """argparse with errors of one line that name the option; exit code 2 as ever."""

    def error(self, message: str) -> NoReturn:
        message = message.removeprefix("argument ")
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def _add_search(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name", type=one_of(list(SPACES), "experiment with a search space"),
        help="; ".join(
            f"{name}: over {', '.join(d.name for d in space.dimensions)}, at "
            + ", ".join(f"{axis} {value}" for axis, value in space.place.items())
            + " unless told otherwise"
            for name, space in SPACES.items()
        ),
    )  # fmt: skip
    budget = parser.add_argument_group("budget, of which one at least, and how it is spent")
    budget.add_argument(
        "--trials", type=count, metavar="N",
        help="trials in all, those of earlier commands included",
    )  # fmt: skip
    budget.add_argument(
        "--minutes", type=positive, metavar="M",
        help="minutes in all, as above; what runs then is finished",
    )  # fmt: skip
    budget.add_argument(
        "--against", nargs="+", type=one_of(["parameters", "seconds"], "cost"), metavar="COST",
        help="what to weigh the error against, parameters, seconds or both: a search for the "
        "Pareto front instead of the least error",
    )  # fmt: skip
    budget.add_argument(
        "--fix", nargs="+", type=setting, default=[], metavar="NAME=VALUE",
        help="settings that are not to be searched, or have no option of their own, as width=16",
    )  # fmt: skip
    budget.add_argument(
        "--fresh", type=count, default=5, metavar="N",
        help="models of the best recipe, and of the one that was there before, on seeds that "
        "chose nothing (default 5)",
    )  # fmt: skip
    budget.add_argument(
        "--storage", metavar="URL",
        help="database of the trials, as SQLAlchemy names it, for optuna-dashboard (default: "
        "sqlite:///RESULTS/search/optuna.db)",
    )  # fmt: skip
    budget.add_argument(
        "--save", type=Path, metavar="FILE",
        help="where to write the best recipe (default: RESULTS/search/best-NAME.toml)",
    )  # fmt: skip
    _add_settings(parser)
    _add_places(parser)


def _add_study(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name",
        type=one_of([*STUDIES, *EXPERIMENTS], "study or experiment"),
        help=f"a study ({', '.join(STUDIES)}) or one experiment ({', '.join(EXPERIMENTS)}), "
        "which brings the experiments that it needs",
    )
    _add_settings(parser)


def _add_settings(parser: argparse.ArgumentParser) -> None:
    what = parser.add_argument_group("what to compute")
    presets = "; ".join(f"{name}: {preset.description}" for name, preset in NAMED.items())
    what.add_argument(
        "--preset", type=preset, default="quick", metavar="NAME",
        help=f"{presets}; or a file that ends in .toml, such as `study search` writes",
    )  # fmt: skip
    what.add_argument(
        "--dataset", type=one_of(list(DATASETS), "dataset"), metavar="NAME",
        help=f"{', '.join(DATASETS)} (default: the preset's)",
    )  # fmt: skip
    what.add_argument(
        "--latent-dims", dest="latent_dim", type=count, nargs="+", metavar="D",
        help="lengths of the latent code",
    )  # fmt: skip
    what.add_argument(
        "--depths", dest="depth", type=count, nargs="+", metavar="N",
        help="convolutional layers in the encoder, 1 to 4; the decoder mirrors them",
    )  # fmt: skip
    what.add_argument(
        "--labels", type=count, nargs="+", metavar="N",
        help="labelled images of a few-shot classifier; multiples of 10, class-balanced",
    )  # fmt: skip
    what.add_argument(
        "--freeze", nargs="+", metavar="MODE",
        help="the few-shot encoder: fixed (pretrained, excluded from training), full "
        "(pretrained, trained along), scratch (not pretrained: the control), lp-ft (the head "
        "first, then everything), propagation (fixed; the labels spread to all training images), "
        "logistic, svm, neighbours (fixed; the head is no network)",
    )  # fmt: skip
    what.add_argument(
        "--pretraining", nargs="+", metavar="KIND",
        help="of the few-shot encoder: plain (default), augmented (on noisy, augmented images; the "
        "labelled images are augmented too)",
    )  # fmt: skip
    what.add_argument(
        "--networks", dest="network", nargs="+", metavar="KIND",
        help="convolutional (default) or mlp, fully connected; an axis of the grid",
    )  # fmt: skip
    what.add_argument(
        "--widths", dest="width", type=count, nargs="+", metavar="N",
        help="channels after the first convolution, each further one doubles them; of an mlp, a "
        "32nd of the units of its first layer; an axis of the grid",
    )  # fmt: skip
    what.add_argument(
        "--losses", dest="loss", nargs="+", metavar="LOSS",
        help="what rotation learns from: absolute (naive), wrapped, cosine, von_mises, sine_cosine",
    )  # fmt: skip
    what.add_argument(
        "--batch-sizes", dest="batch_size", type=count, nargs="+", metavar="N",
        help="images a minibatch, of the experiment named (of `assignment`: the autoencoder; "
        "few-shot encoders come from the first)",
    )  # fmt: skip
    what.add_argument(
        "--epochs", type=count, metavar="N",
        help="passes over the training images, of the experiment named, as above",
    )  # fmt: skip
    what.add_argument(
        "--learning-rate", type=positive, metavar="X",
        help="peak of the one-cycle schedule, of the experiment named, as above",
    )  # fmt: skip
    what.add_argument(
        "--replicates", type=count, metavar="N",
        help="models a cell, each with its own seed: what intervals are made from. With more of "
        "them than before, only those that are new are computed",
    )  # fmt: skip
    what.add_argument(
        "--encoders", type=whole, metavar="N",
        help="pretrained encoders that a cell's few-shot classifiers share; 0: one each, so that "
        "the classifiers are independent of one another",
    )  # fmt: skip
    what.add_argument("--seed", type=whole, metavar="N", help="of everything random (default 0)")


def _add_until(parser: argparse.ArgumentParser) -> None:
    until = parser.add_argument_group("how many replicates")
    until.add_argument(
        "--until-decided", action="store_true",
        help="add replicates, each with its own encoder and label subset, where it is undecided "
        "whether a fixed or a trained encoder is better, a trained one or none (at each number of "
        "labels), or more layers or fewer (at each d); by a test that stays valid however often "
        "one looks",
    )  # fmt: skip
    until.add_argument(
        "--most", type=count, default=64, metavar="N",
        help="replicates of a cell at most, with --until-decided (default 64)",
    )  # fmt: skip
    until.add_argument(
        "--matters", type=positive, default=0.5, metavar="X",
        help="with --until-decided, a comparison is over too when its difference is known to be "
        "smaller than X percentage points of accuracy, or 2X per cent of the error (default 0.5)",
    )  # fmt: skip


def _add_places(parser: argparse.ArgumentParser) -> None:
    where = parser.add_argument_group("where")
    where.add_argument(
        "--data-dir", type=folder, metavar="DIR",
        help="folder with the datasets that are not embedded, in torchvision's layout; what is "
        "not there is downloaded there (default: STUDY_DATA_DIR, or a folder in the cache)",
    )  # fmt: skip
    where.add_argument(
        "--out", type=results, default=Path("results"), metavar="RESULTS",
        help="results folder, or a place on object storage such as s3://bucket/path, gs://… or "
        "s3://bucket/path?endpoint_override=HOST:PORT (credentials from the environment, never "
        "in the URI); what is in it is not computed again (default: results)",
    )  # fmt: skip
    where.add_argument(
        "--address", type=address, default="local", metavar="WHERE",
        help="local: a Ray on this machine (default); auto or HOST:PORT: a running cluster",
    )  # fmt: skip
    where.add_argument(
        "--cpus-per-trial", type=cpus, default=1.0, metavar="X",
        help="CPU cores a trial (default 1: many small trials at once beat one on all cores)",
    )  # fmt: skip
    where.add_argument(
        "--gpus-per-trial", type=gpus, default="auto", metavar="X",
        help="GPUs a trial, or a fraction of one, as 0.25; auto (default): the share that an "
        "experiment's largest block needs, measured when it runs; none where there are no GPUs",
    )  # fmt: skip
    where.add_argument(
        "--log", type=one_of(["auto", "tensorboard", "none"], "kind of log"), default="auto",
        metavar="KIND",
        help="tensorboard: curves of every trial in RESULTS/tune; none: the driver is busy half as "
        "long; auto (default): tensorboard for up to 500 blocks",
    )  # fmt: skip


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    top = _Parser(
        prog="study",
        description="A hyperparameter study of autoencoders and few-shot classifiers: what is "
        "missing is computed by Ray Tune, what is there never again.",
        epilog="exit code: 0 every replicate done; 1 something failed, the rest is kept and the "
        "report says which; 2 bad input, nothing started; 130 interrupted (Ctrl-C), what is done "
        "is kept and the same command goes on from there",
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in (
        ("plan", "the cells and replicates: how many, done, missing; starts no Ray"),
        ("run", "computes what is missing, then writes the report"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        _add_study(command)
        if name == "run":
            _add_until(command)
        _add_places(command)
    text = "finds better settings than the grid's: Optuna suggests, ASHA stops what won't win"
    _add_search(commands.add_parser(
        "search", help=text, description=f"{text}. Trials are cells like any other: what is "
        "there is used, what ran in full is kept. The best recipe is computed once more with "
        "fresh seeds, and written as a preset file.",
        epilog="The same command goes on where it was interrupted, and does no more once the "
        "budget is spent; a larger budget extends the search.",
    ))  # fmt: skip
    report = commands.add_parser(
        "report", help="the report again, from what is on disk",
        description="the report again, from what is on disk",
    )  # fmt: skip
    report.add_argument(
        "results", type=results, metavar="RESULTS",
        help="results folder, or a place on object storage such as s3://bucket/path",
    )  # fmt: skip
    text = "is this machine (or cluster) ready: versions, processors, data, storage"
    check = commands.add_parser("check", help=text, description=text)
    check.add_argument(
        "--dataset", type=one_of(list(DATASETS), "dataset"), default="mnist-5k", metavar="NAME",
        help=", ".join(DATASETS),
    )  # fmt: skip
    _add_places(check)
    return top
