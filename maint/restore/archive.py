"""What is in an archive, entry by entry, and which entries a restore takes."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

#: "3393; 1259 16389 TABLE DATA public orders owner": kinds are written in capitals, names as they are
_LINE = re.compile(r"(?P<id>\d+); (?P<catalog>\d+) (?P<oid>\d+) (?P<rest>.*)")

#: how a verbose listing goes on: "\t" and ids follow
_DEPENDS = ";\tdepends on:"

#: every kind that pg_restore prints, longest first: "TABLE DATA" begins with "TABLE"
_KINDS = sorted(
    (
        *("ACCESS METHOD", "ACL", "AGGREGATE", "BLOB", "BLOB COMMENTS", "BLOB METADATA", "BLOBS", "CAST"),
        *("CHECK CONSTRAINT", "COLLATION", "COMMENT", "CONSTRAINT", "CONVERSION", "DATABASE", "DATABASE PROPERTIES"),
        *("DEFAULT", "DEFAULT ACL", "DOMAIN", "ENCODING", "EVENT TRIGGER", "EXTENSION", "FK CONSTRAINT"),
        *("FOREIGN DATA WRAPPER", "FOREIGN TABLE", "FUNCTION", "INDEX", "INDEX ATTACH", "LARGE OBJECT"),
        *("MATERIALIZED VIEW", "MATERIALIZED VIEW DATA", "OPERATOR", "OPERATOR CLASS", "OPERATOR FAMILY", "POLICY"),
        *("PROCEDURAL LANGUAGE", "PROCEDURE", "PUBLICATION", "PUBLICATION TABLE", "PUBLICATION TABLES IN SCHEMA"),
        *("ROW SECURITY", "RULE", "SCHEMA", "SEARCHPATH", "SECURITY LABEL", "SEQUENCE", "SEQUENCE OWNED BY"),
        *("SEQUENCE SET", "SERVER", "SHELL TYPE", "STATISTICS", "STATISTICS DATA", "STDSTRINGS", "SUBSCRIPTION"),
        *("SUBSCRIPTION TABLE", "TABLE", "TABLE ATTACH", "TABLE DATA", "TEXT SEARCH CONFIGURATION"),
        *("TEXT SEARCH DICTIONARY", "TEXT SEARCH PARSER", "TEXT SEARCH TEMPLATE", "TRANSFORM", "TRIGGER", "TYPE"),
        *("USER MAPPING", "VIEW"),
    ),
    key=len,
    reverse=True,
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the table of contents."""

    id: int
    oid: int
    kind: str  #: "TABLE DATA"; "" if it is of a kind that is not known here
    names: str  #: "public orders owner": schema or -, name, owner; not to be split where names hold spaces
    line: str  #: as pg_restore printed it
    needs: tuple[int, ...] = ()  #: ids of what it depends on, where the listing was verbose

    @property
    def schema(self) -> str:
        """The schema as far as it can be told: "-" where there is none."""
        return self.names.split(" ", 1)[0]

    @property
    def label(self) -> str:
        """Name it for a person: ``INDEX public orders_pkey``."""
        return f"{self.kind or 'entry'} {self.names.removeprefix('- ')}"


def entries(listing: str) -> list[Entry]:
    """Read the output of ``pg_restore --list``, verbose or not."""
    found: list[Entry] = []
    for line in listing.split("\n"):  # not splitlines: a name may hold what Unicode takes for the end of a line
        if line.startswith(_DEPENDS) and found:
            needs = tuple(sorted({int(word) for word in line.removeprefix(_DEPENDS).split()}))
            found[-1] = replace(found[-1], needs=needs)
        elif entry := _entry(line):
            found.append(entry)
    return found


def _entry(line: str) -> Entry | None:
    found = _LINE.fullmatch(line)
    if found is None:
        return None
    rest = found["rest"]
    kind = next((kind for kind in _KINDS if rest.startswith(kind + " ")), "")
    return Entry(int(found["id"]), int(found["oid"]), kind, rest.removeprefix(kind).strip(" "), line)


def use_list(taken: Iterable[Entry]) -> str:
    """Return the text of a file for ``pg_restore --use-list``."""
    return "".join(f"{entry.line}\n" for entry in taken)
