"""Connection to Ray, and checks of its nodes before any computing starts."""

import os

# Ray reads these when it starts or runs trials. The study prints its own progress, and
# `RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO` keeps CPU-only trials off the GPUs.
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # `study.signals` has its own
os.environ.setdefault("TUNE_DISABLE_STRICT_METRIC_CHECKING", "1")
os.environ.setdefault("TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # `--log` chooses
# Tune's own state is never read: the store says what is done. Write it once, at the end.
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "1000000")
