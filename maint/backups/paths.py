"""Where a backup lies in its repository: ``<server>/<database, percent-encoded>/<id>/``."""

import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from urllib.parse import quote, unquote

MANIFEST = "manifest.json"
#: written first: whose backup this is; what lies beside it without a manifest is unfinished
STARTED = "started.json"
PIN = "pin"
PROOF = "proof"
#: stands for the server in backups of files: no server can be called so
FILES = "-"

_ID = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{4}")


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """The folder of one backup."""

    server: str
    database: str
    id: str

    @property
    def prefix(self) -> str:
        """Return the folder, with its closing slash."""
        return f"{database_prefix(self.server, self.database)}{self.id}/"

    def __truediv__(self, name: str) -> str:
        return self.prefix + name


def new_id(now: datetime) -> str:
    """Return the id of a backup begun at `now`: it sorts by time, and two of one second differ."""
    return f"{now.astimezone(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"


@lru_cache(4096)  # a listing asks for the same few names thousands of times
def encode(name: str) -> str:
    """Percent-encode a name so that it is one safe path segment, ``.`` and ``..`` included."""
    encoded = quote(name, safe="")
    return encoded.replace(".", "%2E") if not encoded.strip(".") else encoded


def server_prefix(server: str) -> str:
    return f"{encode(server)}/"


def database_prefix(server: str, database: str) -> str:
    return f"{encode(server)}/{encode(database)}/"


def parse(path: str) -> tuple[Place, str] | None:
    """Split the path of an object into its backup and the rest; None if it belongs to no backup."""
    parts = path.split("/", 3)
    if len(parts) != 4 or not _ID.fullmatch(parts[2]):
        return None
    server, database, id_, rest = parts
    return Place(unquote(server), unquote(database), id_), rest
