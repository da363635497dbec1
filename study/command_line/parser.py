"""The parser of the command line: commands, options and help."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NoReturn

from study.command_line import option_types as types
from study.experiments import EXPERIMENTS, STUDIES
from study.presets import NAMED
from study.search.spaces import SPACES
from trainables.data import NAMES


class _Parser(argparse.ArgumentParser):
    """`ArgumentParser` with one-line errors that name the option."""

    def error(self, message: str) -> NoReturn:
        message = message.removeprefix("argument ")
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


# Each option: its type and metavar first, then its help.
# fmt: off


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    top = _Parser(
        prog="study",
        description="A hyperparameter study of autoencoders and few-shot classifiers. Ray Tune "
        "computes only the results that are missing.",
        epilog="exit code: 0 every replicate is done; 1 something failed: the rest is kept, and "
        "the report lists the failures; 2 bad input: nothing was started; 130 interrupted "
        "(Ctrl-C), 143 ended by SIGTERM, 129 by SIGHUP, 141 the output was closed: finished "
        "results are kept, and the same command continues from them")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, text: str, more: str = "", epilog: str = "") -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=text + more, epilog=epilog)

    plan = add(
        "plan", "print how many cells and replicates are done and missing, and how long they take",
        ". The time, with its 80 % range, is estimated from finished blocks. If none is like the "
        "missing ones, a few steps of a few cells are trained, which takes some seconds (for more "
        "than 10,000 cells only with --price-per-hour). Ray is not started.")
    run = add("run", "compute the missing replicates, then write the report")
    for command in (plan, run):
        command.add_argument(
            "name", type=types.experiment,
            help=f"a study ({', '.join(STUDIES)}) or one experiment ({', '.join(EXPERIMENTS)}), "
            "with the experiments that it needs; or a .py file that declares one")
    search = add(
        "search",
        "find better settings than the grid's: Optuna suggests trials, ASHA stops bad ones early",
        ". A trial is a cell: finished cells are used, and trials that run in full are stored. The "
        "best recipe is trained again on fresh seeds, and written as a preset file.",
        "The same command continues an interrupted search. When the budget is spent, it computes "
        "nothing more; a larger budget extends the search.")
    _add_search(search)
    report = add("report", "write the report again, from stored results")
    export = add(
        "export", "export the best models as files that torch alone can load, with a model card",
        ": the best autoencoder, and the best classifier for each number of labels. Each is the "
        "best replicate of the cell with the best mean on validation images. Autoencoders are read "
        "from the results. Weights of classifiers aren't stored, so classifiers are trained again "
        "from their seeds: this takes seconds to minutes each, and needs the images.",
        "OUT/NAME.pt2 is a torch.export program for any number of images, OUT/NAME.safetensors "
        "its weights alone, OUT/README.md the model card: data, budget, scores with intervals, "
        "licence, how to load. Exit code 0: written; 1: the training process was killed; 2: bad "
        "input, no finished cell, or no stored model.")
    export.add_argument(
        "--best", type=types.folder, metavar="OUT", required=True,
        help="folder to write to; it must be empty or not exist yet")
    for command in (report, export):
        command.add_argument(
            "results", type=types.results, metavar="RESULTS",
            help="results folder, or a place on object storage such as s3://bucket/path")
        command.add_argument(
            "--data-dir", type=types.folder, metavar="DIR",
            help="folder with the study's images, if they have been moved: datasets in "
            "torchvision's layout, your own images, or the parent folder of these (default: where "
            "they were, then STUDY_DATA_DIR or the cache); nothing is downloaded there")
    compare = add(
        "compare",
        "compare two or more studies on one page: differences, with intervals",
        ". Each study is compared with the first; datasets, code versions and presets may differ. "
        "Cells with the same settings are compared. Their replicates are paired if data and seeds "
        "are the same; else the intervals of the differences are Welch's. No images are needed.",
        "example: `study compare mnist fashion`, after `study run few-labels` with --dataset mnist "
        "--out mnist and with --dataset fashion-mnist --out fashion")
    compare.add_argument(
        "results", type=types.results, nargs="+", metavar="RESULTS",
        help="two or more results folders, or URIs of object storage such as s3://bucket/path; a "
        "difference is the other study minus the first")
    compare.add_argument(
        "--out", type=types.results, default=Path("comparison"), metavar="FOLDER",
        help="where to write index.html, figures and tables (default: comparison)")
    check = add("check", "check this machine or cluster: versions, processors, data, storage")
    check.add_argument(
        "--dataset", type=types.dataset, default="mnist-5k", metavar="NAME",
        help="a name, or the path of a file or of a folder of images")
    for command in (plan, run, search):
        _add_data(command)
        _add_settings(command)
    _add_data_form(check)
    _add_estimate(plan)
    _add_until(run)
    for command in (plan, run, search, check):
        _add_places(command)
    return top


def _add_search(command: argparse.ArgumentParser) -> None:
    spaces = [
        f"{name}: over {', '.join(dimension.name for dimension in space.dimensions)}, at "
        f"{', '.join(f'{axis} {value}' for axis, value in space.defaults.items())} by default"
        for name, space in SPACES.items()
    ]
    command.add_argument(
        "name", type=types.one_of(list(SPACES), "an experiment with a search space"),
        help="; ".join(spaces))
    group = command.add_argument_group("budget (--trials, --minutes or both) and objectives")
    add = group.add_argument
    add("--trials", type=types.count, metavar="N",
        help="trials of each latent dimension, including those of earlier commands")
    add("--minutes", type=types.positive, metavar="M",
        help="minutes of each latent dimension's trials, including those of earlier commands; "
        "running trials are finished")
    add("--against", type=types.one_of(["parameters", "seconds"], "a cost"), nargs="+",
        metavar="COST",
        help="further objectives besides the error: parameters, seconds or both; the search is "
        "then for the Pareto front, not for the least error")
    add("--fix", type=types.setting, nargs="+", default=[], metavar="NAME=VALUE",
        help="settings to exclude from the search, or without an option of their own: width=16")
    add("--fresh", type=types.count, default=5, metavar="N",
        help="replicates of the best and of the starting recipe, trained on fresh seeds to score "
        "them without selection bias (default 5)")
    add("--storage", metavar="URL",
        help="database of the trials (a URL of SQLAlchemy's), for optuna-dashboard (default: "
        "sqlite:///RESULTS/search/optuna.db)")
    add("--save", type=types.preset_file, metavar="FILE.toml",
        help="preset file to write the best recipe to (default: RESULTS/search/best-NAME.toml, or "
        "with a bucket ./best-NAME.toml)")


def _add_data(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("data")
    group.add_argument(
        "--dataset", type=types.dataset, metavar="NAME|PATH",
        help=f"by name: {', '.join(NAMES)}, torchvision:CLASS (default: the preset's); or a path: "
        "a folder with a subfolder of images for each class (within train, val and test, if these "
        "exist), a folder of images without labels, .npz (images, labels, split), .npy, .csv (a "
        "column a pixel, and `label`) or .parquet (bytes of images, and `label`)")
    _add_data_form(group)


def _add_data_form(group: Any) -> None:
    add = group.add_argument
    add("--image-size", type=types.size, metavar="HxW",
        help="size in pixels to scale images to: 32 or 40x60; for a .csv of images that aren't "
        "square, their size")
    add("--grey", action="store_true", help="use shades of grey instead of colours")
    add("--classes", nargs="+", default=[], metavar="CLASS", help="use only these classes")
    add("--limit", type=types.count, default=0, metavar="N",
        help="use only N images, with each class in its share")
    add("--group-by", default="", metavar="COLUMN",
        help="column of a .csv or .parquet whose values are never in two splits, such as a person")


def _add_settings(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("models and training")
    add = group.add_argument
    presets = "; ".join(f"{name}: {preset.description}" for name, preset in NAMED.items())
    add("--preset", type=types.preset, default="quick", metavar="NAME",
        help=f"{presets}; or a .toml file, such as `study search` writes")
    add("--latent-dims", dest="latent_dim", type=types.count, nargs="+", metavar="D",
        help="lengths of the latent code")
    add("--depths", dest="depth", type=types.count, nargs="+", metavar="N",
        help="convolutional layers in the encoder; each halves the sides of the image")
    labels = group.add_mutually_exclusive_group().add_argument
    labels("--labels", type=types.count, nargs="+", metavar="N",
        help="labelled images of a few-shot classifier in total, equally many of each class")
    labels("--labels-per-class", type=types.count, nargs="+", metavar="N",
        help="labelled images of each class (default: 1 2 4 8 16)")
    add("--freeze", nargs="+", metavar="MODE",
        help="the few-shot encoder: fixed (pretrained, excluded from training), full "
        "(pretrained, trained with the head), scratch (not pretrained: the control), lp-ft (first "
        "the head is trained, then everything), propagation (fixed; labels spread to all training "
        "images), consistency (a network without a bottleneck learns the spread labels from "
        "views), logistic, svm, neighbours (fixed; the head is not a network)")
    add("--pretraining", nargs="+", metavar="KIND",
        help="pretraining of the few-shot encoder: plain (default), augmented (on noisy, "
        "augmented images), variational (a beta-VAE), contrastive (views of an image have similar "
        "codes); with augmented and contrastive, the labelled images are augmented too")
    add("--networks", "--network", dest="network", type=types.network, nargs="+", metavar="KIND",
        help="convolutional (default), resnet (with residual blocks), mlp (fully connected), or "
        "FILE.py:FUNCTION, where FUNCTION((channels, height, width), d) returns an encoder and a "
        "decoder; an axis of the grid (few-shot encoders come from the first)")
    add("--widths", dest="width", type=types.count, nargs="+", metavar="N",
        help="channels after the first convolution; each further one doubles them; for an mlp, "
        "the units of its first layer / 32; an axis of the grid (few-shot encoders come from the "
        "first)")
    add("--losses", dest="loss", nargs="+", metavar="LOSS",
        help="losses of `rotation`: absolute (naive), wrapped, cosine, von_mises, sine_cosine")
    add("--batch-sizes", dest="batch_size", type=types.count, nargs="+", metavar="N",
        help="images per minibatch of the named experiment, or of a study's autoencoder "
        "(few-shot encoders come from the first value)")
    add("--epochs", type=types.count, metavar="N",
        help="training epochs of the named experiment, or of a study's autoencoder")
    add("--learning-rate", type=types.positive, metavar="X",
        help="peak learning rate of the named experiment, or of a study's autoencoder")
    add("--replicates", type=types.count, metavar="N",
        help="models per cell, each with its own seed; intervals are computed from them. "
        "Replicates that are stored are not computed again")
    add("--encoders", type=types.whole, metavar="N",
        help="number of pretrained encoders that a cell's few-shot classifiers share; 0: one each, "
        "so that the classifiers are independent")
    add("--seed", type=types.whole, metavar="N", help="seed of all random numbers (default 0)")
    add("--pairs", type=types.pair, nargs="+", default=[], metavar="A,B",
        help="pairs of classes to interpolate between (default: for digits, the assignment's; else "
        "the four pairs that are confused most often)")


def _add_estimate(command: argparse.ArgumentParser) -> None:
    add = command.add_argument_group("time and cost").add_argument
    add("--price-per-hour", type=types.positive, metavar="X",
        help="price of an hour of this machine, or of each worker node of a cluster, in any "
        "currency; prints the cost of the missing replicates, with its range")
    add("--cluster", type=types.folder, metavar="FILE.yaml",
        help="configuration of a Ray cluster, such as cluster.yaml: plan for all worker nodes that "
        "it allows; on the head of an autoscaled cluster, --address auto is enough")


def _add_until(command: argparse.ArgumentParser) -> None:
    add = command.add_argument_group("number of replicates").add_argument
    add("--until-decided", action="store_true",
        help="add replicates, each with its own encoder and label subset, until each comparison is "
        "decided: fixed or trained encoder, trained encoder or none (at each number of labels), "
        "more or fewer layers (at each d); the test stays valid however often it is repeated")
    add("--most", type=types.count, metavar="N",
        help="with --until-decided, the largest number of replicates of a cell (default 64)")
    add("--matters", type=types.positive, metavar="X",
        help="with --until-decided, a comparison also ends when its difference is known to be "
        "smaller than X percentage points of accuracy, or 2X per cent of the error (default 0.5)")


def _add_places(command: argparse.ArgumentParser) -> None:
    add = command.add_argument_group("places and resources").add_argument
    add("--data-dir", type=types.folder, metavar="DIR",
        help="folder for datasets that are not embedded, in torchvision's layout; missing ones are "
        "downloaded to it (default: STUDY_DATA_DIR, or a folder in the cache)")
    add("--out", type=types.results, default=Path("results"), metavar="RESULTS",
        help="results folder, or a place on object storage such as s3://bucket/path, gs://… or "
        "s3://bucket/path?endpoint_override=HOST:PORT (credentials from the environment, never "
        "in the URI); stored results are not computed again (default: results)")
    add("--address", type=types.address, default="local", metavar="WHERE",
        help="local: start Ray here (default); auto or HOST:PORT: join a running cluster")
    add("--cpus", type=types.count, metavar="N",
        help="CPU cores that Ray uses on this machine (default: all that this process may use, by "
        "its affinity and its container's limits)")
    add("--cpus-per-trial", type=types.cpus, default=1.0, metavar="X",
        help="CPU cores per trial (default 1: many small trials at once beat one on all cores)")
    add("--gpus-per-trial", type=types.gpus, default="auto", metavar="X",
        help="GPUs per trial, or a fraction of one: 0.25; auto (default): the share that an "
        "experiment's largest block needs, measured at the start; none without GPUs")
    add("--no-report", dest="report", action="store_false",
        help="write no report, neither during the study nor at the end")
    add("--log", type=types.one_of(["auto", "tensorboard", "none"], "a kind of log"),
        default="auto", metavar="KIND",
        help="tensorboard: write curves of every trial to RESULTS/tune; none: write none, which "
        "halves the driver's work; auto (default): tensorboard for up to 500 blocks")
