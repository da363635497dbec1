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


# For each option: first what it takes, then its help.
# fmt: off


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    top = _Parser(
        prog="study",
        description="A hyperparameter study of autoencoders and few-shot classifiers. Ray Tune "
        "computes only the results that are missing.",
        epilog="exit code: 0 every replicate done; 1 something failed, the rest is kept and the "
        "report says which; 2 bad input, nothing started; 130 interrupted (Ctrl-C), 143 ended by "
        "SIGTERM, 129 by SIGHUP, 141 nobody reads the output: what is done is kept and the same "
        "command goes on from there")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, text: str, more: str = "", epilog: str = "") -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=text + more, epilog=epilog)

    plan = add(
        "plan", "the cells and replicates: how many, done, missing, and how long; starts no Ray",
        ". The time, with an 80 % range, comes from finished blocks like those that are missing; "
        "where there are none, from a few steps of a few cells, trained in some seconds (of more "
        "than 10,000 cells only with --price-per-hour).")
    run = add("run", "computes what is missing, then writes the report")
    for command in (plan, run):
        command.add_argument(
            "name", type=types.experiment,
            help=f"a study ({', '.join(STUDIES)}) or one experiment ({', '.join(EXPERIMENTS)}), "
            "which brings the experiments that it needs; or a .py file that declares one")
    search = add(
        "search",
        "finds better settings than the grid's: Optuna suggests, ASHA stops what won't win",
        ". Trials are cells like any other: what is there is used, what ran in full is kept. The "
        "best recipe is computed once more with fresh seeds, and written as a preset file.",
        "The same command goes on where it was interrupted, and does no more once the budget is "
        "spent; a larger budget extends the search.")
    _add_search(search)
    report = add("report", "the report again, from what is on disk")
    export = add(
        "export", "the best models, as files that torch alone can load, with a card",
        ": the best autoencoder, and the best classifier for each number of labels. Of the cell "
        "with the best mean on validation images it is the best replicate. Autoencoders are read; "
        "classifiers, whose weights no study keeps, are trained again from their seeds, in seconds "
        "to minutes each, which needs the images.",
        "OUT/NAME.pt2 is a torch.export program for any number of images, OUT/NAME.safetensors "
        "its weights alone, OUT/README.md the model card: data, budget, scores with intervals, "
        "licence, how to load. Exit code 0: written; 1: the process that trains was killed; 2: bad "
        "input, nothing is finished, or no model is kept.")
    export.add_argument(
        "--best", type=types.folder, metavar="OUT", required=True,
        help="folder to write to, which must be empty or not exist yet")
    for command in (report, export):
        command.add_argument(
            "results", type=types.results, metavar="RESULTS",
            help="results folder, or a place on object storage such as s3://bucket/path")
        command.add_argument(
            "--data-dir", type=types.folder, metavar="DIR",
            help="folder with the images of the study, where they have been moved: with the "
            "datasets in torchvision's layout; or your own images, or the folder that these lie in "
            "(default: where they were, then STUDY_DATA_DIR or the cache); nothing is downloaded "
            "there")
    compare = add(
        "compare",
        "two studies or more side by side: what differs, with intervals",
        ", on one page. Cells with the same settings correspond. Their replicates are paired "
        "where data and seeds are the same; else the intervals of the differences are Welch's. "
        "Each study is compared with the first; data sets, code versions and presets may differ. "
        "No images are needed.",
        "example: `study compare mnist fashion`, after `study run few-labels` with --dataset mnist "
        "--out mnist and with --dataset fashion-mnist --out fashion")
    compare.add_argument(
        "results", type=types.results, nargs="+", metavar="RESULTS",
        help="two results folders or more, or places on object storage such as s3://bucket/path; "
        "of a difference the first one is subtracted")
    compare.add_argument(
        "--out", type=types.results, default=Path("comparison"), metavar="FOLDER",
        help="where to write index.html, figures and tables (default: comparison)")
    check = add("check", "is this machine (or cluster) ready: versions, processors, data, storage")
    check.add_argument(
        "--dataset", type=types.dataset, default="mnist-5k", metavar="NAME",
        help="a name, or the path of a folder of images or of a file")
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
        f"{', '.join(f'{axis} {value}' for axis, value in space.place.items())} unless told "
        "otherwise"
        for name, space in SPACES.items()
    ]
    command.add_argument(
        "name", type=types.one_of(list(SPACES), "experiment with a search space"),
        help="; ".join(spaces))
    group = command.add_argument_group("budget (--trials, --minutes or both) and how it is spent")
    add = group.add_argument
    add("--trials", type=types.count, metavar="N",
        help="trials in all, those of earlier commands included")
    add("--minutes", type=types.positive, metavar="M",
        help="minutes in all, as above; what runs then is finished")
    add("--against", type=types.one_of(["parameters", "seconds"], "cost"), nargs="+",
        metavar="COST",
        help="what to weigh the error against, parameters, seconds or both: a search for the "
        "Pareto front instead of the least error")
    add("--fix", type=types.setting, nargs="+", default=[], metavar="NAME=VALUE",
        help="settings that are not to be searched, or have no option of their own, as width=16")
    add("--fresh", type=types.count, default=5, metavar="N",
        help="models of the best recipe and of the starting recipe, trained on fresh seeds to "
        "score them without selection bias (default 5)")
    add("--storage", metavar="URL",
        help="database of the trials, as SQLAlchemy names it, for optuna-dashboard (default: "
        "sqlite:///RESULTS/search/optuna.db)")
    add("--save", type=types.preset_file, metavar="FILE.toml",
        help="where to write the best recipe (default: RESULTS/search/best-NAME.toml)")


def _add_data(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("what to compute it from")
    group.add_argument(
        "--dataset", type=types.dataset, metavar="NAME|PATH",
        help=f"by name: {', '.join(NAMES)}, torchvision:CLASS (default: the preset's); or a path: "
        "a folder with a subfolder of images for each class (in train, val and test, if there are "
        "such), a folder of images without labels, .npz (images, labels, split), .npy, .csv (a "
        "column a pixel, and `label`) or .parquet (bytes of images, and `label`)")
    _add_data_form(group)


def _add_data_form(group: Any) -> None:
    add = group.add_argument
    add("--image-size", type=types.size, metavar="HxW",
        help="scale images to so many pixels, 32 or 40x60; of a .csv, the shape that they have")
    add("--grey", action="store_true", help="shades of grey instead of colours")
    add("--classes", nargs="+", default=[], metavar="CLASS", help="these classes alone")
    add("--limit", type=types.count, default=0, metavar="N",
        help="so many images in all, each class in its share")
    add("--group-by", default="", metavar="COLUMN",
        help="column of a .csv or .parquet whose values are never in two splits, such as a person")


def _add_settings(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("what to compute")
    add = group.add_argument
    presets = "; ".join(f"{name}: {preset.description}" for name, preset in NAMED.items())
    add("--preset", type=types.preset, default="quick", metavar="NAME",
        help=f"{presets}; or a file that ends in .toml, such as `study search` writes")
    add("--latent-dims", dest="latent_dim", type=types.count, nargs="+", metavar="D",
        help="lengths of the latent code")
    add("--depths", dest="depth", type=types.count, nargs="+", metavar="N",
        help="convolutional layers in the encoder, each of which halves the sides of the image")
    labels = group.add_mutually_exclusive_group().add_argument
    labels("--labels", type=types.count, nargs="+", metavar="N",
        help="labelled images of a few-shot classifier in all, as many of each class")
    labels("--labels-per-class", type=types.count, nargs="+", metavar="N",
        help="the same, of each class (default: 1 2 4 8 16)")
    add("--freeze", nargs="+", metavar="MODE",
        help="the few-shot encoder: fixed (pretrained, excluded from training), full "
        "(pretrained, trained along), scratch (not pretrained: the control), lp-ft (the head "
        "first, then everything), propagation (fixed; the labels spread to all training images), "
        "consistency (a network without a bottleneck learns these labels from views), "
        "logistic, svm, neighbours (fixed; the head is no network)")
    add("--pretraining", nargs="+", metavar="KIND",
        help="of the few-shot encoder: plain (default), augmented (on noisy, augmented images), "
        "variational (a beta-VAE), contrastive (views of an image have similar codes); with "
        "augmented and contrastive, the labelled images are augmented too")
    add("--networks", "--network", dest="network", type=types.network, nargs="+", metavar="KIND",
        help="convolutional (default), resnet (with residual blocks), mlp (fully connected), or "
        "FILE.py:FUNCTION, where FUNCTION((channels, height, width), d) returns an encoder and a "
        "decoder; an axis of the grid (few-shot encoders come from the first)")
    add("--widths", dest="width", type=types.count, nargs="+", metavar="N",
        help="channels after the first convolution, each further one doubles them; of an mlp, a "
        "32nd of the units of its first layer; an axis of the grid (few-shot encoders come from "
        "the first)")
    add("--losses", dest="loss", nargs="+", metavar="LOSS",
        help="what rotation learns from: absolute (naive), wrapped, cosine, von_mises, sine_cosine")
    add("--batch-sizes", dest="batch_size", type=types.count, nargs="+", metavar="N",
        help="images a minibatch, of the experiment named (of `assignment`: the autoencoder; "
        "few-shot encoders come from the first)")
    add("--epochs", type=types.count, metavar="N",
        help="passes over the training images, of the experiment named; of a study, of its "
        "autoencoder")
    add("--learning-rate", type=types.positive, metavar="X",
        help="peak of the one-cycle schedule, of the experiment named; of a study, of its "
        "autoencoder")
    add("--replicates", type=types.count, metavar="N",
        help="models a cell, each with its own seed: what intervals are made from. With more of "
        "them than before, only those that are new are computed")
    add("--encoders", type=types.whole, metavar="N",
        help="pretrained encoders that a cell's few-shot classifiers share; 0: one each, so that "
        "the classifiers are independent of one another")
    add("--seed", type=types.whole, metavar="N", help="of everything random (default 0)")
    add("--pairs", type=types.pair, nargs="+", default=[], metavar="A,B",
        help="pairs of classes to interpolate between (default: of digits, the assignment's; else "
        "the four that are confused most often)")


def _add_estimate(command: argparse.ArgumentParser) -> None:
    add = command.add_argument_group("how long, and how much").add_argument
    add("--price-per-hour", type=types.positive, metavar="X",
        help="what an hour of this machine costs, or of each worker node of a cluster, in any "
        "currency: prints the cost of what is missing, with its range")
    add("--cluster", type=types.folder, metavar="FILE.yaml",
        help="plan for the worker nodes of this Ray cluster, as many as its configuration allows, "
        "such as cluster.yaml; on the head of an autoscaled cluster, --address auto is enough")


def _add_until(command: argparse.ArgumentParser) -> None:
    add = command.add_argument_group("how many replicates").add_argument
    add("--until-decided", action="store_true",
        help="add replicates, each with its own encoder and label subset, where it is undecided "
        "whether a fixed or a trained encoder is better, a trained one or none (at each number of "
        "labels), or more layers or fewer (at each d); by a test that stays valid however often "
        "one looks")
    add("--most", type=types.count, default=64, metavar="N",
        help="replicates of a cell at most, with --until-decided (default 64)")
    add("--matters", type=types.positive, default=0.5, metavar="X",
        help="with --until-decided, a comparison is over too when its difference is known to be "
        "smaller than X percentage points of accuracy, or 2X per cent of the error (default 0.5)")


def _add_places(command: argparse.ArgumentParser) -> None:
    add = command.add_argument_group("where").add_argument
    add("--data-dir", type=types.folder, metavar="DIR",
        help="folder with the datasets that are not embedded, in torchvision's layout; what is "
        "not there is downloaded there (default: STUDY_DATA_DIR, or a folder in the cache)")
    add("--out", type=types.results, default=Path("results"), metavar="RESULTS",
        help="results folder, or a place on object storage such as s3://bucket/path, gs://… or "
        "s3://bucket/path?endpoint_override=HOST:PORT (credentials from the environment, never "
        "in the URI); what is in it is not computed again (default: results)")
    add("--address", type=types.address, default="local", metavar="WHERE",
        help="local: a Ray on this machine (default); auto or HOST:PORT: a running cluster")
    add("--cpus", type=types.count, metavar="N",
        help="CPU cores that a Ray on this machine uses in all (default: all that this process "
        "may use; affinity and a container's limits count)")
    add("--cpus-per-trial", type=types.cpus, default=1.0, metavar="X",
        help="CPU cores a trial (default 1: many small trials at once beat one on all cores)")
    add("--gpus-per-trial", type=types.gpus, default="auto", metavar="X",
        help="GPUs a trial, or a fraction of one, as 0.25; auto (default): the share that an "
        "experiment's largest block needs, measured when it runs; none where there are no GPUs")
    add("--no-report", dest="report", action="store_false",
        help="compute alone: no page, neither meanwhile nor at the end")
    add("--log", type=types.one_of(["auto", "tensorboard", "none"], "kind of log"), default="auto",
        metavar="KIND",
        help="tensorboard: curves of every trial in RESULTS/tune; none: the driver is busy half "
        "as long; auto (default): tensorboard for up to 500 blocks")
