"""Comparing studies finds constructed differences, with SciPy's intervals."""

import dataclasses
import hashlib
import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis import compare
from analysis.compare import differences, sections, studies
from analysis.statistics import independent_difference, mean_interval
from study.__main__ import main
from study.store import Block, Store
from trainables.autoencoder.settings import Config as Autoencoder
from trainables.contract import Outcome
from trainables.fewshot.settings import Config as FewShot

AUTOENCODER = dataclasses.asdict(Autoencoder(2, depth=2, batch_size=64, epochs=1, width=4))
FEWSHOT = dataclasses.asdict(FewShot(latent_dim=2, labels=20, freeze="fixed", depth=2))
AXES = {"autoencoder": ("latent_dim", "depth", "batch_size"),
        "fewshot": ("latent_dim", "depth", "labels", "freeze", "pretraining"),
        "other": ("size",)}  # fmt: skip


def errors(values):
    """Rows of autoencoders with these test errors."""
    return [
        {"replicate": r, "val_mse": v, "test_mse": v, "parameters": 9, "train_seconds": 1.0}
        for r, v in enumerate(values)
    ]


def scores(values):
    """Rows of classifiers with these test accuracies."""
    return [
        {
            "replicate": r,
            "label_subset": r,
            "encoder_replicate": r,
            "val_accuracy": v,
            "test_accuracy": v,
        }
        for r, v in enumerate(values)
    ]


def write_study(folder, data="one", **experiments):
    """Write a study to a folder: the cells by experiment, each a configuration and its rows (none:
    not finished)."""
    store = Store(folder)
    store.create()
    plan = {
        "study": "made",
        "command": "study run made",
        "dataset": data,
        "data_dir": None,
        "fingerprint": data,
        "image_shape": [1, 28, 28],
        "classes": list("0123456789"),
        "images": [100, 10, 50],
        "experiments": [],
    }
    for name, cells in experiments.items():
        planned = {"name": name, "axes": {a: [] for a in AXES[name]}, "metric": "val_mse"}
        planned["cells"] = []
        for config, rows in cells:
            identity = hashlib.sha256(json.dumps([name, config]).encode()).hexdigest()[:16]
            parent = "e" * 16 if name == "fewshot" else None
            planned["cells"].append(
                {
                    "id": identity,
                    "config": config,
                    "parent": parent,
                    "replicates": max(1, len(rows)),
                }
            )
            if rows:
                made_by = {"code": "git 1", "torch": "2", "device": "cpu", "seconds": 1.0}
                block = Block(identity, range(len(rows)))
                store.write_block(block, config, parent, Outcome(rows), made_by)
        plan["experiments"].append(planned)
    store.write_plan(plan)
    return folder


@pytest.fixture
def two_studies(tmp_path):
    """Two autoencoders' errors in each of two studies; `b` has one more replicate."""

    def build(data_of_b="one", **setting):
        draw = np.random.default_rng(1)
        values = {"a": draw.uniform(0.02, 0.03, (2, 4)), "b": draw.uniform(0.03, 0.05, (2, 5))}
        for name, data, other in (("a", "one", {}), ("b", data_of_b, setting)):
            cells = [
                ({**AUTOENCODER, **other, "latent_dim": d}, errors(of_it))
                for d, of_it in zip((2, 8), values[name], strict=True)
            ]
            write_study(tmp_path / name, data, autoencoder=cells)
        return *studies.read([tmp_path / "a", tmp_path / "b"]), values

    return build


def percent_bounds(interval):
    return [100 * np.expm1(interval.low), 100 * np.expm1(interval.high)]


def test_paired_difference_is_that_of_common_replicates(two_studies):
    a, b, values = two_studies()
    table = differences.by_cell(a, b, "autoencoder", "test_mse", relative=True)
    assert table["latent_dim"].tolist() == [2, 8]
    assert table["pairing"].tolist() == ["paired by replicate"] * 2
    for line, first, second in zip(table.itertuples(), values["a"], values["b"], strict=True):
        tested = stats.ttest_1samp(np.log(second[:4] / first), 0)
        assert [line.low, line.high] == pytest.approx(percent_bounds(tested.confidence_interval()))
        assert (line.p, line.n) == (pytest.approx(tested.pvalue), "4")
        assert (line.first, line.second) == pytest.approx((first.mean(), second.mean()))
    over = differences.over_cells(a, b, "autoencoder", "test_mse")
    means = np.log(values["b"][:, :4] / values["a"]).mean(axis=0)
    assert over["difference"] == pytest.approx(100 * np.expm1(means.mean()))


@pytest.mark.parametrize("other", [{"data_of_b": "two"}, {"seed": 1}])
def test_other_data_or_seeds_are_compared_unpaired(two_studies, other):
    a, b, values = two_studies(**other)
    table = differences.by_cell(a, b, "autoencoder", "test_mse", relative=True)
    for line, first, second in zip(table.itertuples(), values["a"], values["b"], strict=True):
        tested = stats.ttest_ind(np.log(second), np.log(first), equal_var=False)
        assert [line.low, line.high] == pytest.approx(percent_bounds(tested.confidence_interval()))
        assert (line.p, line.n) == (pytest.approx(tested.pvalue), "4 + 5")
        assert (line.pairing, line.interval) == ("unpaired", "95 % Welch t")


@pytest.mark.parametrize("data", ["one", "two"])
def test_order_of_studies_flips_the_sign(two_studies, data):
    a, b, _ = two_studies(data)
    one, two_ = (differences.by_cell(*pair, "autoencoder", "test_mse") for pair in ((a, b), (b, a)))
    assert (one["difference"] > 0).all()
    for name, of_other in (("difference", "difference"), ("low", "high"), ("high", "low")):
        assert one[name].tolist() == pytest.approx((-two_[of_other]).tolist())


def test_difference_of_one_model_has_no_interval():
    found = independent_difference(mean_interval([1.0, 2.0]), mean_interval([0.5]))
    assert (found.estimate, found.n, found.bounded) == (1.0, 3, False)


def test_setting_that_differs_is_not_a_key(two_studies):
    a, b, _ = two_studies(batch_size=32, epochs=3)
    assert studies.match(a, b, "autoencoder").keys == ["latent_dim", "depth"]
    table = sections.settings([a, b]).query("not same").set_index("setting")
    assert table.loc["batch_size", ["a", "b"]].tolist() == ["64", "32"]
    assert table.loc["epochs", ["a", "b"]].tolist() == ["1", "3"]
    assert table.loc["replicates", ["a", "b"]].tolist() == ["4", "5"]
    assert set(table.index) == {"batch_size", "epochs", "replicates"}


def test_experiment_without_cells_differs_in_every_setting(tmp_path):
    write_study(tmp_path / "a", autoencoder=[(AUTOENCODER, errors([0.1]))])
    write_study(tmp_path / "b", autoencoder=[], other=[({"size": 1}, errors([1.0]))])
    table = sections.settings(studies.read([tmp_path / "a", tmp_path / "b"]))
    assert set(table["setting"]) == {*AUTOENCODER, "replicates"}
    assert set(table["b"]) == {"–"}
    assert not table["same"].any()


def test_setting_that_tells_cells_apart_is_a_key(tmp_path):
    cells = [({**AUTOENCODER, "epochs": e}, errors([0.1 * e, 0.1 * e])) for e in (1, 2)]
    pair = studies.read([write_study(tmp_path / name, autoencoder=cells) for name in "ab"])
    assert len(differences.by_cell(*pair, "autoencoder", "test_mse")) == 2


def test_cells_of_one_study_are_listed(tmp_path):
    def cells(dims, unfinished=()):
        return [
            ({**AUTOENCODER, "latent_dim": d}, [] if d in unfinished else errors([0.1, 0.2]))
            for d in dims
        ]

    write_study(tmp_path / "a", autoencoder=cells([2, 8, 14]), other=[({"size": 1}, errors([1.0]))])
    write_study(tmp_path / "b", autoencoder=cells([2, 8, 30], [8]))
    compare.write([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    table = pd.read_csv(tmp_path / "out/tables/alone.csv")
    assert [tuple(line) for line in table[["study", "settings", "reason"]].to_numpy()] == [
        ("a", "latent_dim 8, depth 2, batch_size 64", "not finished in b"),
        ("a", "latent_dim 14, depth 2, batch_size 64", "not planned in b"),
        ("b", "latent_dim 30, depth 2, batch_size 64", "not planned in a"),
        ("a", "size 1", "not planned in b"),
    ]
    assert len(pd.read_csv(tmp_path / "out/tables/missing.csv")) == 1


def few_shot(tmp_path, name, data, shift, encoders=8):
    """A study of two arms, two numbers of labels and two d: accuracies are 0.5 + d / 100, plus the
    luck of the subset, plus `shift` for the arm `fixed`."""
    luck = np.array([0.01, -0.02, 0.03, 0.0, 0.02, -0.01, 0.04, -0.03])
    cells = []
    for dim in (2, 8):
        for labels in (20, 40):
            for arm in ("fixed", "full"):
                values = 0.5 + luck * (labels / 20) + dim / 100 + shift * (arm == "fixed")
                config = {**FEWSHOT, "latent_dim": dim, "labels": labels, "freeze": arm}
                rows = [
                    {**row, "encoder_replicate": row["replicate"] % encoders}
                    for row in scores(values)
                ]
                cells.append((config, rows))
    return write_study(tmp_path / name, data, fewshot=cells), 0.55 + luck


def test_arms_are_compared_over_d_with_corrected_p_values(tmp_path):
    (a, luck), (b, _) = (few_shot(tmp_path, n, n, s) for n, s in (("a", 0), ("b", -0.14)))
    compare.write([a, b], tmp_path / "out")
    table = pd.read_csv(tmp_path / "out/tables/transfer.csv").set_index(["arm", "labels"])
    line = table.loc[("fixed", 20)]
    tested = stats.ttest_ind(luck - 0.14, luck, equal_var=False)
    low, high = tested.confidence_interval()
    assert line[["difference", "low", "high"]].tolist() == pytest.approx([-0.14, low, high])
    assert (line["n"], line["p_holm"]) == ("8 + 8", pytest.approx(4 * tested.pvalue))
    sentences = pd.read_csv(tmp_path / "out/tables/conclusions.csv")["sentence"]
    said = f"b − a, encoder fixed, 20 labels: -14.0 points [{100 * low:.1f}, {100 * high:.1f}]"
    assert sentences.str.contains(f"{said}, lower; 40 labels: -14.0 points", regex=False).sum() == 1
    assert sentences.str.contains("lower in 2, undecided in 2 of 4", regex=False).sum() == 1


def test_shared_encoders_are_resampled_together(tmp_path):
    (a, _), (b, _) = (
        few_shot(tmp_path, n, "one", s, e) for n, s, e in (("a", 0, 8), ("b", 0.1, 3))
    )
    table, _ = differences.accuracies(*studies.read([a, b]))
    assert set(table["interval"]) == {
        "95 % crossed bootstrap over encoders and label subsets, Student t"
    }
    assert table.query("arm == 'fixed'")["difference"].tolist() == pytest.approx([0.1, 0.1])


def test_study_and_its_copy_are_equal(tmp_path):
    folder, _ = few_shot(tmp_path, "few", "one", 0.1)
    page = compare.write([folder, folder], tmp_path / "out")
    table = pd.read_csv(tmp_path / "out/tables/transfer.csv")
    assert (table[["difference", "low", "high"]] == 0).all(axis=None)
    assert "equal in 4 of 4" in page.read_text()


def test_each_study_is_compared_with_the_first(tmp_path):
    folders = [
        write_study(
            tmp_path / name,
            autoencoder=[(AUTOENCODER, errors([v, v + 0.1]))],
            other=[({"size": 1}, errors([v, v]))],
        )
        for name, v in (("a", 0.5), ("b", 1.0), ("c", 2.0))
    ]
    compare.write(folders, tmp_path / "out")
    table = pd.read_csv(tmp_path / "out/tables/other-other.csv").query("metric == 'test_mse'")
    assert table["comparison"].tolist() == ["b − a", "c − a"]
    assert table["difference"].tolist() == [0.5, 1.5]


def test_names_tell_studies_apart():
    assert studies.names(["s3://x/one/results?a=b", "s3://x/two/results"]) == [
        "one/results",
        "two/results",
    ]
    assert studies.names(["s3://x/setting", "s3://x/b"]) == ["x/setting", "x/b"]
    assert studies.names(["s3://x/a", "s3://x/a"]) == ["a (1)", "a (2)"]


def test_text_of_a_study_stays_text(tmp_path):
    text = "<script>$x"
    for name in "ab":
        folder = tmp_path / name / text
        write_study(folder, text, autoencoder=[({**AUTOENCODER, "note": text}, errors([0.1, 0.2]))])
    page = compare.write([tmp_path / "a" / text, tmp_path / "b" / text], tmp_path / "out")
    assert text not in page.read_text()
    assert page.read_text().count("&lt;script&gt;$x") > 5


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["a"], "RESULTS a: is one study; give another one"),
        (["a", "none"], "RESULTS none: is not a folder"),
        (["a", "empty"], "empty holds no study"),
        (["a", "b"], "b has no finished cell in common with a: it has other, a has autoencoder"),
        (["a", "b", "--out", "a"], "--out a: holds a study; give a folder"),
        (["a", "b", "--out", "s3://x/y"], "--out s3://x/y: must be a folder of this machine"),
    ],
)
@pytest.mark.usefixtures("report_in_process")
def test_bad_comparison_is_refused_in_one_line(arguments, line, tmp_path, refusal, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_study(tmp_path / "a", autoencoder=[(AUTOENCODER, errors([0.1]))])
    write_study(tmp_path / "b", other=[({"size": 1}, errors([0.1]))])
    (tmp_path / "empty").mkdir()
    assert line in refusal("compare", *arguments)
    assert not (tmp_path / "comparison").exists()


def test_command_says_where_the_page_is(two_studies, tmp_path, capsys, monkeypatch):
    two_studies()
    monkeypatch.chdir(tmp_path)
    assert main(["compare", "a", "b"]) == 0
    assert f"comparison: {tmp_path}/comparison/index.html" in capsys.readouterr().out
    assert "What is compared" in (tmp_path / "comparison/index.html").read_text()
