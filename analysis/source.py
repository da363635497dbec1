"""Finds the images that a study was computed from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from study.errors import DataMissing
from trainables.data import DataError, Dataset, Options, is_path
from trainables.data import default_data_dir as default
from trainables.data import load as load_data


@dataclass(frozen=True)
class Source:
    """Looks for the images of a plan, once, when they are first asked for.

    If `data_dir` is given, only there; else where they were, then in `STUDY_DATA_DIR` or the cache.
    Images are downloaded only into the last of these.
    """

    plan: Mapping[str, Any]
    data_dir: Path | None = None
    """The user's `--data-dir`."""

    @cached_property
    def found(self) -> Dataset | DataMissing:
        """The images, or why they can't be read."""
        troubles = []
        try:
            options = Options.from_record(self.plan.get("data", {}))
            for name, folder, fetch in self._places():
                try:
                    data = load_data(name, folder, options, fetch)
                except DataError as error:
                    # The rest of the message is advice on how to arrange images.
                    why = str(error).partition("; ")[0] if is_path(name) else str(error)
                    troubles.append(why)
                    continue
                if data.fingerprint == self.plan["fingerprint"]:
                    return data
                troubles.append(
                    f"{folder or name} holds other data than the cells were computed from: "
                    f"fingerprint {data.fingerprint} instead of {self.plan['fingerprint']}"
                )
        except DataError as error:
            troubles.append(str(error))
        return DataMissing(f"the data of the study can't be read: {troubles[0]}")

    def _places(self) -> Iterator[tuple[str, Path | None, bool]]:
        """Where the images may be, as arguments of `load`: name or path, folder, and whether to
        download missing files there."""
        name, recorded = self.plan["dataset"], self.plan.get("data_dir")
        if not is_path(name):
            if self.data_dir:
                yield name, self.data_dir, False
                return
            if recorded:
                yield name, Path(recorded), False
            yield name, None, True
        elif self.data_dir:
            # A user's own images may be the folder itself, or lie in it under their old name.
            inside = self.data_dir / Path(name).name
            for path in (inside, self.data_dir) if inside.exists() else (self.data_dir,):
                yield str(path.resolve()), None, False
        else:
            yield name, None, False
            yield str(default() / Path(name).name), None, False
