"""The notebooks are committed clean, and run from top to bottom on a small study."""

import base64
import re
import struct
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from analysis import transfer
from study.errors import StoreError
from study.store import Store
from tests.phrases import phrase

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "analysis" / "notebooks"
FIGURES = {
    "1_reconstruction": 4,
    "2_interpolation": 7,
    "3_decorrelation": 3,
    "4_transfer": 4,
    "5_theory": 2,
}
"""Number of figures that each notebook shows."""
OF_A_STUDY = [name for name in FIGURES if name != "5_theory"]
PNG = b"\x89PNG\r\n\x1a\n"


def read_notebook(name):
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=nbformat.NO_CONVERT)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def cell_source(notebook, identity):
    [cell] = [cell for cell in notebook.cells if cell.id == identity]
    return cell.source


# --- as committed ------------------------------------------------------------------------------


def test_every_notebook_is_known_here():
    assert sorted(path.stem for path in FOLDER.glob("*.ipynb")) == sorted(FIGURES)


@pytest.mark.parametrize("name", FIGURES)
def test_no_outputs_are_committed(name):
    notebook = read_notebook(name)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert notebook.metadata.kernelspec.name == "python3"
    for cell in code_cells(notebook):
        assert cell.outputs == []
        assert cell.execution_count is None
        assert cell.metadata == {}
    # Descriptive ids stay the same when the notebook is saved again.
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", cell.id) for cell in notebook.cells)
    assert {"question", "imports", "try"} <= {cell.id for cell in notebook.cells}


@pytest.mark.parametrize("name", FIGURES)
def test_no_absolute_paths(name):
    text = (FOLDER / f"{name}.ipynb").read_text()
    assert not re.search(r"[\"'\s](/|~/|[A-Z]:\\\\)\w", text)


# --- without a study ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", OF_A_STUDY)
def test_without_a_study_the_message_says_what_to_do(name, tmp_path, monkeypatch):
    opening = compile(cell_source(read_notebook(name), "open"), name, "exec")
    monkeypatch.setenv("STUDY_RESULTS", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=phrase(f"no study in {tmp_path}.…STUDY_RESULTS")):
        exec(opening, {})
    monkeypatch.setenv("STUDY_RESULTS", "no-such-folder")  # relative: to the checkout
    with pytest.raises(FileNotFoundError, match=f"no study in {ROOT / 'no-such-folder'}"):
        exec(opening, {})
    store = Store(tmp_path)
    store.create()
    words = dict.fromkeys(("study", "command", "dataset", "fingerprint"), "any")
    store.write_plan({**words, "experiments": []})
    monkeypatch.setenv("STUDY_RESULTS", str(tmp_path))
    with pytest.raises(ValueError, match=phrase("No cell of `…` is finished … `study run … --out")):
        exec(opening, {})


@pytest.mark.parametrize("name", OF_A_STUDY)
def test_notebook_looks_for_the_study_in_the_bucket(name, s3, bucket, monkeypatch):
    opening = compile(cell_source(read_notebook(name), "open"), name, "exec")
    monkeypatch.setenv("STUDY_RESULTS", s3.uri(bucket))
    with pytest.raises(StoreError, match=phrase(f"s3://{bucket}/results… holds no study")):
        exec(opening, {})


# --- executed ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def execute(tmp_path_factory, request):
    """Run a notebook by name, once, in its own kernel."""
    finished = {}

    def run(name):
        # The theory needs no study, so it gets an empty folder.
        study = name in OF_A_STUDY and request.getfixturevalue("small_results").store.address
        environment = {
            "STUDY_RESULTS": str(study or tmp_path_factory.mktemp("empty")),
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            # Without the settings of whoever runs the test.
            "IPYTHONDIR": str(tmp_path_factory.mktemp("ipython")),
        }
        notebook = read_notebook(name)
        client = NotebookClient(
            notebook,
            kernel_name="python3",
            timeout=120,
            allow_errors=True,
            resources={"metadata": {"path": str(FOLDER)}},
        )
        with pytest.MonkeyPatch.context() as patch:
            for variable, value in environment.items():
                patch.setenv(variable, value)
            client.execute()
        return notebook

    def once(name):
        if name not in finished:
            finished[name] = run(name)
        return finished[name]

    return once


def png_sizes(cell):
    """Width and height in pixels of each PNG that a cell showed."""
    shown = []
    for output in cell.outputs:
        if "image/png" in output.get("data", {}):
            content = base64.b64decode(output.data["image/png"])
            assert content.startswith(PNG)
            shown.append(struct.unpack(">II", content[16:24]))
    return shown


@pytest.mark.slow
@pytest.mark.parametrize("name", FIGURES)
def test_runs_and_shows_its_figures(name, execute):
    cells = code_cells(execute(name))
    outputs = [output for cell in cells for output in cell.outputs]
    assert [output for output in outputs if output.output_type == "error"] == []
    assert [o.text for o in outputs if o.output_type == "stream" and o.name == "stderr"] == []
    figures = {cell.id: png_sizes(cell) for cell in cells}
    for cell in cells:
        assert bool(figures[cell.id]) == ("draw_" in cell.source), cell.id
    every = [size for shown in figures.values() for size in shown]
    assert len(every) == FIGURES[name]
    assert all(width > 400 and height > 150 for width, height in every)


@pytest.mark.slow
def test_conclusions_match_the_report(execute, small_results):
    [cell] = [cell for cell in execute("4_transfer").cells if cell.id == "conclusions"]
    sentences = transfer.conclusions(transfer.rows_of(small_results))
    assert cell.outputs[0].data["text/markdown"] == "\n".join(f"- {s}" for s in sentences)


@pytest.mark.slow
def test_every_check_of_the_theory_holds(execute):
    [cell] = [cell for cell in execute("5_theory").cells if cell.id == "checks"]
    found = re.fullmatch(r"(\d+) of (\d+) checks hold\.\n", cell.outputs[0].text)
    assert found
    assert int(found[1]) == int(found[2]) > 50
