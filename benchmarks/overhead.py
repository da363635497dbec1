"""Ray Tune as commonly written against this study: few-shot fits, and the whole quick grid.

The common way (`plain_tune`) would take an hour for the whole grid. So a random sample of each kind
of fits is run by Tune and extrapolated; the lines of the table say so.
"""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any

from safetensors.torch import save_file

from benchmarks.commands import assignment, run
from benchmarks.measure import Line, Options, Sample, Stratum, extrapolate
from benchmarks.our_tune import planned_cells
from study.experiments import AUTOENCODER, FEWSHOT, Experiment
from study.grid import Cell, override, plan, record
from study.presets import NAMED
from study.store import Store
from trainables.data import default_data_dir, load
from trainables.fewshot.settings import HEADS

SAMPLE_SIZE = 8
"""Number of fits of each kind that are run as commonly written."""

Fit = dict[str, Any]
"""A trial of `plain_tune`: `kind`, `settings`, `replicate`, `encoder`, cell id, and perhaps
`target_error`."""

PLAIN = "autoencoder by the common recipe"
"""The kind of fits that have a target error."""


def run_module(module: str, task: dict[str, Any], path: Path) -> dict[str, Any]:
    """Run a module on a task file and return the JSON that it prints last."""
    path.write_text(json.dumps(task), encoding="utf-8")
    command = run("-m", module, path)
    return json.loads(next(line for _, line in reversed(command.lines) if line.startswith("{")))


def fits_of(cells: list[Cell], encoders: Path) -> dict[str, list[Fit]]:
    """One fit per replicate of every cell, by kind: `autoencoder` or the arm."""
    kinds: dict[str, list[Fit]] = {}
    for cell in cells:
        name = cell.experiment.name
        for replicate in range(cell.replicates):
            source = encoder_file(encoders, cell, replicate)
            fit = {
                "cell": cell.id,
                "kind": name,
                "settings": dict(cell.config),
                "replicate": replicate,
                "encoder": str(source) if source else "",
            }
            kinds.setdefault(cell.config.get("freeze", name), []).append(fit)
    return kinds


def encoder_file(folder: Path, cell: Cell, replicate: int) -> Path | None:
    """Path at which `export_encoders` writes the encoder of a replicate; None without a parent."""
    if cell.parent is None:
        return None
    return folder / f"{cell.parent.id}-{cell.settings.parent_replicate(replicate)}.safetensors"


def export_encoders(store: Store, cells: list[Cell], folder: Path) -> None:
    """Write the parents' weights as files that the common way loads."""
    folder.mkdir(parents=True, exist_ok=True)
    for cell in cells:
        if cell.parent is None:
            continue
        sources = list(map(cell.settings.parent_replicate, range(cell.replicates)))
        weights = store.weights(cell.parent.id, sources)
        for replicate, source in enumerate(sources):
            path = encoder_file(folder, cell, replicate)
            if path and not path.exists():
                save_file({k: v.contiguous() for k, v in weights[source].items()}, path)


@dataclass(frozen=True)
class FitSample:
    """A sample of the fits of one kind, as commonly written."""

    stratum: Stratum
    fits: list[Fit]
    quality: list[float]
    """Test accuracy, or test MSE, of each."""
    epochs: list[int]
    """Epochs that each fit took to reach its target error; 0 without a target."""

    def quality_text(self, store: Store) -> str:
        """Mean quality of these fits in `store` ("here") and as commonly written ("there")."""
        rows = store.rows(replicates_of(self.fits)).set_index(["cell", "replicate"])
        column = "test_mse" if self.fits[0]["kind"] == "autoencoder" else "test_accuracy"
        here = mean(rows[column].loc[(f["cell"], f["replicate"])] for f in self.fits)
        there = mean(self.quality)
        text = f"{column} of the same {len(self.fits)} fits: {here:.4f} here, {there:.4f} there"
        if any(self.epochs):
            few, many = min(self.epochs), max(self.epochs)
            text += f" after {median(self.epochs):.0f} epochs ({few} … {many})"
        return text


def replicates_of(fits: list[Fit]) -> dict[str, int]:
    """Number of replicates to read for these fits, by cell."""
    return {
        fit["cell"]: max(f["replicate"] for f in fits if f["cell"] == fit["cell"]) + 1
        for fit in fits
    }


def sample(options: Options, kinds: dict[str, list[Fit]], dataset: str) -> dict[str, FitSample]:
    """Run a random sample of the fits of each kind as commonly written."""
    samples = {}
    draw = random.Random(0)
    for kind, fits in kinds.items():
        chosen = draw.sample(fits, min(2 if options.tiny else SAMPLE_SIZE, len(fits)))
        options.say(f"overhead: {len(chosen)} of {len(fits)} {kind} fits, as commonly written")
        task = {
            "dataset": dataset,
            "data_dir": str(options.data_dir or default_data_dir()),
            "folder": str((options.folder / "plain-tune").resolve()),
            "fits": chosen,
        }
        result = run_module("benchmarks.plain_tune", task, options.folder / "plain.json")
        # Tune numbers its trials in the order of the grid, which is the order of the fits.
        stratum = Stratum(len(fits), result["wall"], [fit["seconds"] for fit in result["fits"]])
        quality, epochs = ([fit[key] for fit in result["fits"]] for key in ("quality", "epochs"))
        samples[kind] = FitSample(stratum, chosen, quality, epochs)
    return samples


def with_target_errors(fits: list[Fit], store: Store) -> list[Fit]:
    """The same autoencoder fits, with the test errors of the study as target errors."""
    errors = store.rows(replicates_of(fits)).set_index(["cell", "replicate"])["test_mse"]
    return [
        fit | {"target_error": float(errors.loc[(fit["cell"], fit["replicate"])])} for fit in fits
    ]


def compute(options: Options, groups: list[list[Cell]], dataset: str, folder: Path) -> float:
    """Wall-clock seconds of this study's Tuner on the cells that the folder lacks.

    Cells of a group may build on cells of the groups before.
    """
    task = {
        "dataset": dataset,
        "data_dir": str(options.data_dir or ""),
        "folder": str(folder),
        "experiments": record(
            "",
            "",
            load(dataset, options.data_dir),
            None,
            [cells[0].experiment for cells in groups],
            groups,
        )["experiments"],
    }
    return run_module("benchmarks.our_tune", task, options.folder / "ours.json")["wall"]


def few_shot_grid(options: Options) -> tuple[str, list[Experiment]]:
    """The dataset, full MNIST (`mnist-5k` in tests), and the quick preset's few-shot grid.

    The grid has one cell of encoders per latent dimension.
    """
    preset = NAMED["smoke" if options.tiny else "quick"]
    encoder_settings = dict(preset.fixed["autoencoder"])
    depths = preset.axes["fewshot"]["depth"] if options.tiny else FEWSHOT.axes["depth"]
    if not options.tiny:
        encoder_settings |= preset.large["autoencoder"]
    encoders = override(
        AUTOENCODER,
        {**preset.axes.get("autoencoder", {}), "depth": depths, "batch_size": (32,)},
        encoder_settings,
    )
    classifiers = override(
        FEWSHOT,
        {**preset.axes.get("fewshot", {}), "freeze": ("fixed", "full")},
        preset.fixed["fewshot"],
    )
    return "mnist-5k" if options.tiny else "mnist", [encoders, classifiers]


def few_shot(options: Options) -> list[Line]:
    """Time few-shot fits, `fixed` and `full` separately: each way's Tuner without Ray's start."""
    dataset, chosen = few_shot_grid(options)
    autoencoders, classifiers = plan(chosen, load(dataset, options.data_dir).fingerprint)
    pretrained = options.folder / "pretrained"
    options.say(f"overhead: pretraining, {len(autoencoders)} cells")
    compute(options, [autoencoders], dataset, pretrained)
    export_encoders(Store(pretrained), classifiers, options.folder / "encoders")
    kinds = fits_of(classifiers, options.folder / "encoders")
    samples = sample(options, kinds, dataset)
    lines = []
    for kind, at_least in (("fixed", 80.0), ("full", 5.0)):
        cells = [cell for cell in classifiers if cell.config["freeze"] == kind]
        walls = []
        for turn in range(options.repeats):
            options.say(f"overhead: {len(cells)} cells of {kind}, round {turn + 1}")
            folder = options.folder / f"fewshot-{kind}-{turn}"
            shutil.copytree(pretrained, folder)
            walls.append(compute(options, [autoencoders, cells], dataset, folder))
        fits = len(kinds[kind])
        study_seconds = Sample(tuple(wall / fits for wall in walls))
        stratum = samples[kind].stratum
        quality = samples[kind].quality_text(Store(folder))
        note = f"{len(stratum.seconds)} of the grid's {fits} fits, at random"
        lines += [
            Line(
                f"few-shot, {kind}: a fit, Ray Tune as commonly written",
                Sample((stratum.mean,)),
                "s",
                note=f"{note}; standard error {stratum.relative_error:.1%}",
                details={"seconds": list(stratum.seconds)},
            ),
            Line(f"few-shot, {kind}: a fit, study", study_seconds, "s", note=f"all {fits} fits"),
            Line(
                f"few-shot, {kind}, per fit against Ray Tune as commonly written",
                Sample(tuple(stratum.mean / seconds for seconds in study_seconds.values)),
                "×",
                at_least=at_least,
                quality=quality,
            ),
        ]
    return lines


def whole_grid(options: Options) -> list[Line]:
    """Time `study run assignment`, report included, against its grid in Ray Tune.

    Ray Tune uses the common recipe until it reaches the same errors, or the study's recipe, so that
    only the layout of the work differs. The study's time also includes its checks, its control and
    its heads without a network.
    """
    command, store = assignment(options)
    cells = [
        cell
        for group in planned_cells(store.plan())
        for cell in group
        if cell.experiment.name in ("autoencoder", "fewshot")
        and cell.config.get("freeze") not in HEADS
    ]
    export_encoders(store, cells, options.folder / "encoders")
    kinds = fits_of(cells, options.folder / "encoders")
    same_recipe = sample(options, kinds, "mnist-5k")
    plain = sample(options, {PLAIN: with_target_errors(kinds["autoencoder"], store)}, "mnist-5k")
    common = plain | {name: kind for name, kind in same_recipe.items() if name != "autoencoder"}
    fits = sum(len(kind) for kind in kinds.values())
    lines = [
        Line(
            f"assignment, {fits} fits: study",
            Sample((command.seconds,)),
            "s",
            note="one run, with Ray's start and the report",
        ),
        Line(
            "the same without the report",
            Sample((command.seconds_until("computed in"),)),
            "s",
            note="the same run, with Ray's start",
        ),
    ]
    for recipe, samples, at_least in (
        ("as commonly written, to the same errors", common, 10.0),
        ("with the study's recipe", same_recipe, None),
    ):
        total, spread = extrapolate([kind.stratum for kind in samples.values()])
        count = sum(len(kind.fits) for kind in samples.values())
        lines += [
            Line(
                f"assignment, {fits} fits: one-trial-per-actor Ray Tune {recipe}",
                Sample((total,)),
                "s",
                note=f"extrapolated from {count} random fits of {len(samples)} kinds, ± "
                f"{spread:.0f} s (two standard errors); without Ray's start and a report",
                details={
                    name: {
                        "wall": kind.stratum.wall,
                        "seconds": list(kind.stratum.seconds),
                        "epochs": kind.epochs,
                    }
                    for name, kind in samples.items()
                },
            ),
            Line(
                f"assignment, end to end, against one-trial-per-actor Ray Tune {recipe}",
                Sample((total / command.seconds,)),
                "×",
                at_least=at_least,
                quality="; ".join(
                    f"{name}: {kind.quality_text(store)}" for name, kind in samples.items()
                ),
            ),
        ]
    return lines


def measure(options: Options) -> list[Line]:
    """Measure few-shot fits on full MNIST, then the quick grid on the embedded digits."""
    return few_shot(options) + whole_grid(options)
