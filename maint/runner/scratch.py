"""The private folder of a run, and what is left of earlier ones that were killed."""

import shutil
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

from maint.config.model import Config
from maint.errors import MaintError
from maint.owner import Owner, me

#: after which a folder of a process that cannot be judged from here is nobody's any more
_ABANDONED = timedelta(days=2)


def _folder(config: Config) -> Path:
    return config.state_dir / "scratch"


class Scratch:
    """Made when first asked for, 0700; removed with the `with`."""

    def __init__(self, config: Config, run_id: int) -> None:
        self._path = _folder(config) / f"run-{run_id}-{me()}"
        self._lock = threading.Lock()

    def __call__(self) -> Path:
        """Return the folder. Raises `MaintError` if it cannot be made."""
        with self._lock:
            try:
                self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                raise MaintError(
                    f"the scratch folder {self._path} cannot be made: {error.strerror}",
                    hint="set state_dir in maint.toml to a folder that can be written",
                ) from error
        return self._path

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self._path, ignore_errors=True)


def sweep(config: Config, now: datetime) -> Iterator[Path]:
    """Remove the folders of processes that are gone; yield them."""
    try:
        found = sorted(_folder(config).iterdir())
    except OSError:  # none was ever made, or they are another user's
        return
    for path in found:
        owner = _owner(path)
        if owner is not None and _is_gone(owner, path, now):
            shutil.rmtree(path, ignore_errors=True)
            yield path


def _is_gone(owner: Owner, path: Path, now: datetime) -> bool:
    alive = owner.alive()
    if alive is None:  # before the last boot, or in another container
        return now.timestamp() - path.stat().st_mtime > _ABANDONED.total_seconds()
    return not alive


def _owner(path: Path) -> Owner | None:
    """Return whose it is: as its name says, for a killed process may not have come to write it into the folder."""
    return Owner.parse(path.name.split("-", 2)[-1]) if path.name.startswith("run-") else None
