"""`--until-decided` adds replicates to undecided comparisons, up to a maximum."""

import io

import pandas as pd
import pytest
from rich.console import Console

from analysis.decisions import Question
from analysis.results import load
from study import reporting
from study.__main__ import main
from study.command_line.options import select
from study.command_line.parser import parser
from study.errors import BadInput
from study.grid import plan
from study.run import Study, Until, add_until_decided
from study.store import Store


class Session:
    """Records what it is asked to compute, and computes nothing."""

    def __init__(self):
        self.computed = []

    def compute(self, name, cells, finished):
        self.computed.append({cell.id: cell.replicates for cell in cells})


def selection_of(*options):
    return select(parser().parse_args(["run", *options]))


@pytest.fixture
def study_and_groups(tmp_path, digits):
    selection = selection_of(
        "fewshot", "--latent-dims", "14", "--labels", "20", "40", "--until-decided"
    )
    groups = plan(selection.experiments, digits.fingerprint, selection.asked)
    store = Store(tmp_path)
    store.create()
    console = Console(file=io.StringIO(), width=500)
    return Study(selection, digits, None, store, None, console, "study run", Until(0.5, 16)), groups


def cells_of(groups, labels):
    return [
        c
        for c in groups[1]
        if c.config["labels"] == labels and c.config["freeze"] in ("fixed", "full")
    ]


def set_questions(monkeypatch, groups, decided_at):
    """Questions on `fixed` and `full` at 20 and 40 labels, which so many replicates decide."""

    def questions(folder, matters, process):
        assert matters == 0.5 and isinstance(process, reporting.ReportProcess)
        found = []
        for labels, enough in decided_at.items():
            cells = cells_of(groups, labels)
            ids, count = tuple(cell.id for cell in cells), cells[0].replicates
            found.append(Question(f"{labels} labels", count >= enough, count, ids))
        return found

    monkeypatch.setattr(reporting, "questions", questions)


def test_only_cells_of_undecided_comparisons_grow(study_and_groups, monkeypatch):
    study, groups = study_and_groups
    set_questions(monkeypatch, groups, {20: 12, 40: 8})
    session = Session()
    final = add_until_decided(study, study.until, session, groups)
    assert {cell.replicates for cell in cells_of(groups, 20)} == {12}
    others = [cell for cell in groups[1] if cell not in cells_of(groups, 20)]
    assert {cell.replicates for cell in others} == {8}
    assert {cell.replicates for cell in groups[0]} == {12}  # an encoder for each classifier
    grown = [computed[cells_of(groups, 20)[0].id] for computed in session.computed]
    assert grown == [10, 12]
    assert "every comparison is decided" in study.console.file.getvalue()
    kept = study.store.plan()
    assert kept == final
    assert kept["until_decided"] == {"matters": 0.5, "most": 16}
    counts = {c["id"]: c["replicates"] for e in kept["experiments"] for c in e["cells"]}
    assert counts[cells_of(groups, 20)[0].id] == 12


def test_growth_ends_at_the_maximum(study_and_groups, monkeypatch):
    study, groups = study_and_groups
    set_questions(monkeypatch, groups, {20: 99, 40: 99})
    session = Session()
    add_until_decided(study, study.until, session, groups)
    grown = [computed[cells_of(groups, 40)[0].id] for computed in session.computed]
    assert grown == [10, 12, 15, 16]
    output = study.console.file.getvalue()
    assert "undecided: 20 labels (8); 40 labels (8)" in output
    assert "undecided with 16 replicates: 20 labels; 40 labels" in output


def test_growth_ends_without_new_pairs(study_and_groups, monkeypatch):
    """As when one arm has failed: its question never gets more pairs."""
    study, groups = study_and_groups
    ids = tuple(cell.id for cell in cells_of(groups, 20))
    stuck = Question("20 labels", False, 6, ids)
    monkeypatch.setattr(reporting, "questions", lambda *args: [stuck])
    session = Session()
    add_until_decided(study, study.until, session, groups)
    assert session.computed == []
    assert "no more are added" in study.console.file.getvalue()


def test_failed_cells_are_not_tried_again(study_and_groups, monkeypatch):
    study, groups = study_and_groups
    set_questions(monkeypatch, groups, {20: 10, 40: 8})
    failed = groups[0][0]
    study.store.write_failure(failed.id, failed.config, "Diverged")
    session = Session()
    add_until_decided(study, study.until, session, groups)
    (computed,) = session.computed
    assert failed.id not in computed and len(computed) > 2


def test_nothing_compared_is_not_called_decided(study_and_groups, monkeypatch):
    study, groups = study_and_groups
    set_questions(monkeypatch, groups, {})
    session = Session()
    add_until_decided(study, study.until, session, groups)
    assert session.computed == []
    output = study.console.file.getvalue()
    assert output == "no replicates are added: these cells belong to no comparison\n"


def test_killed_reader_is_reported_in_one_line(study_and_groups, monkeypatch):
    study, groups = study_and_groups

    def killed(*arguments):
        raise reporting.Killed("the process that reads the results has ended")

    monkeypatch.setattr(reporting, "questions", killed)
    session = Session()
    add_until_decided(study, study.until, session, groups)
    assert session.computed == []
    output = study.console.file.getvalue()
    assert output == (
        "failed: the process that reads the results has ended; the same command goes on from here\n"
    )


def test_every_classifier_has_its_own_encoder(large_data):
    arguments = parser().parse_args(["run", "fewshot", "--until-decided"])
    (fewshot,) = [e for e in select(arguments, large_data).experiments if e.name == "fewshot"]
    assert fewshot.fixed["encoders"] == 0
    with pytest.raises(BadInput, match="must be 0 with --until-decided"):
        selection_of("fewshot", "--until-decided", "--encoders", "4")


@pytest.mark.ray
@pytest.mark.slow
def test_decided_study_equals_one_of_equal_replicates(run_study, without_ray, tmp_path):
    """The whole loop on Ray; the other study is computed in this process."""
    grid = ["run", "fewshot", "--preset", "smoke", "--dataset", "digits", "--latent-dims", "2",
            "--depths", "2", "--labels", "10", "--freeze", "fixed", "full", "--encoders", "0",
            "--no-report", "--log", "none"]  # fmt: skip
    grown, plain = tmp_path / "grown", tmp_path / "plain"
    ran = run_study(*grid, "--until-decided", "--most", "4", "--out", grown)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    counts = set(load(grown).of("fewshot").groupby("freeze").size())
    assert counts == {4}
    ended = "undecided with 4 replicates:", "every comparison is decided"
    assert sum(text in ran.stdout for text in ended) == 1, ran.stdout
    assert main([*grid, "--replicates", "4", "--out", f"{plain}"]) == 0
    found, wanted = (load(out).rows.drop(columns="train_seconds") for out in (grown, plain))
    pd.testing.assert_frame_equal(found, wanted, check_exact=True)
