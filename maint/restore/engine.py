"""Restore an archive by section: pre-data and data must succeed, each post-data object that cannot be made is named.

One orphan under a valid foreign key, or a materialised view over a function without search_path, makes post-data
fail although every row is there [tried]: so the sections are restored one by one.
"""

import re
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from maint.restore import archive
from maint.restore.archive import Entry
from maint.restore.sources import DATA, POST_DATA, PRE_DATA, Failed, Target, Tools, opened
from maint.restore.stream import Backup

#: what is asked about the table of contents: which entries are not to be restored
Leave = Callable[[Entry], bool]


@dataclass(frozen=True, slots=True)
class Way:
    """How to restore, and what of it."""

    owners: bool = False
    privileges: bool = False
    tablespaces: bool = False
    subscriptions: bool = False  #: dropping a restored subscription drops the publisher's slot
    publications: bool = False
    schemas: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    jobs: int = 1

    @property
    def options(self) -> list[str]:
        """Return it as options of pg_restore."""
        switches = {
            "--no-owner": not self.owners,
            "--no-acl": not self.privileges,
            "--no-tablespaces": not self.tablespaces,
            "--no-subscriptions": not self.subscriptions,
            "--no-publications": not self.publications,
        }
        chosen = [f"--schema={name}" for name in self.schemas] + [f"--table={name}" for name in self.tables]
        return [switch for switch, wanted in switches.items() if wanted] + chosen

    def leaves_out(self, entry: Entry) -> bool:
        """Tell whether an object is left out although nothing was chosen against it by name."""
        kinds = {"SUBSCRIPTION": self.subscriptions, "PUBLICATION": self.publications}
        return not kinds.get(entry.kind, True)


@dataclass(frozen=True, slots=True)
class Problem:
    """An object of post-data that could not be made."""

    entry: str  #: "FK CONSTRAINT public orders orders_customer_fkey shop"
    error: str


@dataclass(slots=True)
class Restored:
    """What became of a restore whose rows are all there."""

    entries: list[Entry]
    problems: list[Problem] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)  #: "SUBSCRIPTION orders_in"
    said: tuple[str, ...] = ()  #: by pg_restore, where post-data had problems


def restore(
    backup: Backup, target: Target, way: Way, tools: Tools, *, before: Callable[[Sequence[Entry]], Leave] | None = None
) -> Restored:
    """Restore `backup` into `target`.

    `before` sees the table of contents before anything is restored; it may prepare the database (extensions) and
    returns which entries are done with. Raises `Damaged`, `Failed` (pre-data or data), `NoKey`, `Stopped`.
    """
    with ExitStack() as stack:
        source = stack.enter_context(opened(backup, target, way.jobs, tools))
        found = archive.entries(source.listing)
        done = before(found) if before else lambda _entry: False
        private = tempfile.NamedTemporaryFile("w", suffix=".list", encoding="utf-8", dir=tools.scratch())  # noqa: SIM115
        uses = stack.enter_context(private)
        uses.write(archive.use_list(entry for entry in found if not done(entry)))
        uses.flush()
        arguments = [*way.options, f"--use-list={uses.name}"]
        source.restore(PRE_DATA, [*arguments, "--exit-on-error"])
        source.restore(DATA, [*arguments, "--exit-on-error"])
        restored = Restored(found, left_out=[entry.label for entry in found if way.leaves_out(entry)])
        try:
            source.restore(POST_DATA, arguments)
        except Failed as failed:
            if failed.error.status < 0:  # killed: says nothing about what is in the archive
                raise
            restored.said = failed.lines
            restored.problems = problems(failed.lines) or [Problem("post-data", str(failed))]
    return restored


def problems(lines: Sequence[str]) -> list[Problem]:
    """Read what pg_restore says of objects it could not make."""
    found: list[Problem] = []
    entry = ""
    for line in lines:
        if told := re.search(r"from TOC entry \d+; \d+ \d+ (.*)", line):
            entry = told[1]
        elif told := re.search(r"pg_restore: error: (?:could not execute query: )?(?:ERROR:\s*)?(.*)", line):
            found.append(Problem(entry, told[1]))
    return found
