"""Folders of files, backups of them without a configuration, and restores of those."""

import hashlib
import json
import logging
import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import zstandard

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
from support.backups import OWNER
from support.backups import tools as check_tools

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


def tree(folder: Path) -> dict[bytes, tuple[Any, ...]]:
    """Return all that is below a folder: type, mode, time, and bytes or target of each."""
    return {os.fsencode(path.relative_to(folder)): _of(path) for path in folder.rglob("*")}


def _of(path: Path) -> tuple[Any, ...]:
    found = path.lstat()
    if path.is_symlink():
        return "link", os.fspath(path.readlink()), found.st_mtime_ns
    if path.is_dir():
        return "folder", stat.S_IMODE(found.st_mode), found.st_mtime_ns
    return "file", stat.S_IMODE(found.st_mode), found.st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest()


def write(folder: Path, names: Iterable[bytes]) -> None:
    """Make small files whose bytes are their names."""
    for name in names:
        path = folder / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name)


def swap(config: RepositoryConfig, name: str, raw: bytes) -> None:
    """Replace a stream, and make manifest and digests agree with it: as somebody would who can write there."""
    packed = zstandard.ZstdCompressor(write_checksum=True).compress(raw)
    inside(config, f"{name}.000").write_bytes(packed)
    path = inside(config, "manifest.json")
    manifest = json.loads(path.read_text())
    stream = manifest["dump"] if name == "dump" else manifest["tree"]["listing"]
    stream["raw_bytes"], stream["stored_bytes"] = len(raw), len(packed)
    for file in manifest["files"]:
        if file["name"] == f"{name}.000":
            file["size"], file["sha256"] = len(packed), hashlib.sha256(packed).hexdigest()
    path.write_text(json.dumps(manifest))


def inside(config: RepositoryConfig, name: str) -> Path:
    """Return the path of an object of the newest backup."""
    return Path(open_repository(config).url_of(newest(config).place / name))


def below(target: Path, source: Path) -> Path:
    """Return where `source` lies in a folder that it was restored into."""
    return target / str(source).lstrip("/")
