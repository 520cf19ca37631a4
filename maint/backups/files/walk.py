"""Which files there are below the paths of a job; what cannot be read or is none is noted by name."""

import fnmatch
import os
import re
import stat
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from maint.backups.files.member import shown

#: named of each kind of trouble; the others are counted
_NAMED = 20

_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

#: kinds of trouble
GONE, CHANGED, VANISHED, UNREADABLE, SPECIAL = "gone", "changed", "vanished", "unreadable", "special"


@dataclass(slots=True)
class Notes:
    """What went otherwise, in bounded memory."""

    counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    examples: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def add(self, kind: str, path: str, why: str = "") -> None:
        self.counts[kind] += 1
        if len(self.examples[kind]) < _NAMED:
            self.examples[kind].append(shown(path) + (f": {why}" if why else ""))

    def failed(self, path: str, error: OSError) -> None:
        """Note what could not be opened: it may just have been deleted."""
        if isinstance(error, FileNotFoundError):
            self.add(VANISHED, path)
        else:
            self.add(UNREADABLE, path, error.strerror or str(error))


@dataclass(frozen=True, slots=True)
class Choice:
    """What a job backs up."""

    paths: tuple[str, ...]  #: absolute; of one below another only the upper counts
    exclude: tuple[str, ...] = ()  #: without a slash: of names; with one: of whole paths
    never: frozenset[tuple[int, int]] = frozenset()  #: folders (device, inode): repositories, own scratch

    @property
    def tops(self) -> Sequence[str]:
        """The paths that lie below no other, as they are written."""
        paths = sorted({os.path.normpath(path) for path in self.paths})
        return [path for path in paths if not any(path != up and path.startswith(f"{up.rstrip('/')}/") for up in paths)]


@dataclass(frozen=True, slots=True)
class Found:
    """Something in a folder that is open: nobody can put a link in its way."""

    path: str  #: absolute
    name: str
    folder: int | None  #: descriptor of the folder; None: `name` is a configured path, and a link there is followed
    stat: os.stat_result


def identity_of(path: str) -> tuple[int, int] | None:
    """Return what tells a folder from every other, whatever it is called; None if it is not there."""
    with suppress(OSError):
        found = os.stat(path)  # noqa: PTH116 - names that are not UTF-8
        return found.st_dev, found.st_ino
    return None


class Walk:
    """Yields everything that was chosen, each folder before what is in it; constant memory but for its depth."""

    def __init__(self, choice: Choice, notes: Notes) -> None:
        self._choice = choice
        self._notes = notes
        self._excluded = _rule(pattern for pattern in choice.exclude if "/" not in pattern)
        self._excluded_paths = _rule(pattern for pattern in choice.exclude if "/" in pattern)

    def __iter__(self) -> Iterator[Found]:
        for top in self._choice.tops:
            try:
                found = Found(top, top, None, os.stat(top))  # noqa: PTH116
            except OSError as error:
                self._notes.add(GONE, top, error.strerror or str(error))
                continue
            yield from self._one(found)

    def _one(self, top: Found) -> Iterator[Found]:
        """Yield one path and what is below it."""
        open_: list[tuple[str, int, Iterator[os.DirEntry[str]]]] = []
        try:
            yield from self._met(top, open_)
            while open_:
                path, folder, entries = open_[-1]
                entry = self._next(path, entries)
                if entry is None:
                    os.close(open_.pop()[1])
                elif found := self._found(path, folder, entry.name):
                    yield from self._met(found, open_)
        finally:
            for _, folder, _ in open_:
                os.close(folder)

    def _next(self, path: str, entries: Iterator[os.DirEntry[str]]) -> os.DirEntry[str] | None:
        """Return the next entry of a folder; a folder that cannot be read on ends there."""
        try:
            return next(entries, None)
        except OSError as error:
            self._notes.failed(path, error)
            return None

    def _found(self, path: str, folder: int, name: str) -> Found | None:
        path = f"{path.rstrip('/')}/{name}"
        if self._excluded.fullmatch(name) or self._excluded_paths.fullmatch(path):
            return None
        try:
            return Found(path, name, folder, os.stat(name, dir_fd=folder, follow_symlinks=False))
        except OSError as error:
            self._notes.failed(path, error)
            return None

    def _met(self, found: Found, open_: list[tuple[str, int, Iterator[os.DirEntry[str]]]]) -> Iterator[Found]:
        """Yield what was met if it can be kept; of a folder, open what is in it."""
        mode = found.stat.st_mode
        if not stat.S_ISDIR(mode):
            if stat.S_ISREG(mode) or stat.S_ISLNK(mode):
                yield found
            else:
                self._notes.add(SPECIAL, found.path, _SPECIAL.get(stat.S_IFMT(mode), "neither file, folder nor link"))
            return
        if (found.stat.st_dev, found.stat.st_ino) in self._choice.never:
            return
        yield found
        flags = _FOLDER_FLAGS if found.folder is not None else _FOLDER_FLAGS & ~os.O_NOFOLLOW
        try:
            folder = os.open(found.name, flags, dir_fd=found.folder)
        except OSError as error:
            self._notes.failed(found.path, error)
            return
        open_.append((found.path, folder, _entries(folder)))


def _entries(folder: int) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        yield from entries


_SPECIAL = {stat.S_IFSOCK: "a socket", stat.S_IFIFO: "a pipe", stat.S_IFBLK: "a device", stat.S_IFCHR: "a device"}


def _rule(patterns: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(fnmatch.translate(pattern) for pattern in patterns) or r"(?!)")
