"""Seconds until a study is done, by simulating its queue with expected seconds."""

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

MOST_READ = 300
"""Largest number of finished blocks whose seconds are read, chosen at random."""

UNKNOWN = 1.0
"""Standard deviation of log seconds above which there is no forecast: a range of 1 to 13."""

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
        """`about 6 min (4 to 9)`, or if the units differ, `about 1 min (40 s to 2 min)`."""
        words = [duration(s, rough=True) for s in (self.seconds, self.low, self.high)]
        if len({word.rpartition(" ")[2] for word in words}) == 1:
            words[1:] = [word.partition(" ")[0] for word in words[1:]]
        return f"about {words[0]} ({words[1]} to {words[2]})"


def forecast(
    tasks: Collection[Task],
    workers: int,
    rates: Rates,
    elapsed: Mapping[Task, float] = {},
    gpus: float = 0.0,
) -> Forecast | None:
    """Seconds until `tasks` are done; None if too little is known of the rates.

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
    spread = rates.spread((t.cell, len(t.replicates), s) for t, s in remaining.items())
    if spread > UNKNOWN:
        return None
    factor = math.exp(NORMAL_80 * spread)
    return Forecast(middle, middle / factor, middle * factor)


def remaining_seconds(
    seconds: Mapping[Task, float], elapsed: Mapping[Task, float]
) -> dict[Task, float]:
    """Remaining seconds of each task. A trial's tasks have the same fraction left, at least 5 %."""
    of_trial: dict[int, float] = {}
    for task in elapsed.keys() & seconds.keys():
        of_trial[task.trial] = of_trial.get(task.trial, 0.0) + seconds[task]
    return {
        task: expected * max(0.05, 1 - elapsed[task] / of_trial[task.trial])
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
    each: dict[Cell, float] = {}
    for task, its in seconds.items():
        copy = Task(task.cell, task.replicates, task.gpus, resumable=task.resumable)
        copy.losses = int(task in running)  # so the queue takes it first, in a trial of its own
        expected[copy] = its
        if task not in running:
            each[task.cell] = its / len(task.replicates)
    queue = Queue(list(expected), rates=rates, gpus=gpus)

    def lasts(task: Task) -> float:
        return expected[task] if task.losses else each[task.cell] * len(task.replicates)

    busy: list[tuple[float, int, list[Task]]] = []
    now, order = 0.0, count()
    while True:
        while len(busy) < workers and (batch := queue.take(workers)):
            end = now + TRIAL_COST + sum(map(lasts, batch))
            heapq.heappush(busy, (end, next(order), batch))
        if not busy:
            return now
        now, _, batch = heapq.heappop(busy)
        for task in batch:
            queue.finish(task)


def learn(
    rates: Rates, store: Store, cells: Sequence[Cell], finished: Mapping[str, Sequence[range]]
) -> None:
    """Train `rates` on finished blocks of these cells, the oldest first."""
    blocks = [(cell, found) for cell in cells for found in finished.get(cell.id, ())]
    if len(blocks) > MOST_READ:
        blocks = random.Random(0).sample(blocks, MOST_READ)
    made = store.provenance_of(Block(cell.id, found) for cell, found in blocks)
    every = zip(blocks, made, strict=True)
    for (cell, found), facts in sorted(every, key=lambda each: each[1].get("started", 0.0)):
        if "seconds" in facts:
            rates.observe(cell, len(found), facts["seconds"], earlier=True)
