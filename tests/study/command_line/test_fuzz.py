"""Any options are understood or refused. Files: `tests/study/store/test_foreign.py`."""

import contextlib
import io

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from study.command_line.options import OPTION_OF, select
from study.command_line.parser import parser
from study.errors import BadInput
from study.experiments import EXPERIMENTS, STUDIES
from study.grid import plan
from study.presets import NAMED
from trainables.contract import ConfigError

FUZZ = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

# --- options ---------------------------------------------------------------------------------

WORDS = st.one_of(
    st.sampled_from(
        [
            "plan",
            "run",
            "report",
            "export",
            "check",
            *STUDIES,
            *EXPERIMENTS,
            *NAMED,
            *OPTION_OF.values(),
            "--preset",
            "--dataset",
            "--data-dir",
            "--out",
            "--address",
            "--cpus-per-trial",
            "--gpus-per-trial",
            "--help",
            "--",
            "-",
            "mnist-5k",
            "local",
            "auto",
            "fixed",
            "1e400",
            "nan",
            "-1",
            "0",
            "10",
            "2.5",
            "1_0",
            "٣",
            "host:99",
            ":",
            "a:b:1",
        ]
    ),
    st.text(max_size=12),
    st.integers().map(str),
    st.floats().map(str),
)


def exit_code(call):
    """0 where `call` returns; other errors than an exit pass through. Nothing is printed."""
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        try:
            call()
        except SystemExit as stop:
            return stop.code
    return 0


@FUZZ
@given(st.lists(WORDS, max_size=8))
def test_options_are_understood_or_refused(words):
    assert exit_code(lambda: parser().parse_args(words)) in (0, 2)


@FUZZ
@given(st.sampled_from([*STUDIES, *EXPERIMENTS]), st.sampled_from(sorted(OPTION_OF)), WORDS)
@example("autoencoder", "latent_dim", "9" * 5000)
@example("fewshot", "seed", "٣")
def test_study_with_any_option_is_planned_or_refused(name, setting, word):
    def plan_it():
        options = ["--preset", "smoke", OPTION_OF[setting], word]
        arguments = parser().parse_args(["plan", name, *options])
        with contextlib.suppress(BadInput, ConfigError):
            plan(select(arguments).experiments, "")

    assert exit_code(plan_it) in (0, 2)
