"""Restore chosen schemas or tables: with what belongs to them and what they need, and without what needs the rest.

``pg_restore --table`` restores a table without its indexes, constraints and sequences, takes no ``schema.table``, and
``--schema`` leaves out the schema itself [tried]; both end well where nothing was found. So they are only asked what
bears a name (names in a table of contents cannot be told apart where they hold spaces), and the dependencies in the
archive say the rest.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from maint.errors import UsageError
from maint.restore.archive import Entry

#: lists what ``pg_restore --list`` finds with these options
Listing = Callable[..., list[Entry]]

#: what can be chosen by name
_RELATIONS = frozenset(("TABLE", "VIEW", "MATERIALIZED VIEW", "FOREIGN TABLE", "SEQUENCE"))

#: what belongs to a relation and comes along with it
_PARTS = frozenset(
    (
        *("TABLE DATA", "MATERIALIZED VIEW DATA", "STATISTICS DATA", "SEQUENCE SET", "SEQUENCE", "SEQUENCE OWNED BY"),
        *("DEFAULT", "INDEX", "INDEX ATTACH", "TABLE ATTACH", "CONSTRAINT", "CHECK CONSTRAINT", "FK CONSTRAINT"),
        *("TRIGGER", "RULE", "POLICY", "ROW SECURITY", "STATISTICS", "COMMENT", "ACL", "SECURITY LABEL"),
    )
)

#: what belongs to anything that is only needed
_MARKS = frozenset(("COMMENT", "ACL", "SECURITY LABEL", "SEQUENCE SET", "SEQUENCE OWNED BY"))

#: what is never made for the sake of something else: it would be there without its rows
_FIRM = frozenset(("TABLE", "VIEW", "MATERIALIZED VIEW", "FOREIGN TABLE", "CONSTRAINT", "INDEX"))


@dataclass(slots=True)
class Choice:
    """What is taken of an archive, and why not more."""

    taken: set[int] = field(default_factory=set)
    along: list[Entry] = field(default_factory=list)  #: not chosen, but needed
    left: list[str] = field(default_factory=list)  #: "FK CONSTRAINT …: needs TABLE public customers"
    _with_rows: frozenset[str] = frozenset()  #: "sales orders": of those whose rows are taken

    def has_rows_of(self, schema: str, name: str) -> bool:
        """Tell whether the rows of a table are taken."""
        return _one_line(f"{schema} {name}") in self._with_rows


def choose(listing: Listing, schemas: Sequence[str], tables: Sequence[str]) -> Choice:
    """Choose from an archive. Raises `UsageError` for a name that nothing bears."""
    archive = _Archive(listing("--verbose"))
    chosen: set[int] = set()
    named: set[int] = set()
    for schema in schemas:
        chosen |= _of_schema(archive, listing, schema)
    for table in tables:
        named |= archive.with_partitions(_of_table(listing, table))
    found = archive.closed(chosen | named)
    if lost := named - found.taken:
        labels = {archive.entries[n].label for n in lost}
        raise UsageError(
            "; ".join(text for text in found.left if text.partition(": needs ")[0] in labels),
            hint="choose that, too: --table may be given again",
        )
    return found


def _of_schema(archive: "_Archive", listing: Listing, schema: str) -> set[int]:
    # the schema itself is in no schema
    start = _one_line(f"- {schema} ")
    itself = {e.id for e in archive.entries.values() if e.kind == "SCHEMA" and e.names.startswith(start)}
    found = itself | {entry.id for entry in listing(f"--schema={schema}")}
    if not found & archive.entries.keys():
        raise UsageError(f"the backup holds no schema {schema}")
    return found & archive.entries.keys()


def _of_table(listing: Listing, text: str) -> set[int]:
    for options in _readings(text):
        if found := {entry.id for entry in listing(*options) if entry.kind in _RELATIONS}:
            return found
    raise UsageError(
        f"the backup holds no table {text}", hint="names are taken as they are written: schema.table, or table"
    )


def _readings(text: str) -> Iterator[list[str]]:
    """Yield what a name may mean: a table of any schema; or schema and table, quoted or not."""
    yield [f"--table={text}"]
    for at in (n for n, character in enumerate(text) if character == "."):
        schema, table = _plain(text[:at]), _plain(text[at + 1 :])
        if schema and table:
            yield [f"--schema={schema}", f"--table={table}"]
    if plain := _plain(text):
        yield [f"--table={plain}"]


def _plain(name: str) -> str:
    quoted = len(name) > 2 and name[0] == name[-1] == '"'
    return name[1:-1].replace('""', '"') if quoted else name


def _one_line(names: str) -> str:
    """Write names as pg_restore --list does."""
    return names.replace("\n", " ").replace("\r", " ")


class _Archive:
    """The entries, and what depends on what."""

    def __init__(self, listed: Sequence[Entry]) -> None:
        self.entries = {entry.id: entry for entry in listed}
        self._parents: dict[int, set[int]] = {}  #: partition -> what it is attached to
        for entry in listed:
            if entry.kind == "TABLE ATTACH":
                self._note_parent(entry)
        self._needs = {entry.id: self._needed_by(entry) for entry in listed}

    def _note_parent(self, attach: Entry) -> None:
        """Of the two that are attached, the partition depends on its parent."""
        for child in attach.needs:
            parents = set(attach.needs) & set(self.entries[child].needs if child in self.entries else ())
            if parents:
                self._parents.setdefault(child, set()).update(parents)

    def _needed_by(self, entry: Entry) -> list[int]:
        # a partition is made by itself, and attached later
        parents = self._parents.get(entry.id, set())
        return [n for n in entry.needs if n in self.entries and n not in parents]

    def with_partitions(self, chosen: set[int]) -> set[int]:
        """Add the partitions of chosen tables: their rows are its rows."""
        found = set(chosen)
        while more := {child for child, parents in self._parents.items() if parents & found} - found:
            found |= more
        return found

    def closed(self, chosen: set[int]) -> Choice:
        """Take what is chosen, its parts and what they need; leave what needs something firm that is not chosen."""
        found = Choice(taken=set(chosen))
        left = list(self._drop_what_cannot_be(found.taken))
        parts = [entry for entry in self.entries.values() if entry.kind in _PARTS]
        while more := {e.id for e in parts if _hangs_on(e, found.taken) and self._lacking(e.id, found.taken) is None}:
            found.taken |= more
        left += [self._why(e, found.taken) for e in parts if self._is_missed(e, found.taken)]
        left += ["the large objects: they are in no table"] if self._has_large_objects() else []
        found.left = list(dict.fromkeys(left))
        rows = (self.entries[n] for n in found.taken if self.entries[n].kind == "TABLE DATA")
        found._with_rows = frozenset(prefix for entry in rows for prefix in _prefixes(entry.names))  # noqa: SLF001
        self._take_along(found)
        return found

    def _is_missed(self, part: Entry, taken: set[int]) -> bool:
        """Tell whether a part of something taken is left; a foreign key of another table to it is none."""
        lacking = self._lacking(part.id, taken) if _hangs_on(part, taken) else None
        return lacking is not None and not part.names.startswith(lacking.names.rpartition(" ")[0] + " ")

    def _drop_what_cannot_be(self, taken: set[int]) -> Iterator[str]:
        while lost := [n for n in sorted(taken) if self._lacking(n, taken)]:
            yield from [self._why(self.entries[n], taken) for n in lost]
            taken.difference_update(lost)

    def _why(self, entry: Entry, taken: set[int]) -> str:
        lacking = self._lacking(entry.id, taken)
        return f"{entry.label}: needs {lacking.label}" if lacking else entry.label

    def _lacking(self, id_: int, taken: set[int], above: frozenset[int] = frozenset()) -> Entry | None:
        """Return what `id_` needs, directly or not, that is neither taken nor made for its sake."""
        for needed in self._needs[id_]:
            if needed in taken or needed in above:
                continue
            if self.entries[needed].kind in _FIRM and not self._inherits(id_, needed):
                return self.entries[needed]
            if lacking := self._lacking(needed, taken, above | {id_}):
                return lacking
        return None

    def _inherits(self, child: int, parent: int) -> bool:
        return self.entries[child].kind == self.entries[parent].kind == "TABLE"

    def _has_large_objects(self) -> bool:
        return any(entry.kind in ("BLOB", "BLOBS", "BLOB METADATA") for entry in self.entries.values())

    def _take_along(self, found: Choice) -> None:
        """Add what is needed, and the comments and privileges of that."""
        waiting, along = list(found.taken), set[int]()
        while waiting:
            more = set(self._needs[waiting.pop()]) - found.taken - along
            along |= more
            waiting += more
        found.along = [self.entries[n] for n in sorted(along)]
        found.taken |= along
        marks = [e for e in self.entries.values() if e.kind in _MARKS and not along.isdisjoint(e.needs)]
        found.taken |= {entry.id for entry in marks if found.taken.issuperset(self._needs[entry.id])}


def _hangs_on(entry: Entry, taken: set[int]) -> bool:
    return entry.id not in taken and not taken.isdisjoint(entry.needs)


def _prefixes(names: str) -> Iterator[str]:
    """Yield what may be schema and name: an owner follows, and each of them may hold spaces."""
    words = names.split(" ")
    return (" ".join(words[:n]) for n in range(2, len(words)))
