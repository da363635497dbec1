"""Which failed cells are tried again, and what they are given then."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum

from ray.exceptions import RayError, RayTaskError

from study.faults.eviction import Evicted
from study.grid import Cell
from study.packing.share import share_of, trials_of
from study.words import counted

TRIES = 4
"""How often a cell is tried whose worker dies each time; it may be the cell that kills it."""


class Fault(Enum):
    """What ended a trial."""

    OWN = "an error of its own: it would only fail again"
    LOST = "its process or host died"
    HOST_MEMORY = "the host's memory ran out"
    GPU_MEMORY = "its share of a GPU was too small"


class AtOnce(Enum):
    """How many trials run beside one another, the resources aside."""

    ALL = "as many as fit"
    HALF = "half as many"
    ONE = "one at a time"


@dataclass(frozen=True)
class Grant:
    """What a cell is given when it is tried, and what has happened to it so far."""

    cell: Cell
    gpus: float
    """GPUs, or a fraction of one."""
    lost: int = 0
    """Tries in which its worker died or the host's memory ran out."""
    memory: bool = False
    """Whether that was memory once."""


def fault(error: Exception) -> Fault:
    """What ended a trial with this error."""
    import torch  # a driver without failures is spared it

    cause = error.cause if isinstance(error, RayTaskError) else error
    if isinstance(cause, torch.OutOfMemoryError):
        return Fault.GPU_MEMORY
    if isinstance(cause, Evicted | MemoryError) or "can't allocate memory" in str(cause):
        return Fault.HOST_MEMORY  # by Ray's monitor, by Python, by torch's allocator
    if isinstance(error, RayError) and not isinstance(error, RayTaskError):
        return Fault.LOST
    return Fault.OWN


def after(grant: Grant, error: Exception) -> Grant | None:
    """What the cell is given next; None where it has failed for good.

    A cell that ran out of a GPU's memory gets at least twice the share, up to a whole GPU. One
    whose worker died keeps what it had, `TRIES` times in all.
    """
    kind = fault(error)
    if kind is Fault.GPU_MEMORY and 0 < grant.gpus < 1:
        return replace(grant, gpus=share_of(max(1, trials_of(grant.gpus) // 2)))
    if kind in (Fault.LOST, Fault.HOST_MEMORY) and grant.lost + 1 < TRIES:
        memory = grant.memory or kind is Fault.HOST_MEMORY
        return replace(grant, lost=grant.lost + 1, memory=memory)
    return None


def at_once(grants: Iterable[Grant]) -> AtOnce:
    """How many of these to run at once: the last try is alone, whatever ended the others, and
    where the host's memory was short the one before with half as many. Not with more cores a
    trial: as its threads, they would change the last bits of the result."""
    worst = max(grants, key=lambda grant: grant.lost)
    if worst.lost == TRIES - 1:
        return AtOnce.ONE
    return AtOnce.HALF if worst.memory and worst.lost == TRIES - 2 else AtOnce.ALL


def last_words(grant: Grant, error: Exception) -> str:
    """The error as the store keeps it: its last line is the reason, and says what to do."""
    kind = fault(error)
    if kind is Fault.GPU_MEMORY and grant.gpus:
        where = "a whole GPU" if grant.gpus == 1 else f"{grant.gpus:g} GPUs"
        advice = f"OutOfMemoryError: the cell doesn't fit {where}"
    elif kind is Fault.HOST_MEMORY:
        advice = f"OutOfMemoryError: the host's memory ran out in {TRIES} tries, the last one alone"
    else:
        return str(error)
    return f"{error}\n{advice}; fewer --replicates or smaller --batch-sizes take less"


def announcements(retries: list[tuple[Grant, Fault, Grant]]) -> list[str]:
    """In a line each, what ended those trials whose cells are tried again: what a cell was given,
    the fault, and what it is given next."""
    kinds = Counter(kind for _, kind, _ in retries)
    how = at_once(next_grant for _, _, next_grant in retries)
    again = "trying again" + ("" if how is AtOnce.ALL else f", {how.value}")
    lines = []
    if lost := kinds[Fault.LOST]:
        lines.append(f"{_have(lost)} lost the worker; {again}")
    if short := kinds[Fault.HOST_MEMORY]:
        lines.append(f"{_have(short)} run out of the host's memory; {again}")
    shares = Counter(
        (trials_of(grant.gpus), trials_of(next_grant.gpus))
        for grant, kind, next_grant in retries
        if kind is Fault.GPU_MEMORY
    )
    for (before, now), cells in sorted(shares.items()):
        lines.append(
            f"{_have(cells)} run out of GPU memory at {counted(before, 'trial')} a GPU; "
            f"trying again at {now}"
        )
    return lines


def _have(count: int) -> str:
    return "1 cell has" if count == 1 else f"{count} cells have"
