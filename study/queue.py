"""The queue of a study: which block is next, how it is divided, and what follows a failure.

It knows nothing of Ray: `study.launch` takes tasks from it and tells it how they ended.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count, pairwise
from typing import Any

from study.faults import TRIES, Fault
from study.grid import Cell, gaps
from study.packing.share import share_of, trials_of
from study.rates import Rates
from study.store import Block

TRIAL_SECONDS = 10.0
"""Shorter blocks are combined into trials of about this length, if there are many more blocks than
workers. A trial costs the driver some 15 ms, whatever is in it."""

LARGEST_BATCH = 50
"""Largest number of blocks in a trial. If its worker dies, unfinished ones are tried again."""

FEW_TASKS = 4
"""Tasks per worker up to which long blocks are divided. With more, a free worker always finds
another task."""


@dataclass(eq=False)
class Task:
    """A block to compute, and what has happened to it so far."""

    cell: Cell
    """The cell of the block."""
    replicates: range
    """The replicates of the block."""
    gpus: float = 0.0
    """GPUs that it gets, or a fraction of one."""
    losses: int = 0
    """Tries that ended because its worker, its host or the host's memory failed."""
    whole_host: bool = False
    """True if it gets a whole host, after all other ready tasks. Only a lost task does."""
    resumable: bool = False
    """True if it may have a checkpoint of all its replicates, and so must not be divided."""
    failed_on: str = ""
    """Id of the node of the latest loss."""
    trial: int = 0
    """Number of the latest trial that it was taken for."""
    rank: int = 0
    """Number of earlier tasks that build on the same cell."""
    order: int = 0
    """Number of earlier tasks."""
    waits_for: int = 0
    """Number of unfinished tasks that it builds on; -1 once it is dropped."""
    children: list[Task] = field(default_factory=list)
    """Tasks that wait for this one."""

    @property
    def block(self) -> Block:
        """The task's block as the store names it."""
        return Block(self.cell.id, self.replicates)

    @property
    def kind(self) -> tuple[object, ...]:
        """Experiment and categories. Tasks of the same kind take about the same time."""
        return (self.cell.experiment.name, *self.cell.categories)

    def built_on(self, parent: Task) -> list[int]:
        """The replicates that start from those of `parent`, a task of the cell's parent."""
        origin = self.cell.settings.parent_replicate
        return [
            replicate for replicate in self.replicates if origin(replicate) in parent.replicates
        ]


class Listener:
    """Receives the events of a queue's tasks; subclasses override those that concern them."""

    def resized(self, workers: int) -> None:
        """So many tasks can run at once from now on."""

    def started(self, task: Task) -> None:
        """A worker has started the task."""

    def reported(self, task: Task, result: Mapping[str, Any]) -> None:
        """The task's trial has reported metrics."""

    def done(self, task: Task, value: float | None) -> None:
        """The task's block is in the store; `value` is its mean metric, None if unknown."""

    def stopped(self, task: Task, result: Mapping[str, Any]) -> None:
        """The task's trial was stopped early, with these last metrics."""

    def failed(self, task: Task, error: str) -> None:
        """The task has failed for good; `error` may be a traceback."""

    def say(self, text: str) -> None:
        """Print a line."""


def missing_tasks(
    cells: Iterable[Cell],
    finished: Mapping[str, Sequence[range]],
    resumable: Mapping[str, Sequence[range]] = {},
) -> list[Task]:
    """Tasks for the replicates that are missing.

    Adjacent replicates of a cell are one task, as they are cheaper together. `resumable`
    blocks keep their replicates, to resume from their checkpoints.
    """
    tasks: list[Task] = []
    for cell in cells:
        there = list(finished.get(cell.id, ()))
        for part in resumable.get(cell.id, ()):
            if part.stop <= cell.replicates and not set(part) & set().union(*there):
                tasks.append(Task(cell, part, resumable=True))
                there.append(part)
        tasks += [Task(cell, gap) for gap in gaps(cell.replicates, there)]
    return tasks


def split_evenly(replicates: range, parts: int) -> list[range]:
    """Divide `replicates` into at most `parts` ranges of nearly equal size, none empty."""
    parts = max(1, min(parts, len(replicates)))
    cuts = [replicates.start + len(replicates) * part // parts for part in range(parts + 1)]
    return [range(start, stop) for start, stop in pairwise(cuts)]


class Queue:
    """Tasks that are ready, wait for others, or run."""

    def __init__(
        self,
        tasks: Sequence[Task],
        more: Callable[[], Task | None] | None = None,
        rates: Rates | None = None,
        gpus: float = 0.0,
    ) -> None:
        """`more`, given by a search, returns another task when none is ready, or None. `rates`
        learn from every finished task. `gpus` is the number of GPUs."""
        self.total = len(tasks)
        self.running: set[Task] = set()
        self.left = dict.fromkeys(tasks)
        """The tasks that have not ended, in their order."""
        self.rates = rates or Rates()
        self.gpus = gpus
        self._more = more
        self._pushes = count()
        self._totals: dict[int, tuple[int, float]] = {}
        """Number of tasks and result of the latest sum of `_total`, by `id` of its `peers`."""
        self._trials = count(1)
        self._ready: list[tuple[bool, bool, int, int, int, int, Task]] = []
        siblings: Counter[str | None] = Counter()
        by_cell: dict[str, list[Task]] = {}
        for order, task in enumerate(tasks):
            task.order = order
            parent_id = task.cell.parent_id
            task.rank = siblings[parent_id] if parent_id else 0
            siblings[parent_id] += 1
            by_cell.setdefault(task.cell.id, []).append(task)
        for task in tasks:
            parent = task.cell.parent
            for other in by_cell.get(parent.id, ()) if parent else ():
                if task.built_on(other):
                    other.children.append(task)
                    task.waits_for += 1
        self._parents = dict.fromkeys(task for task in tasks if task.children)
        for task in tasks:
            if not task.waits_for:
                self._push(task)

    def _push(self, task: Task) -> None:
        # Lost tasks come first. Then children: a classifier starts as soon as its encoder is done.
        # A task that needs a whole host comes last: while it waits for the other tasks of a host,
        # cores are idle. Classifiers of one encoder alternate with those of other encoders: two at
        # once would both encode the images, while a later one reuses the codes.
        key = (task.whole_host, task.losses == 0, -task.cell.ancestors, task.rank, task.order)
        heapq.heappush(self._ready, (*key, next(self._pushes), task))

    def _enter(self, task: Task) -> None:
        self.left[task] = None
        if task.children:
            self._parents[task] = None
        if not task.waits_for:
            self._push(task)

    def take(self, workers: int) -> list[Task]:
        """Take the tasks of the next trial, usually one; empty while none is ready."""
        if not self._ready and self._more and (task := self._more()):
            task.order = self.total
            self.total += 1
            self._enter(task)
        if not self._ready:
            return []
        most = max(1, min(LARGEST_BATCH, len(self._ready) // (2 * workers)))
        batch = [heapq.heappop(self._ready)[-1]]
        self._divide(batch[0], self._parts(batch[0], workers))
        seconds = self._expected(batch[0])
        while len(batch) < most and not batch[0].losses:
            other = self._ready[0][-1]
            seconds += self._expected(other)
            alike = (other.cell.experiment, other.gpus) == (batch[0].cell.experiment, batch[0].gpus)
            if other.losses or not (alike and seconds <= TRIAL_SECONDS):
                break
            batch.append(heapq.heappop(self._ready)[-1])
        self.running.update(batch)
        number = next(self._trials)
        for task in batch:
            task.trial = number
        return batch

    def _expected(self, task: Task) -> float:
        """Expected seconds; while no rates are known, a high number in proportion to the work."""
        count = len(task.replicates)
        known = self.rates.seconds(task.cell, count)
        if known is not None:
            return known
        return TRIAL_SECONDS * count * max(1.0, task.cell.settings.work(self.rates.images))

    def _parts(self, task: Task, workers: int) -> int:
        """Number of parts to divide a task into, so that no worker is idle.

        A task stays whole if there are more than `FEW_TASKS` tasks per worker, if it failed or may
        have a checkpoint, and in a search, which compares whole blocks. If others wait for the
        task, only tasks that others wait for are counted. If it needs a GPU, only as many workers
        are counted as fit on the GPUs. A part takes at least about `TRIAL_SECONDS`.
        """
        if task.gpus:
            workers = min(workers, int(self.gpus / task.gpus))
        peers = self._parents if task.children else self.left
        few = len(peers) <= FEW_TASKS * workers
        if not few or self._more or task.resumable or task.losses:
            return 1
        seconds, count = self._expected(task), len(task.replicates)
        most = min(count, int(seconds / TRIAL_SECONDS))
        if most < 2:
            return 1
        size = max(1, math.ceil(count * self._total(peers) / workers / seconds - 0.01))
        return min(most, math.ceil(count / size))

    def _total(self, peers: Collection[Task]) -> float:
        """Total expected seconds of the `peers` that wait for no other task.

        Repeated only when a twentieth of them has ended or others have become ready. For each of
        2,000 tasks on 500 workers, the sum would take 12 s.
        """
        number, total = self._totals.get(id(peers), (0, 0.0))
        if abs(len(peers) - number) > number / 20:
            total = sum(self._expected(peer) for peer in peers if not peer.waits_for)
            self._totals[id(peers)] = len(peers), total
        return total

    def _end(self, task: Task) -> None:
        self.running.discard(task)
        self.left.pop(task, None)
        self._parents.pop(task, None)

    def finish(self, task: Task, seconds: float | None = None) -> None:
        """Remove a finished task that took `seconds`; tasks that waited only for it are ready."""
        self._end(task)
        if seconds is not None:
            self.rates.observe(task.cell, len(task.replicates), seconds)
        for child in task.children:
            child.waits_for -= 1
            if not child.waits_for:
                self._push(child)
                self._totals.clear()

    def retry(self, task: Task, fault: Fault, node: str = "") -> bool:
        """Queue a task that failed on `node` again if that can help; return whether it can.

        If a GPU's memory was too small, the task gets twice the share, or on a whole GPU is divided
        in two. A lost task is tried again at once, up to its `TRIES`-th try. The last try has the
        host to itself; after a host ran out of memory, so has the one before it. No other fault
        is tried again.
        """
        if fault is Fault.GPU_MEMORY and 0 < task.gpus < 1:
            task.gpus = share_of(max(1, trials_of(task.gpus) // 2))
            task.resumable = True
        elif fault is Fault.GPU_MEMORY and len(task.replicates) > 1:
            self._divide(task, 2)
        elif fault in (Fault.LOST, Fault.HOST_MEMORY) and task.losses + 1 < TRIES:
            task.losses += 1
            task.failed_on = node
            task.whole_host = task.losses == TRIES - 1 or (
                fault is Fault.HOST_MEMORY and task.losses >= TRIES - 2
            )
        else:
            return False
        self.running.discard(task)
        self._push(task)
        return True

    def _divide(self, task: Task, parts: int) -> None:
        """Divide a task: it keeps the first part of its replicates, and new tasks get the rest."""
        task.replicates, *others = split_evenly(task.replicates, parts)
        for replicates in others:
            self._enter(self._new_part(task, replicates))

    def drop(self, task: Task) -> list[Task]:
        """Remove a task that failed for good; return the tasks that can't run without it.

        A task that also waits for other parts of the same cell loses only the replicates that
        start from this part.
        """
        self._end(task)
        dropped: list[Task] = []
        failed = [task]
        while failed:
            parent = failed.pop()
            for child in list(parent.children):
                lost = self._lost_with(parent, child) if child.waits_for >= 0 else None
                if lost:
                    dropped.append(lost)
                    failed.append(lost)
        return dropped

    def _lost_with(self, parent: Task, child: Task) -> Task | None:
        """Remove from a child the replicates that start from a failed parent.

        Returns them as a task: the whole child if they are all or not contiguous, None if there
        are none.
        """
        lost = child.built_on(parent)
        rest = [child.replicates]
        if lost:
            before = range(child.replicates.start, lost[0])
            after = range(lost[-1] + 1, child.replicates.stop)
            rest = [part for part in (before, after) if part]
            if not rest or len(lost) < lost[-1] + 1 - lost[0]:
                child.waits_for = -1  # another parent's end doesn't make it ready
                self._end(child)
                return child
        child.waits_for -= 1
        child.replicates, *others = rest
        for replicates in others:
            part = self._new_part(child, replicates)
            for other in self.left:
                if child in other.children:
                    other.children.append(part)
            self._enter(part)
        gone = self._new_part(child, range(lost[0], lost[-1] + 1)) if lost else None
        if gone:
            gone.waits_for = -1
        if not child.waits_for:
            self._push(child)
        return gone

    def _new_part(self, task: Task, replicates: range) -> Task:
        """Make another part of a task; tasks that wait for the task wait for it, too."""
        # A dropped child stays dropped: one more parent to wait for would bring it back.
        children = [child for child in task.children if child.waits_for >= 0]
        for child in children:
            child.waits_for += 1
        self.total += 1
        return replace(task, replicates=replicates, children=children)
