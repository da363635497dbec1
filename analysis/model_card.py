"""The card of exported models: Markdown with a front matter, as model hubs read it.

The front matter has Hugging Face's keys (https://huggingface.co/docs/hub/model-cards). Text from a
results folder is escaped: by YAML in the front matter, as Markdown below.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml
from markupsafe import Markup

from analysis.document import templates
from analysis.report.captions import GIVEN
from analysis.results import Results
from analysis.statistics import Interval, mean_interval
from analysis.transfer.accuracies import accuracy_interval
from study.provenance import code_version
from study.words import counted, printable
from trainables.data import is_path
from trainables.fewshot.settings import ON_ALL_IMAGES

HUB_NAMES = {
    "mnist": "ylecun/mnist",
    "mnist-5k": "ylecun/mnist",
    "fashion-mnist": "zalando-datasets/fashion_mnist",
    "cifar10": "uoft-cs/cifar10",
}
"""Hugging Face's names of datasets."""


@dataclass(frozen=True)
class Measure:
    """A score of models."""

    name: str
    """In words."""
    column: str
    """Column of rows without its prefix `val_` or `test_`; also the hub's name of the metric."""
    best: str
    """`min` if less is better, `max` if more is."""
    task: str
    """Hugging Face's name of the task."""
    digits: int
    scale: float = 1.0
    unit: str = ""

    def text(self, value: float) -> str:
        """A value in words."""
        return f"{self.scale * value:.{self.digits}f}{self.unit}"


ERROR = Measure("squared error per pixel", "mse", "min", "image-feature-extraction", 4)
ACCURACY = Measure("accuracy", "accuracy", "max", "image-classification", 1, 100.0, " %")


@dataclass(frozen=True)
class Part:
    """A network of a model, and its interface."""

    name: str
    """Name of its files."""
    takes: str
    """Inputs in words."""
    shape: tuple[int, ...]
    """Shape of one input."""
    gives: str
    """Outputs in words."""


@dataclass(frozen=True)
class Model:
    """A model that is exported."""

    title: str
    """Short description."""
    measure: Measure
    """Score by which it was chosen."""
    parts: tuple[Part, ...]
    """Its networks."""
    files: Mapping[str, bytes]
    """Contents by file name."""
    rows: pd.DataFrame
    """Rows of all replicates of its cell."""
    row: pd.Series
    """Row of this model, with the scores of the weights in the files."""
    origin: str
    """Where these weights come from."""

    @property
    def names(self) -> list[str]:
        """The names of its networks."""
        return [part.name for part in self.parts]

    @property
    def cell(self) -> str:
        """Id of its cell and number of the replicate."""
        return f"{self.row['cell']}, replicate {self.row['replicate']}"

    def score(self, split: str) -> float:
        """Score of this model on the split `val` or `test`."""
        return float(self.row[f"{split}_{self.measure.column}"])

    def interval(self, split: str) -> Interval:
        """Interval of the score over the replicates of its cell, on the split `val` or `test`."""
        column = f"{split}_{self.measure.column}"
        if self.measure is ACCURACY:
            return accuracy_interval(self.rows, column)
        return mean_interval(self.rows[column]).within(0)

    @property
    def in_words(self) -> str:
        """Its scores in words."""
        validation, test = (self.measure.text(self.score(split)) for split in ("val", "test"))
        return f"{self.measure.name} {validation} on validation images, {test} on test images"


def card(results: Results, models: Sequence[Model], left_out: Sequence[str]) -> str:
    """The card of `models`; `left_out` lists better ones that can't be exported."""
    blocks = results.store.provenance([model.row["cell"] for model in models])
    classifiers = [model for model in models if model.measure is ACCURACY]
    template = templates(finalize=markdown).get_template("model_card.md.j2")
    return template.render(
        front_matter=Markup(front_matter(results, models)),
        title=f"{results.plan['study']} on {dataset_name(results)}",
        own_images=is_path(results.plan["dataset"]),
        models=models,
        encoder=any(model.measure is ERROR for model in models),
        classifier=classifiers[-1] if classifiers else None,
        shape=results.image_shape,
        dataset=dataset_name(results),
        fingerprint=results.plan["fingerprint"],
        images=results.images,
        classes=results.classes,
        training_words=lambda model: training_words(results, model),
        kinds=list(dict.fromkeys(model.interval("test").kind for model in models)),
        given=GIVEN,
        left_out=left_out,
        command=Markup(printable(results.plan["command"])),
        made=list(dict.fromkeys(f"{made.get('code')} on {made.get('device')}" for made in blocks)),
        code=code_version(),
        torch_version=torch.__version__,
    )


def markdown(value: object) -> str:
    """`value` escaped for Markdown, on one line."""
    if isinstance(value, Markup):
        return value
    return re.sub(r"([\\`*_\[\]|~$])", r"\\\1", html.escape(printable(str(value)), quote=False))


def dataset_name(results: Results) -> str:
    """Name of the dataset; for a path, its last part."""
    return Path(results.plan["dataset"]).name


def front_matter(results: Results, models: Sequence[Model]) -> str:
    """The card's metadata as YAML."""
    dataset, own = dataset_name(results), is_path(results.plan["dataset"])
    hub_name = None if own else HUB_NAMES.get(dataset)
    found = [
        {
            "task": {"type": model.measure.task},
            "dataset": {"type": hub_name or dataset, "name": dataset, "split": "test"},
            "metrics": [
                {
                    "type": model.measure.column,
                    "value": model.score("test"),
                    "name": f"test {model.measure.name} ({', '.join(model.names)})",
                }
            ],
        }
        for model in models
    ]
    content = {
        "license": "unknown" if own else "apache-2.0",
        "library_name": "pytorch",
        "pipeline_tag": models[-1].measure.task,
        "tags": ["autoencoder", "few-shot", "torch.export", "safetensors"],
        **({"datasets": [hub_name]} if hub_name else {}),
        "metrics": list(dict.fromkeys(model.measure.column for model in models)),
        "model-index": [{"name": f"{results.plan['study']} on {dataset}", "results": found}],
    }
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def training_words(results: Results, model: Model) -> str:
    """The training budget of a model, in words."""
    row = model.row
    epochs, size = counted(row["epochs"], "epoch"), f"{row['parameters']:,} parameters"
    training = f"{results.images[0]:,} images without their labels"
    batches = f"minibatches of {row['batch_size']}"
    if model.measure is ERROR:
        return f"{epochs} of {training}, {batches}; {size}"
    labels = counted(row["labels"], "labelled image")
    if row["freeze"] in ON_ALL_IMAGES:
        text = f"{labels}; {epochs} of {training}, {batches}; {size}"
    else:
        text = f"{epochs} of {labels}, {batches}; {size}"
    if not isinstance(row["encoder_cell"], str):
        return text
    parents: Any = results.rows[results.rows["cell"] == row["encoder_cell"]]
    also = f", {counted(parents['epochs'].iloc[0], 'epoch')}" if len(parents) else ""
    encoder = f"{row['encoder_cell']}, replicate {row['encoder_replicate']:.0f}"
    return f"{text}; its encoder, of {training}{also} (cell {encoder})"
