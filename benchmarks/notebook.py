"""A plain notebook loop against this study's autoencoder cells, whole runs, report included.

The notebook is `benchmarks/plain_notebook.py`: one model after another on all cores. The study is
the default recipe's two cells at d = 14 with three layers, `study run autoencoder`.
"""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.commands import planned_replicates, run
from benchmarks.measure import Line, Options, Sample
from study.store import Store

DEPTH, LATENT_DIM, MODELS = 3, 14, 3
"""Settings of the study's cells. The notebook has the same latent dimension and as many
convolutions."""


def notebook(options: Options) -> list[dict[str, float]]:
    """Train one model in the notebook; return one line per epoch."""
    epochs = 1 if options.tiny else 10
    images = [2560] if options.tiny else []
    command = run("-m", "benchmarks.plain_notebook", options.data_dir or "", epochs, *images)
    return [json.loads(line) for _, line in command.lines if line.startswith("{")]


def study(options: Options, out: Path) -> tuple[float, float, list[float]]:
    """Seconds per model with and without the report, and the cells' mean test errors."""
    arguments = ["run", "autoencoder", "--latent-dims", LATENT_DIM, "--out", out]
    if options.tiny:
        arguments += ["--preset", "smoke"]
    else:
        data = ["--data-dir", options.data_dir] if options.data_dir else []
        arguments += ["--dataset", "mnist", "--depths", DEPTH, "--replicates", MODELS, *data]
    command = run("-m", "study", *arguments)
    store = Store(out)
    rows = store.rows(planned_replicates(store, "autoencoder"))
    errors = rows.groupby("cell")["test_mse"].mean().tolist()
    return command.seconds / len(rows), command.seconds_until("computed in") / len(rows), errors


def measure(options: Options) -> list[Line]:
    """Time both in turns: one model of the notebook, then the study's cells and their report."""
    notebooks, studies = [], []
    for turn in range(options.repeats):
        options.say(f"notebook: round {turn + 1} of {options.repeats}")
        notebooks.append(notebook(options))
        studies.append(study(options, options.folder / f"notebook-{turn}"))
    plain = Sample(tuple(epochs[-1]["seconds"] for epochs in notebooks))
    mse = f"{Sample(tuple(epochs[-1]['test_mse'] for epochs in notebooks)).median:.4f}"
    with_report = Sample(tuple(seconds for seconds, _, _ in studies))
    without_report = Sample(tuple(seconds for _, seconds, _ in studies))
    errors = [sum(errors) / len(errors) for _, _, errors in studies]
    worst = max(max(errors) for _, _, errors in studies)
    best = min(min(errors) for _, _, errors in studies)
    quality = (
        f"test MSE of the study {best:.4f} (best cell) … {worst:.4f} (worst cell), "
        f"of the notebook {mse}"
    )
    return [
        Line("notebook: a model, 10 epochs", plain, "s", quality=f"MSE {mse}"),
        Line("study: a model, with Ray's start and the report", with_report, "s", quality=quality),
        Line("study: a model, without the report", without_report, "s", quality=quality),
        Line(
            "autoencoder grid against the notebook, per model, report included",
            plain.ratios_to(with_report),
            "×",
            at_least=8,
            quality=quality,
            details={"mean_errors": errors, "notebook": notebooks},
        ),
        Line("the same without the report", plain.ratios_to(without_report), "×", quality=quality),
    ]
