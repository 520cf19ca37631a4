"""Restore an archive by section: pre-data and data must succeed, each post-data object that cannot be made is named.

One orphan under a valid foreign key, or a materialised view over a function without search_path, makes post-data
fail although every row is there [tried]: so the sections are restored one by one.
"""

import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from maint.restore import archive
from maint.restore.archive import Entry
from maint.restore.choice import Choice, choose
from maint.restore.sources import DATA, POST_DATA, PRE_DATA, Archive, Failed, Target, Tools, opened
from maint.restore.stream import Backup

_ERROR = re.compile(r"pg_restore: error: (?:could not execute query: )?(?:ERROR:\s*)?(.*)")
#: "Command was: ALTER TABLE ONLY sales.orders", and its second line
_COMMAND = re.compile(r"pg_restore: Command was: (.*?);?$")
_MORE = re.compile(r"pg_restore: {5}(ADD CONSTRAINT .*?);?")
_UNKNOWN_SETTING = 'unrecognized configuration parameter "transaction_timeout"'

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
    atomic_up_to: int = 0  #: entries: so many can go, pre-data and data, in one transaction
    properties: bool = False  #: tell what the archive says of the database itself

    @property
    def options(self) -> list[str]:
        """Return it as options of pg_restore; what was chosen by name stands in the list of entries."""
        switches = {
            "--no-owner": not self.owners,
            "--no-acl": not self.privileges,
            "--no-tablespaces": not self.tablespaces,
            "--no-subscriptions": not self.subscriptions,
            "--no-publications": not self.publications,
        }
        return [switch for switch, wanted in switches.items() if wanted]

    @property
    def chooses(self) -> bool:
        """Whether not all is restored."""
        return bool(self.schemas or self.tables)

    def leaves_out(self, entry: Entry) -> bool:
        """Tell whether an object is left out although nothing was chosen against it by name."""
        kinds = {"SUBSCRIPTION": self.subscriptions, "PUBLICATION": self.publications}
        return not kinds.get(entry.kind, True)

    def is_about_left_out(self, entry: Entry) -> bool:
        """Tell whether an entry would fail without what is left out: its comment, its label, its privileges."""
        kinds = {"SUBSCRIPTION": self.subscriptions, "PUBLICATION": self.publications}
        about = entry.names.removeprefix("- ").split(" ", 1)[0]
        return entry.kind in ("COMMENT", "SECURITY LABEL") and not kinds.get(about, True)


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
    choice: Choice | None = None  #: where schemas or tables were chosen
    properties: str = ""  #: of the database itself, as SQL for one of the old name
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
        restored = Restored(found, choice=_choice(source, way))
        restored.left_out = _left_out(found, way, restored.choice)
        done = before(found) if before else lambda _entry: False
        restored.properties = _properties(source, tools) if way.properties else ""
        taken = [entry for entry in _taken(found, way, restored.choice) if not done(entry)]
        arguments = [*way.options, stack.enter_context(_use_list(taken, tools))]
        atomic = len(taken) <= way.atomic_up_to and way.jobs == 1
        for sections in ((PRE_DATA, DATA),) if atomic else ((PRE_DATA,), (DATA,)):
            _must(source, sections, arguments, target, atomic=atomic)
        restored.said = _may(source, arguments)
        restored.problems = problems(restored.said)
    return restored


@contextmanager
def _use_list(taken: Sequence[Entry], tools: Tools) -> Iterator[str]:
    """Write down what is taken; return the option of pg_restore."""
    with tempfile.NamedTemporaryFile("w", suffix=".list", encoding="utf-8", dir=tools.scratch()) as file:
        file.write(archive.use_list(taken))
        file.flush()
        yield f"--use-list={file.name}"


def _properties(source: Archive, tools: Tools) -> str:
    listed = archive.entries(source.read_head("--list", "--create"))
    about = [e for e in listed if e.kind.startswith("DATABASE") or e.names.startswith("- DATABASE ")]
    with _use_list(about, tools) as option:
        return source.read_head("--create", "--file=-", option)


def _choice(source: Archive, way: Way) -> Choice | None:
    if not way.chooses:
        return None
    return choose(lambda *options: archive.entries(source.read_head("--list", *options)), way.schemas, way.tables)


def _left_out(found: Sequence[Entry], way: Way, choice: Choice | None) -> list[str]:
    if choice is not None:
        return choice.left
    return [entry.label for entry in found if way.leaves_out(entry)]


def _taken(found: Sequence[Entry], way: Way, choice: Choice | None) -> Iterator[Entry]:
    for entry in found:
        if (choice is None or entry.id in choice.taken) and not way.is_about_left_out(entry):
            yield entry


def _must(source: Archive, sections: Sequence[str], arguments: Sequence[str], target: Target, *, atomic: bool) -> None:
    """Restore sections in which nothing may fail."""
    if target.is_older:
        _must_but_for_a_setting(source, sections, arguments)
    else:
        source.restore(sections, [*arguments, "--single-transaction" if atomic else "--exit-on-error"])


def _must_but_for_a_setting(source: Archive, sections: Sequence[str], arguments: Sequence[str]) -> None:
    """pg_restore 17 begins with SET transaction_timeout, which older servers do not know: that alone may fail."""
    try:
        source.restore(sections, arguments)
    except Failed as failed:
        errors = [line for line in failed.lines if _ERROR.search(line)]
        if failed.error.status != 1 or not errors or not all(_UNKNOWN_SETTING in line for line in errors):
            raise


def _may(source: Archive, arguments: Sequence[str]) -> tuple[str, ...]:
    """Restore post-data; return what pg_restore said if something of it failed."""
    try:
        source.restore((POST_DATA,), arguments)
    except Failed as failed:
        if failed.error.status < 0:  # killed: says nothing about what is in the archive
            raise
        return failed.lines
    return ()


def problems(lines: Sequence[str]) -> list[Problem]:
    """Read what pg_restore says of objects it could not make."""
    found: list[Problem] = []
    entry = ""
    for line in lines:
        if told := re.search(r"from TOC entry \d+; \d+ \d+ (.*)", line):
            entry = told[1]
        elif (told := _ERROR.search(line)) and _UNKNOWN_SETTING not in line:
            found.append(Problem(entry or "post-data", told[1]))
        elif (told := _COMMAND.search(line)) and found:  # without --verbose nothing else names the object
            found[-1] = Problem(entry or told[1], found[-1].error)
        elif (told := _MORE.fullmatch(line)) and found and found[-1].entry.startswith("ALTER TABLE"):
            found[-1] = Problem(f"{found[-1].entry} {told[1]}", found[-1].error)
    if lines and not found and not any(_UNKNOWN_SETTING in line for line in lines):
        found.append(Problem("post-data", lines[-1]))
    return found
