"""Forecast of the seconds until a study is done: its queue is simulated with expected seconds."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

from study.grid import Cell
from study.queue import Queue, Task
from study.rates import Rates
from study.store import Block, Store
from study.words import duration

START_SECONDS = 12.0
"""Seconds for Ray's start and the imports of the first workers."""

TRIAL_COST = 0.1
"""Seconds that a trial takes before and after it computes its blocks."""

MAX_SIMULATED_TASKS = 2000
"""Largest number of tasks that are simulated. For more, the total of a random sample of this size
is scaled up: the order of tasks then matters less than 1 %."""

MAX_BLOCKS_READ = 300
"""Largest number of finished blocks whose seconds are read; of more, a random sample."""

MAX_LOG_SD = 1.0
"""Largest standard deviation of log seconds with a forecast: its 80 % range is 1 to 13."""

NORMAL_80 = 1.2816
"""Standard deviations on either side of the mean that hold 80 % of a normal distribution."""


@dataclass(frozen=True)
class Forecast:
    """Seconds until all is done, and an 80 % range."""

    seconds: float
    low: float
    high: float

    def plus(self, seconds: float) -> Forecast:
        """The forecast plus `seconds` (negative for time that has passed), at least 0."""
        return Forecast(*(max(0.0, s + seconds) for s in (self.seconds, self.low, self.high)))

    def __str__(self) -> str:
        """`about 6 min (4 to 9)`, or if the units differ, `about 1 min (40 s to 2 min)`.

        `about 12 s` if the bounds round to the same.
        """
        times = [duration(s, rough=True) for s in (self.seconds, self.low, self.high)]
        if len(set(times)) == 1:
            return f"about {times[0]}"
        if len({time.rpartition(" ")[2] for time in times}) == 1:
            times[1:] = [time.partition(" ")[0] for time in times[1:]]
        return f"about {times[0]} ({times[1]} to {times[2]})"


def forecast(
    tasks: Collection[Task],
    workers: int,
    rates: Rates,
    elapsed: Mapping[Task, float] = {},
    gpus: float = 0.0,
) -> Forecast | None:
    """Forecast of the seconds until `tasks` are done; None if the rates are too uncertain.

    `elapsed`: seconds since each running task's trial began. `gpus`: number of GPUs.
    """
    chosen = list(tasks)
    if len(chosen) > MAX_SIMULATED_TASKS:
        chosen = random.Random(0).sample(chosen, MAX_SIMULATED_TASKS)
    seconds: dict[Task, float] = {}
    for task in chosen:
        expected = rates.seconds(task.cell, len(task.replicates))
        if expected is None:
            return None
        seconds[task] = expected
    if not chosen:
        return Forecast(0.0, 0.0, 0.0)
    remaining = remaining_seconds(seconds, elapsed)
    scale = len(tasks) / len(chosen)
    if scale > 1:
        total = scale * sum(remaining.values()) / workers + TRIAL_COST
        middle = max(total, max(remaining.values()))
    else:
        middle = makespan(remaining, workers, rates, elapsed, gpus)
    if gpus:
        on_gpus = sum(task.gpus * remaining[task] for task in chosen)
        middle = max(middle, scale * on_gpus / gpus)
    log_sd = rates.log_sd((t.cell, len(t.replicates), s) for t, s in remaining.items())
    if log_sd > MAX_LOG_SD:
        return None
    factor = math.exp(NORMAL_80 * log_sd)
    return Forecast(middle, middle / factor, middle * factor)


def remaining_seconds(
    seconds: Mapping[Task, float], elapsed: Mapping[Task, float]
) -> dict[Task, float]:
    """Remaining seconds of each task. A trial's tasks have the same fraction left, at least 5 %."""
    trial_seconds: dict[int, float] = {}
    for task in elapsed.keys() & seconds.keys():
        trial_seconds[task.trial] = trial_seconds.get(task.trial, 0.0) + seconds[task]
    return {
        task: expected * max(0.05, 1 - elapsed[task] / trial_seconds[task.trial])
        if task in elapsed
        else expected
        for task, expected in seconds.items()
    }


def makespan(
    seconds: Mapping[Task, float],
    workers: int,
    rates: Rates,
    running: Collection[Task] = (),
    gpus: float = 0.0,
) -> float:
    """Seconds until tasks with these expected `seconds` are done, by simulating their queue."""
    expected: dict[Task, float] = {}
    per_replicate: dict[Cell, float] = {}
    for task, task_seconds in seconds.items():
        copy = Task(task.cell, task.replicates, task.gpus, resumable=task.resumable)
        copy.losses = int(task in running)  # so the queue takes it first, in a trial of its own
        expected[copy] = task_seconds
        if task not in running:
            per_replicate[task.cell] = task_seconds / len(task.replicates)
    queue = Queue(list(expected), rates=rates, gpus=gpus)

    def duration_of(task: Task) -> float:
        # The queue may have divided the task.
        return expected[task] if task.losses else per_replicate[task.cell] * len(task.replicates)

    busy: list[tuple[float, int, list[Task]]] = []
    now, order = 0.0, count()
    while True:
        while len(busy) < workers and (batch := queue.take(workers)):
            end = now + TRIAL_COST + sum(map(duration_of, batch))
            heapq.heappush(busy, (end, next(order), batch))
        if not busy:
            return now
        now, _, batch = heapq.heappop(busy)
        for task in batch:
            queue.finish(task)


def learn(
    rates: Rates, store: Store, cells: Sequence[Cell], finished: Mapping[str, Sequence[range]]
) -> None:
    """Fit `rates` to finished blocks of these cells, the oldest first."""
    blocks = [(cell, block) for cell in cells for block in finished.get(cell.id, ())]
    if len(blocks) > MAX_BLOCKS_READ:
        blocks = random.Random(0).sample(blocks, MAX_BLOCKS_READ)
    provenance = store.provenance_of(Block(cell.id, replicates) for cell, replicates in blocks)
    records = zip(blocks, provenance, strict=True)
    for (cell, replicates), record in sorted(records, key=lambda r: r[1].get("started", 0.0)):
        if "seconds" in record:
            rates.observe(cell, len(replicates), record["seconds"], earlier=True)
