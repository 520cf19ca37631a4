"""Folders of files, backups of them without a configuration, and restores of those."""

import hashlib
import logging
import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from support.backups import OWNER
from support.backups import tools as check_tools

from maint.backups import check, inventory
from maint.backups.files.make import Order, make
from maint.backups.files.walk import Choice
from maint.backups.inventory import Backup
from maint.backups.manifest import FilesManifest
from maint.backups.passes import Made, Maker, Tools
from maint.backups.pipeline import Packing
from maint.backups.records import Proof
from maint.clock import Stop, SystemClock
from maint.config.model import RepositoryConfig
from maint.repository import open_repository
from maint.restore import sources
from maint.restore.files import Restored, restore_files

LOG = logging.getLogger("tests.trees")


def back_up(
    config: RepositoryConfig, scratch: Path, *paths: Path | str, exclude: Sequence[str] = (), **more: Any
) -> Made[FilesManifest]:
    """Make a backup of these paths."""
    scratch.mkdir(exist_ok=True)
    order = Order(
        choice=Choice(tuple(str(path) for path in paths), tuple(exclude), more.get("never", frozenset())),
        repositories=[(open_repository(config), config)],
        packing=Packing(3, 1),
        maker=Maker(OWNER, "files", "manual:7"),
        scratch=scratch,
        usual_bytes=more.get("usual"),
    )
    return make(order, Tools(Stop(), SystemClock(), LOG, more.get("progress", lambda *_a, **_n: None)))


def newest(config: RepositoryConfig) -> Backup:
    return inventory.load([open_repository(config)]).backups[0]


def look(config: RepositoryConfig, identity: Path | None = None) -> Proof:
    """Check the newest backup."""
    return check.check(open_repository(config), newest(config), identity=identity, tools=check_tools())


def bring_back(config: RepositoryConfig, folder: Path, identity: Path | None = None, **options: Any) -> Restored:
    """Restore the newest backup."""
    lent = sources.Tools(Stop(), LOG, lambda: folder)
    where = open_repository(config)
    return restore_files(where, newest(config), folder, identity=identity, tools=lent, clock=SystemClock(), **options)


def tree(folder: Path | bytes) -> dict[bytes, tuple[Any, ...]]:
    """Return all that is below a folder: type, mode, time, and bytes or target of each."""
    top = os.fsencode(folder)
    found: dict[bytes, tuple[Any, ...]] = {}
    for at, folders, files in os.walk(top):
        for name in [*folders, *files]:
            path = os.path.join(at, name)
            found[os.path.relpath(path, top)] = _of(path)
    return found


def _of(path: bytes) -> tuple[Any, ...]:
    is_ = os.lstat(path)
    if stat.S_ISLNK(is_.st_mode):
        return "link", os.readlink(path), is_.st_mtime_ns
    if stat.S_ISDIR(is_.st_mode):
        return "folder", stat.S_IMODE(is_.st_mode), is_.st_mtime_ns
    with open(path, "rb") as file:
        return "file", stat.S_IMODE(is_.st_mode), is_.st_mtime_ns, hashlib.sha256(file.read()).hexdigest()


def write(folder: Path, names: Iterable[bytes]) -> None:
    """Make small files whose bytes are their names."""
    for name in names:
        path = os.path.join(os.fsencode(folder), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(name)
