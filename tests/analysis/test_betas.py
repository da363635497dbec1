"""Effects of β: the changes and sentences follow from the numbers."""

import numpy as np
import pandas as pd
import pytest

from analysis import betas, correlation, interpolation
from analysis.interpolation.judge import train_judges
from analysis.results import load
from study.experiments import EXPERIMENTS, members
from study.grid import override

MIDPOINT = interpolation.INTERPOLATION
MEASURES = {"a": "the first", "b": "the second"}


@pytest.fixture
def table():
    """`a` falls by 0.2 at β = 1 in every replicate, with noise of 0.01; `b` is all noise."""
    draw = np.random.default_rng(0)
    shared = draw.normal(1, 0.5, 6)
    parts = [
        pd.DataFrame(
            {
                "cell": f"cell {beta}",
                "replicate": range(6),
                "beta": beta,
                "a": shared - 0.2 * (beta == 1) + draw.normal(0, 0.01, 6),
                "b": draw.normal(0, 1, 6),
            }
        )
        for beta in (0.0, 0.1, 1.0)
    ]
    # Replicates of β = 0 that no other β has; they would shift its mean.
    more = parts[0].assign(replicate=range(6, 12), a=100.0)
    return pd.concat([*parts, more], ignore_index=True)


def test_changes_are_paired_by_replicate(table):
    found = betas.changes(table, MEASURES).set_index(["beta", "measure"])
    line = found.loc[(1.0, "the first")]
    wide = table[table["replicate"] < 6].pivot_table(index="replicate", columns="beta", values="a")
    assert line["change"] == pytest.approx((wide[1.0] - wide[0.0]).mean())
    assert line["change"] == pytest.approx(-0.2, abs=0.02)
    assert line["without"] == pytest.approx(wide[0.0].mean())
    assert line["low"] > -0.25 and line["high"] < -0.15
    assert line["n"] == 6
    assert line["p_holm"] < 1e-4
    assert found.loc[(0.1, "the first")]["p_holm"] > 0.05
    assert set(line["cells"].split(" ")) == {"cell", "0.0", "1.0"}


def test_sentences_name_decided_and_undecided_measures(table):
    small, large = betas.conclusions(betas.changes(table, MEASURES), 14)
    assert small == (
        "With β = 0.1 at d = 14, no change is decided (p < 0.05, Holm over 4 changes, n = 6)."
    )
    assert large.startswith("With β = 1 at d = 14, the first falls from 1.05 to 0.847 (p")
    assert large.endswith("Undecided: the second.")


class FakeResults:
    """Results with these rows of each experiment."""

    def __init__(self, **tables):
        self.of = lambda name: tables.get(name, pd.DataFrame())


def rows_of(cell, **settings):
    place = {
        "latent_dim": 14,
        "depth": 3,
        "width": 16,
        "network": "convolutional",
        "batch_size": 32,
        "epochs": 4,
    }
    return pd.DataFrame([{"cell": cell, "replicate": 0, **place, **settings}])


def test_control_has_the_same_settings():
    varied = rows_of("v", beta=0.1)
    plain = pd.concat([rows_of("p", beta=1.0), rows_of("deeper", beta=1.0, depth=4)])
    found = betas.rows_by_beta(FakeResults(autoencoder=plain, betas=varied))
    assert found[["cell", "beta"]].to_numpy().tolist() == [["p", 0.0], ["v", 0.1]]
    assert betas.rows_by_beta(
        FakeResults(autoencoder=rows_of("other", width=8), betas=varied)
    ).empty


def test_midpoints_use_pairs_that_count_in_all_models():
    """Two judges; example 1 counts for one model alone, and end points are no midpoints."""
    results = FakeResults(autoencoder=rows_of("p"), betas=rows_of("v", beta=0.1))
    lines = [
        {
            "cell": cell,
            "replicate": 0,
            "pair": "4-7",
            "example": example,
            "judge": judge,
            "control": control,
            "counted": float(example == 0 or cell == "p"),
            **dict.fromkeys(
                betas.MIDPOINT_MEASURES, value + judge + 10 * example + 100 * (control != MIDPOINT)
            ),
        }
        for cell, value in (("p", 1.0), ("v", 2.0), ("another", 50.0))
        for example in (0, 1)
        for judge in (0, 1)
        for control in (MIDPOINT, "reconstruction")
    ]
    found = betas.midpoints_by_beta(results, pd.DataFrame(lines)).set_index("beta")
    for measure in betas.MIDPOINT_MEASURES:
        assert found[measure].to_dict() == {0.0: 1.5, 0.1: 2.5}


def test_every_measure_is_computed_and_drawn(tmp_path, digits, compute_study):
    """Tiny models: the numbers must only be finite and of the cells asked for."""
    small = {"latent_dim": (3,), "depth": (2,), "batch_size": (128,)}
    settings = {"epochs": 1, "width": 4, "replicates": 2}
    autoencoder = override(EXPERIMENTS["autoencoder"], small, settings)
    (registered,) = (e for e in members("betas") if e.name == "betas")
    varied = override(
        registered, {**small, "beta": (0.1, 1.0)}, {**settings, "objective": "variational"}
    )
    results = load(compute_study("betas", [autoencoder, varied], digits, tmp_path).address)

    rows = betas.rows_by_beta(results)
    plain, every = correlation.measures(results), correlation.measures(results, rows)
    codes = betas.redundancy_by_beta(results, every)
    judges = train_judges(results.dataset, count=2, steps=5)
    cells = dict(zip(rows["cell"], rows["latent_dim"], strict=True))
    scorecard = interpolation.scorecard(results, judges, cells)
    between = betas.midpoints_by_beta(results, scorecard)
    assert sorted(codes["beta"]) == [0.0, 0.0, 0.1, 0.1, 1.0, 1.0]
    assert np.isfinite(codes[list(betas.CODE_MEASURES)].to_numpy(float)).all()
    control = codes[codes["beta"] == 0]
    assert control["effective_rank"].tolist() == plain["effective_rank"].tolist()
    assert codes["effective_rank"].tolist() == every["effective_rank"].tolist()
    assert set(between.columns) >= set(betas.MIDPOINT_MEASURES)
    drawn = betas.draw_by_beta(codes, betas.CODE_MEASURES)
    labels = [text.get_text() for text in drawn.axes[0].get_xticklabels()]
    assert labels == ["0", "0.1", "1"]


def test_no_variational_autoencoders_no_betas(small_results):
    assert betas.rows_by_beta(small_results).empty
    assert betas.redundancy_by_beta(small_results, pd.DataFrame()).empty
    assert betas.changes(pd.DataFrame(), {}).empty
