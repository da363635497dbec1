"""The command line's options: what they are called, what they allow, and what they change."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from study.experiments import EXPERIMENTS, STUDIES, Experiment, members
from study.grid import has_setting, override
from study.presets import NAMED, PresetError, find
from study.spaces import SPACES
from study.storage import is_uri
from trainables.contract import ConfigError
from trainables.data import DATASETS

OPTION_OF = {
    "latent_dim": "--latent-dims",
    "depth": "--depths",
    "labels": "--labels",
    "freeze": "--freeze",
    "pretraining": "--pretraining",
    "loss": "--losses",
    "batch_size": "--batch-sizes",
    "replicates": "--replicates",
    "epochs": "--epochs",
    "learning_rate": "--learning-rate",
    "seed": "--seed",
}
"""The option that sets each setting of a trainable."""

SHARED = ("latent_dim", "depth", "labels", "freeze", "pretraining", "replicates", "seed")
"""Settings that an option changes in every experiment that has them. The others change the
experiment that was named, or a study's first: `--epochs` of `assignment` are the autoencoder's."""


class BadInput(ValueError):
    """Something about the command that the user has to change: one line."""

    def __init__(self, option: str, value: object, allowed: str) -> None:
        super().__init__(f"{option} {value}: {allowed}")


class NoResources(BadInput):
    """The cluster can't be reached, or can't ever give a trial what it is to be given."""


class _Parser(argparse.ArgumentParser):
    """argparse with errors of one line that name the option; exit code 2 as ever."""

    def error(self, message: str) -> NoReturn:
        message = message.removeprefix("argument ")
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


LARGEST = 2**63 - 1
"""What a column of whole numbers can hold."""

SMALLEST = 0.0001
"""The least of a resource that Ray can count."""


def _number(kind: Callable[[str], Any], what: str, least: float) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not {what}") from None
        if not math.isfinite(value) or value < least:
            raise argparse.ArgumentTypeError(f"{text} is not {what}")
        if value > LARGEST:
            raise argparse.ArgumentTypeError(f"{text} is more than 2^63 − 1")
        return value

    return parse


_count = _number(int, "an integer of at least 1", 1)
_whole = _number(int, "an integer of at least 0", 0)
_amount = _number(float, "a number of at least 0", 0)


def _positive(text: str) -> float:
    value = _amount(text)
    if value == 0:
        raise argparse.ArgumentTypeError("0 is not a number above 0")
    return float(value)


def _cpus(text: str) -> float:
    amount = _positive(text)
    if amount < SMALLEST:
        raise argparse.ArgumentTypeError(f"{text} is less than {SMALLEST}, the least there is")
    return amount


def _gpus(text: str) -> float | str:
    if text == "auto":
        return text
    amount = float(_amount(text))
    if 0 < amount < SMALLEST:
        raise argparse.ArgumentTypeError(f"{text} is less than {SMALLEST}, the least there is")
    if amount > 1 and amount != int(amount):
        raise argparse.ArgumentTypeError(f"{text} is neither a fraction of a GPU nor whole GPUs")
    return amount


def _name(choices: Sequence[str], what: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise argparse.ArgumentTypeError(f"{text!r} is not a {what}: {', '.join(choices)}")
        return text

    return parse


def _folder(text: str) -> Path:
    if not text.strip():
        # Most likely a shell variable that isn't set. As a path it would be the current folder.
        raise argparse.ArgumentTypeError(f"{text!r} is not a folder")
    return Path(text)


def _results(text: str) -> Path | str:
    return text if is_uri(text) else _folder(text)


def _preset(text: str) -> str:
    try:
        find(text)
    except PresetError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _address(text: str) -> str:
    host, _, port = text.rpartition(":")
    if text in ("local", "auto") or (host and _is_port(port)):
        return text
    raise argparse.ArgumentTypeError(f"{text!r} is not local, auto or HOST:PORT")


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) < 65536


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not (equals and name.isidentifier()):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE, as width=16")
    for kind in (int, float):
        try:
            return name, kind(value)
        except ValueError:
            continue
    return name, value


def _add_search(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name", type=_name(list(SPACES), "experiment with a search space"),
        help="; ".join(
            f"{name}: over {', '.join(d.name for d in space.dimensions)}, at "
            + ", ".join(f"{axis} {value}" for axis, value in space.place.items())
            + " unless told otherwise"
            for name, space in SPACES.items()
        ),
    )  # fmt: skip
    budget = parser.add_argument_group("budget, of which one at least, and how it is spent")
    budget.add_argument(
        "--trials", type=_count, metavar="N",
        help="trials in all, those of earlier commands included",
    )  # fmt: skip
    budget.add_argument(
        "--minutes", type=_positive, metavar="M",
        help="minutes in all, as above; what runs then is finished",
    )  # fmt: skip
    budget.add_argument(
        "--against", nargs="+", type=_name(["parameters", "seconds"], "cost"), metavar="COST",
        help="what to weigh the error against, parameters, seconds or both: a search for the "
        "Pareto front instead of the least error",
    )  # fmt: skip
    budget.add_argument(
        "--fix", nargs="+", type=_setting, default=[], metavar="NAME=VALUE",
        help="settings that are not to be searched, or have no option of their own, as width=16",
    )  # fmt: skip
    budget.add_argument(
        "--fresh", type=_count, default=5, metavar="N",
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
        type=_name([*STUDIES, *EXPERIMENTS], "study or experiment"),
        help=f"a study ({', '.join(STUDIES)}) or one experiment ({', '.join(EXPERIMENTS)}), "
        "which brings the experiments that it needs",
    )
    _add_settings(parser)


def _add_settings(parser: argparse.ArgumentParser) -> None:
    what = parser.add_argument_group("what to compute")
    presets = "; ".join(f"{name}: {preset.description}" for name, preset in NAMED.items())
    what.add_argument(
        "--preset", type=_preset, default="quick", metavar="NAME",
        help=f"{presets}; or a file that ends in .toml, such as `study search` writes",
    )  # fmt: skip
    what.add_argument(
        "--dataset", type=_name(list(DATASETS), "dataset"), metavar="NAME",
        help=f"{', '.join(DATASETS)} (default: the preset's)",
    )  # fmt: skip
    what.add_argument(
        "--latent-dims", dest="latent_dim", type=_count, nargs="+", metavar="D",
        help="lengths of the latent code",
    )  # fmt: skip
    what.add_argument(
        "--depths", dest="depth", type=_count, nargs="+", metavar="N",
        help="convolutional layers in the encoder, 1 to 4; the decoder mirrors them",
    )  # fmt: skip
    what.add_argument(
        "--labels", type=_count, nargs="+", metavar="N",
        help="labelled images of a few-shot classifier; multiples of 10, class-balanced",
    )  # fmt: skip
    what.add_argument(
        "--freeze", nargs="+", metavar="MODE",
        help="the few-shot encoder: fixed (pretrained, excluded from training), full "
        "(pretrained, trained along), scratch (not pretrained: the control), lp-ft (the head "
        "first, then everything), propagation (fixed; the labels spread to all training images)",
    )  # fmt: skip
    what.add_argument(
        "--pretraining", nargs="+", metavar="KIND",
        help="of the few-shot encoder: plain (default), augmented (on noisy, augmented images; the "
        "labelled images are augmented too)",
    )  # fmt: skip
    what.add_argument(
        "--losses", dest="loss", nargs="+", metavar="LOSS",
        help="what rotation learns from: absolute (naive), wrapped, cosine, von_mises, sine_cosine",
    )  # fmt: skip
    what.add_argument(
        "--batch-sizes", dest="batch_size", type=_count, nargs="+", metavar="N",
        help="images a minibatch, of the experiment named (of `assignment`: the autoencoder; "
        "few-shot encoders come from the first)",
    )  # fmt: skip
    what.add_argument(
        "--epochs", type=_count, metavar="N",
        help="passes over the training images, of the experiment named, as above",
    )  # fmt: skip
    what.add_argument(
        "--learning-rate", type=_positive, metavar="X",
        help="peak of the one-cycle schedule, of the experiment named, as above",
    )  # fmt: skip
    what.add_argument(
        "--replicates", type=_count, metavar="N",
        help="models a cell, each with its own seed: what intervals are made from",
    )  # fmt: skip
    what.add_argument("--seed", type=_whole, metavar="N", help="of everything random (default 0)")


def _add_places(parser: argparse.ArgumentParser) -> None:
    where = parser.add_argument_group("where")
    where.add_argument(
        "--data-dir", type=_folder, metavar="DIR",
        help="folder with the datasets that are not embedded, in torchvision's layout; what is "
        "not there is downloaded there (default: STUDY_DATA_DIR, or a folder in the cache)",
    )  # fmt: skip
    where.add_argument(
        "--out", type=_results, default=Path("results"), metavar="RESULTS",
        help="results folder, or a place on object storage such as s3://bucket/path, gs://… or "
        "s3://bucket/path?endpoint_override=HOST:PORT (credentials from the environment, never "
        "in the URI); what is in it is not computed again (default: results)",
    )  # fmt: skip
    where.add_argument(
        "--address", type=_address, default="local", metavar="WHERE",
        help="local: a Ray on this machine (default); auto or HOST:PORT: a running cluster",
    )  # fmt: skip
    where.add_argument(
        "--cpus-per-trial", type=_cpus, default=1.0, metavar="X",
        help="CPU cores a trial (default 1: many small trials at once beat one on all cores)",
    )  # fmt: skip
    where.add_argument(
        "--gpus-per-trial", type=_gpus, default="auto", metavar="X",
        help="GPUs a trial, or a fraction of one, as 0.25; auto (default): the share that an "
        "experiment's largest cell needs, measured when it runs; none where there are no GPUs",
    )  # fmt: skip


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    top = _Parser(
        prog="study",
        description="A hyperparameter study of autoencoders and few-shot classifiers: what is "
        "missing is computed by Ray Tune, what is there never again.",
        epilog="exit code: 0 every cell done; 1 some cell failed, the others are kept and the "
        "report says which; 2 bad input, nothing started; 130 interrupted (Ctrl-C), what is done "
        "is kept and the same command goes on from there",
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in (
        ("plan", "the cells: how many, done, missing; starts no Ray"),
        ("run", "computes what is missing, then writes the report"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        _add_study(command)
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
        "results", type=_results, metavar="RESULTS",
        help="results folder, or a place on object storage such as s3://bucket/path",
    )  # fmt: skip
    text = "is this machine (or cluster) ready: versions, processors, data, storage"
    check = commands.add_parser("check", help=text, description=text)
    check.add_argument(
        "--dataset", type=_name(list(DATASETS), "dataset"), default="mnist-5k", metavar="NAME",
        help=", ".join(DATASETS),
    )  # fmt: skip
    _add_places(check)
    return top


@dataclass(frozen=True)
class Selection:
    """What a `plan` or `run` command asks for."""

    name: str
    """The study or experiment."""
    dataset: str
    """The dataset's name."""
    experiments: list[Experiment]
    """With the preset and the options worked in, those that others need first."""
    asked: tuple[str, ...]
    """Names of those whose whole grid was asked for; of the others, only what these need."""


def select(arguments: argparse.Namespace, large: bool) -> Selection:
    """The experiments that `arguments` ask for; `large` says which of a preset's settings fit the
    dataset. Settings that no trial could have are found when the grid is made."""
    preset = find(arguments.preset)
    options = {name: getattr(arguments, name) for name in OPTION_OF}
    given = {name: value for name, value in options.items() if value is not None}
    experiments = members(arguments.name)
    target = arguments.name if arguments.name in EXPERIMENTS else experiments[0].name
    for name, value in given.items():
        of_interest = experiments if name in SHARED else [EXPERIMENTS[target]]
        if not any(has_setting(experiment, name) for experiment in of_interest):
            shown = " ".join(map(str, value)) if isinstance(value, list) else value
            raise BadInput(OPTION_OF[name], shown, f"{arguments.name} has no such setting")
    adjusted = []
    for experiment in experiments:
        fixed = dict(preset.fixed.get(experiment.name, {}))
        if large:
            fixed |= preset.large.get(experiment.name, {})
        experiment = override(experiment, preset.axes.get(experiment.name, {}), fixed)
        mine = {k: v for k, v in given.items() if k in SHARED or experiment.name == target}
        lists = {k: tuple(v) for k, v in mine.items() if isinstance(v, list)}
        scalars = {k: v for k, v in mine.items() if not isinstance(v, list)}
        scalars |= {k: mine[of] for k, of in experiment.also_sets.items() if of in mine}
        experiment = override(experiment, lists, scalars)
        recipes = preset.recipes_of(experiment)
        kept = {
            dim: {name: value for name, value in recipe.items() if name not in lists | scalars}
            for dim, recipe in recipes.items()
        }
        adjusted.append(replace(experiment, recipes=kept))
    asked = STUDIES.get(arguments.name, (arguments.name,))
    return Selection(arguments.name, arguments.dataset or preset.dataset, adjusted, asked)


def as_bad_input(error: ConfigError) -> BadInput:
    """A setting that is out of bounds, in the words of the command line."""
    option = OPTION_OF.get(error.field_name, error.field_name)
    return BadInput(option, error.value, f"must be {error.allowed}")
