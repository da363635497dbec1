"""Where a study computes, and what each trial gets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Resources:
    """Where a study computes, and what each trial gets."""

    address: str = "local"
    """`local` starts Ray on this machine; `auto` or HOST:PORT joins a running cluster."""
    cpus_per_trial: float = 1
    """CPU cores; a trial uses as many threads. One is fastest for these small networks."""
    gpus_per_trial: float | Literal["auto"] = "auto"
    """GPUs or a fraction of one; `auto` is the fraction whose memory an experiment's cells need,
    or none without GPUs."""
    cpus: int | None = None
    """CPU cores of a local Ray; None: as many as this process may use."""

    @property
    def threads(self) -> int:
        """Threads a trial computes with."""
        return max(1, int(self.cpus_per_trial))
