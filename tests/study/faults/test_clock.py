"""A killed driver's study resumes in workers with another clock and locale."""

import json
import os
import shutil
import subprocess
import time

import pytest

IN_EVERY_PYTHON = '''
"""In Ray's workers: a clock that is 400 days late and goes back an hour whenever it is read, and
the C library's own idea of numbers."""

import json
import locale
import os
import sys
import time

if "ODD_ONES" in os.environ and any("default_worker.py" in word for word in sys.orig_argv):
    right, read = time.time, 0

    def wrong():
        global read
        read += 1
        return right() - 400 * 86_400 - 3600 * read

    time.time = wrong
    locale.setlocale(locale.LC_ALL, "")
    odd = {
        "point": locale.localeconv()["decimal_point"],
        "encoding": locale.getpreferredencoding(False),
        "zone": time.strftime("%z"),
    }
    with open(os.path.join(os.environ["ODD_ONES"], f"{os.getpid()}.json"), "w") as file:
        json.dump(odd, file)
'''

ODD_WORKERS = """
import os, time
time.localtime()  # the driver keeps its own time zone and locale: they are read only once
os.environ |= {odd}
"""


@pytest.fixture
def turkish_locale(tmp_path):
    """Environment variables for a locale with a decimal comma in an encoding that isn't UTF-8."""
    if not shutil.which("localedef"):
        pytest.skip("there is no localedef to make a locale with")
    made = subprocess.run(
        ["localedef", "-i", "tr_TR", "-f", "ISO-8859-9", tmp_path / "tr_TR.ISO-8859-9"],
        capture_output=True,
        text=True,
        check=False,
    )
    if not (tmp_path / "tr_TR.ISO-8859-9" / "LC_NUMERIC").exists():
        pytest.skip(f"localedef can't make a Turkish locale: {made.stderr.strip()}")
    python = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    return {"LOCPATH": str(tmp_path), "LC_ALL": "tr_TR.ISO-8859-9", **python}


@pytest.mark.ray
@pytest.mark.slow
def test_killed_study_resumes_under_other_clock_and_locale(
    make_driver, packages, turkish_locale, undisturbed, tmp_path
):
    driver, odd_ones = make_driver(tmp_path), tmp_path / "odd"
    odd_ones.mkdir()
    process, worker = driver.start_and_wait()
    (marker,) = (driver.out / "blocks").rglob("*.json")
    written = marker.stat().st_mtime_ns
    process.kill()
    process.communicate()

    hooks = tmp_path / "hooks"
    hooks.mkdir()
    (hooks / "sitecustomize.py").write_text(IN_EVERY_PYTHON)
    odd = {"TZ": "Pacific/Kiritimati", "ODD_ONES": str(odd_ones), **turkish_locale}
    path = os.pathsep.join([str(hooks), str(packages)])
    code, output = driver.run(first=ODD_WORKERS.format(odd=odd), PYTHONPATH=path)
    assert code == 0, output
    assert "Traceback" not in output
    assert "victim: 2 cells, 1 done, 1 missing; 4 replicates, 2 missing" in output
    assert marker.stat().st_mtime_ns == written
    driver.wait_for_the_death_of(worker)

    seen = [json.loads(path.read_text()) for path in odd_ones.iterdir()]
    assert {"point": ",", "encoding": "ISO-8859-9", "zone": "+1400"} in seen
    assert driver.resumed_after() == {2: None, 3: 3}
    (resumed,) = [
        provenance
        for provenance in driver.store.provenance(driver.done())
        if provenance["resumed_after_epoch"]
    ]
    assert resumed["started"] < time.time() - 400 * 86_400
    assert 0 < resumed["seconds"] < 60
    assert (driver.store.rows(dict.fromkeys(driver.done(), 2))["train_seconds"] > 0).all()
    driver.assert_as(undisturbed)
