"""The changes of `study.ray_internals` to Ray Tune, on a real Ray."""

import os
import time

import psutil
import pytest
import ray
from ray import tune

from study.cluster.connect import cluster
from study.ray_internals import starting_actors_are_kept
from study.resources import Resources


def short_trial(config):
    """Ends its worker if it is trial 0; else takes less time than a worker takes to start."""
    if config["number"] == 0:
        os._exit(1)
    time.sleep(0.2)
    tune.report({"worker": os.getpid()})


@pytest.mark.ray
@pytest.mark.slow
def test_dead_worker_is_replaced_among_short_trials(tmp_path, monkeypatch):
    """Tune alone kills the new worker again and again: one worker computes all 40 trials."""
    monkeypatch.setenv("TUNE_MAX_PENDING_TRIALS_PG", "2")
    monkeypatch.setenv("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        tuner = tune.Tuner(
            short_trial,
            param_space={"number": tune.grid_search(list(range(41)))},
            tune_config=tune.TuneConfig(reuse_actors=True),
            run_config=tune.RunConfig(storage_path=str(tmp_path), verbose=0),
        )
        with starting_actors_are_kept():
            results = tuner.fit()
    finally:
        ray.shutdown()
    assert len(results) == 41 and results.num_errors == 1
    assert len({result.metrics["worker"] for result in results if not result.error}) == 2


@pytest.mark.ray
@pytest.mark.slow
def test_local_ray_leaves_out_what_no_study_uses():
    with cluster(Resources(cpus=1)):
        assert ray.get(ray.put(1)) == 1
        children = psutil.Process().children(recursive=True)
        commands = " ".join(word for child in children for word in child.cmdline())
    assert "gcs_server" in commands and "raylet" in commands
    for service in ("dashboard.py", "monitor.py", "log_monitor.py"):
        assert service not in commands
