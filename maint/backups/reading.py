"""Reading many small objects: at the same time, and each only once as long as it does not change."""

import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import fields
from functools import partial
from typing import Any, Protocol

from maint.backups import manifest, records
from maint.backups.paths import MANIFEST
from maint.backups.summary import Summary
from maint.errors import Damaged, HistoryError, NotFound
from maint.repository import Entry, Repository

#: at the same time: a small object in a far-away store is all waiting
_THREADS = 16

#: a cached value of another shape is read again
_SHAPE = ",".join(field.name for field in fields(Summary))


class Cache(Protocol):
    """The history, as far as it is one."""

    def cached(self, repository: str, /) -> Mapping[str, str]: ...

    def remember(self, repository: str, found: Mapping[str, str], /) -> None: ...

    def forget(self, repository: str, paths: Iterable[str], /) -> None: ...


def read_all(
    repository: Repository, entries: Sequence[Entry], cache: Cache | None, *, everything: bool
) -> dict[str, dict[str, Any]]:
    """Return what each object says: of a manifest its summary, or ``error``. What was deleted meanwhile is left out.

    `everything`: these are all there are; forget others. A cache that fails is done without.
    """
    known = _known(repository, cache)
    keys = {entry.path: _key(entry) for entry in entries}
    found = {path: value["value"] for path, value in known.items() if value.get("key") == keys.get(path, "")}
    missing = [entry for entry in entries if entry.path not in found]
    if missing:
        with ThreadPoolExecutor(min(_THREADS, len(missing))) as pool:
            read = pool.map(partial(_read, repository), missing)
            new = {entry.path: value for entry, value in zip(missing, read, strict=True) if value is not None}
        found |= new
        _remember(repository, cache, {path: (keys[path], value) for path, value in new.items()})
    if everything and cache and (gone := known.keys() - keys.keys()):
        with suppress(HistoryError):
            cache.forget(repository.name, sorted(gone))
    return found


def _known(repository: Repository, cache: Cache | None) -> dict[str, dict[str, Any]]:
    if cache is None:
        return {}
    with suppress(HistoryError):
        return {path: json.loads(text) for path, text in cache.cached(repository.name).items()}
    return {}


def _remember(repository: Repository, cache: Cache | None, new: Mapping[str, tuple[str, Any]]) -> None:
    texts = {path: json.dumps({"key": key, "value": value}) for path, (key, value) in new.items()}
    if cache and texts:
        with suppress(HistoryError):
            cache.remember(repository.name, texts)


def _key(entry: Entry) -> str:
    """Tell this very object from one written in its place."""
    return f"{entry.size} {entry.modified_at.timestamp()} {entry.version} {_SHAPE}"


def _read(repository: Repository, entry: Entry) -> dict[str, Any] | None:
    is_manifest = entry.path.endswith(f"/{MANIFEST}")
    try:
        data = records.get(repository, entry.path, version=entry.version)
        if is_manifest:
            return Summary.of(manifest.read(data, where="the manifest")).to_json()
        value = json.loads(data)
    except NotFound:
        return None
    except Damaged as error:
        return {"error": str(error)}
    except ValueError:  # a record somebody wrote by hand: its name tells enough
        return {}
    return value if isinstance(value, dict) else {}
