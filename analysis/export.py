"""The best models of a study as files that torch alone can load.

    OUT/NAME.pt2            a network with its weights, as a `torch.export` program
    OUT/NAME.safetensors    its weights alone
    OUT/README.md           what they are, how good, and how to load them: `analysis.model_card`

A store keeps only the weights of autoencoders. A classifier is trained again from its seeds, which
gives the same bits on the same hardware; its predictions are compared with those in the store.
"""

from __future__ import annotations

import io
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save
from torch import nn

from analysis.model_card import ACCURACY, ERROR, Measure, Model, Part, card
from analysis.report.sections import CLASSIFIERS
from analysis.results import AUTOENCODERS, Results, load, settings_of
from analysis.transfer import place_of, rows_of
from study.errors import DataMissing, StoreError
from study.words import counted, reason
from trainables.contract import Report
from trainables.fewshot import train as fewshot
from trainables.fewshot.settings import HEADS
from trainables.supervised import train as supervised


class NotExportable(ValueError):
    """Raised if a model can't be exported; the message says why."""


def write(folder: str | Path, out: Path, data_dir: Path | None = None) -> list[str]:
    """Write the best models of a study into the empty folder `out`; return lines on them.

    `data_dir` is as for `analysis.results.load`. Raises `StoreError` if `folder` has no study or no
    model that can be exported, or cells lack a setting. Raises `DataMissing` if the images to train
    classifiers again are missing.
    """
    results = load(folder, data_dir=data_dir)
    results.require_settings()
    where = results.store.place.where()
    if results.rows.empty:
        raise StoreError(f"{where}: nothing is finished, so there is nothing to export")
    left_out: list[str] = []
    models = list(best_models(results, left_out))
    if not models:
        known = "weights are kept of autoencoders, and classifiers are trained again"
        raise StoreError(f"{where}: no model is kept: {'; '.join(left_out) or known}")
    written = card(results, models, left_out)
    files = {name: content for model in models for name, content in model.files.items()}
    out.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (out / name).write_bytes(content)
    (out / "README.md").write_text(written, encoding="utf-8")  # last: marks the folder as complete
    size = sum(map(len, files.values())) / 2**20
    return [
        *(f"{', '.join(m.names)}: {m.title}, cell {m.cell}, {m.in_words}" for m in models),
        *(f"left out, though better on validation images: {line}" for line in left_out),
        f"models: {out / 'README.md'} and {counted(len(files), 'file')} ({size:.1f} MiB)",
    ]


def best_models(results: Results, left_out: list[str]) -> Iterator[Model]:
    """The best autoencoder, and the best classifier for each number of labels.

    Models that are better on validation images but can't be exported are added to `left_out`.
    """
    choices: list[tuple[pd.DataFrame, Measure, Callable[[Results, pd.DataFrame], Model]]] = []
    if tables := [results.of(name) for name in AUTOENCODERS if len(results.of(name))]:
        choices.append((pd.concat(tables, ignore_index=True), ERROR, autoencoder))
    # The few-shot rows of `rows_of` include the supervised network.
    found = [name for name in CLASSIFIERS if len(results.of(name))]
    if asked := dict.fromkeys("fewshot" if name == "supervised" else name for name in found):
        rows = pd.concat([rows_of(results, name) for name in asked], ignore_index=True)
        choices += [(group, ACCURACY, classifier) for _, group in rows.groupby("labels")]
    for rows, measure, make in choices:
        for group in by_validation(rows.drop_duplicates(["cell", "replicate"]), measure):
            try:
                yield make(results, group)
                break
            except DataMissing:
                raise
            except (RuntimeError, ValueError) as error:  # of the store, a setting, a user's network
                left_out.append(f"cell {group['cell'].iloc[0]}: {reason(str(error))}")


def by_validation(rows: pd.DataFrame, measure: Measure) -> Iterator[pd.DataFrame]:
    """The rows of each cell, best mean validation score first; in a cell, best replicate first."""
    column, rising = f"val_{measure.column}", measure.best == "min"
    means = rows.groupby("cell", sort=False)[column].mean()
    for cell in means.sort_values(ascending=rising, kind="stable").index:
        group = rows[rows["cell"] == cell]
        yield group.sort_values(column, ascending=rising, kind="stable")


# --- models --------------------------------------------------------------------------------------


def autoencoder(results: Results, rows: pd.DataFrame) -> Model:
    """The autoencoder of the first row of a cell. Raises `NotExportable`, `StoreError`."""
    row = rows.iloc[0]
    model = results.autoencoders(row["cell"], [row["replicate"]])[0]
    images, codes = image_words(results), f"codes (N, {row['latent_dim']})"
    parts = (
        Part("encoder", images, results.image_shape, codes),
        Part("decoder", codes, (int(row["latent_dim"]),), images),
    )
    networks = (model.encoder, model.decoder)
    network = row.get("network", "convolutional").rpartition("/")[2]
    title = f"{network} autoencoder, d = {row['latent_dim']}, {counted(row['depth'], 'layer')}"
    files = files_of(dict(zip(parts, networks, strict=True)))
    return Model(title, ERROR, parts, files, rows, row, "the weights in the store")


def classifier(results: Results, rows: pd.DataFrame) -> Model:
    """The classifier of the first row of a cell, trained again.

    Raises `NotExportable`, `StoreError`, and `DataMissing` if the images can't be read.
    """
    row = rows.iloc[0]
    if row["freeze"] in HEADS:
        raise NotExportable(f"{place_of(row)}: its head is no network")
    cell, replicate = row["cell"], int(row["replicate"])
    trainable = supervised if row["freeze"] == "supervised" else fewshot
    config = settings_of(trainable.Config, results.store.config(cell))
    parent = None
    if isinstance(row["encoder_cell"], str):
        parent = results.store.weights(row["encoder_cell"], [config.parent_replicate(replicate)])
    alone = range(replicate, replicate + 1)
    with threads_of(results, cell):
        outcome = trainable.train(config, alone, results.dataset, Report(), parent)
    new = outcome.rows[0]
    row = row.copy()
    row[["val_accuracy", "test_accuracy"]] = new["val_accuracy"], new["test_accuracy"]
    images, classes = len(results.dataset.test), len(results.classes)
    same = int(np.sum(outcome.predictions == results.predictions(cell, [replicate])))
    origin = (
        f"trained again from its seeds; {same} of {images} test predictions are the stored ones"
    )
    part = Part(
        f"classifier-{int(row['labels'])}-labels",
        image_words(results),
        results.image_shape,
        f"scores (N, {classes}), before the softmax",
    )
    files = files_of({part: outcome.networks[0]})
    return Model(place_of(row), ACCURACY, (part,), files, rows, row, origin)


def image_words(results: Results) -> str:
    """Images as inputs or outputs of networks, in words, with their shape."""
    return f"images (N, {', '.join(map(str, results.image_shape))}), pixels from 0 to 1"


@contextmanager
def threads_of(results: Results, cell: str) -> Iterator[None]:
    """Compute with the number of threads that computed a cell, on which the last bits depend."""
    before, made = torch.get_num_threads(), results.store.provenance([cell])[0].get("threads")
    torch.set_num_threads(made if isinstance(made, int) and 0 < made <= 256 else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# --- files ---------------------------------------------------------------------------------------


def files_of(networks: dict[Part, nn.Module]) -> dict[str, bytes]:
    """Both files of each network, by name. Raises `NotExportable`."""
    files = {}
    for part, network in networks.items():
        # Copied: the weights of a model that was trained with others are slices of larger tensors.
        weights = {name: value.cpu().clone() for name, value in network.state_dict().items()}
        network.load_state_dict(weights, assign=True)
        network.eval().requires_grad_(False)
        files[f"{part.name}.safetensors"] = save(weights)
        files[f"{part.name}.pt2"] = program_of(network, part.shape)
    return files


def program_of(network: nn.Module, shape: tuple[int, ...]) -> bytes:
    """A network as a `torch.export` program for N inputs (N, *shape). Raises `NotExportable`."""
    # Wrapped: encoders have a part called `code`, which would hide an attribute of torch's modules.
    wrapped = nn.Sequential(OrderedDict(network=network))
    batch = ({0: torch.export.Dim.DYNAMIC},)
    try:
        program = torch.export.export(wrapped, (torch.zeros(2, *shape),), dynamic_shapes=batch)
    except Exception as error:  # torch raises many types for a user's network
        raise NotExportable(f"torch.export fails: {reason(str(error))}") from error
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it holds this machine's paths
    file = io.BytesIO()
    torch.export.save(program, file)
    return file.getvalue()
