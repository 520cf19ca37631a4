"""The small objects beside a manifest: who began the backup, the pin, the proofs. Their names say most of it."""

import json
import re
import socket
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from maint import __version__, owner
from maint.backups.paths import MANIFEST, PIN, PROOF, STARTED, Place, parse
from maint.errors import Locked, NotFound
from maint.model import Trust
from maint.repository import Entry, Repository

#: a folder without manifest whose process cannot be seen from here is left alone for so long after its last write
SILENCE = timedelta(days=2)

_PROOF = re.compile(rf"{PROOF}/(\d{{8}}T\d{{6}}Z)-({'|'.join(Trust)})\.json")
_STAMP = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True, slots=True)
class Owner:
    """Who makes a backup."""

    installation: str
    run_id: int
    host: str
    process: str  #: as `maint.owner` names it

    @classmethod
    def current(cls, installation: str, run_id: int) -> Self:
        """Return the present process, working for this run."""
        return cls(installation, run_id, socket.gethostname(), str(owner.me()))

    def alive(self) -> bool | None:
        """Return whether the process still runs; None if that cannot be seen from here."""
        process = owner.Owner.parse(self.process)
        return process.alive() if process else None


@dataclass(frozen=True, slots=True)
class Proof:
    """What somebody found out about a backup, and how."""

    id: str  #: of the backup
    result: Trust
    at: datetime
    seconds: float  #: it took; of a restore: the measured restore time
    compared: tuple[str, ...]  #: what was looked at, in words
    reason: str | None = None  #: what is damaged, or what could not be compared
    host: str = ""
    maint: str = __version__
    #: of a restore
    tables_compared: int | None = None
    rows_compared: int | None = None
    analyze_seconds: float | None = None
    cpus: int | None = None
    settings: Mapping[str, str] = field(default_factory=dict)  #: of the server it was restored on


def begin(repository: Repository, place: Place, who: Owner) -> None:
    """Write the first object of a backup. It stays: what an interrupted deletion leaves is known by it, too."""
    put(repository, place / STARTED, asdict(who))


def end(repository: Repository, place: Place) -> None:
    """Remove the mark of a backup that was given up, after everything else of it."""
    with suppress(Locked):  # the next sweep after the lock's end clears it
        repository.delete(place / STARTED)


def pin(repository: Repository, place: Place, reason: str, *, at: datetime) -> None:
    """Keep this backup whatever the retention says."""
    put(repository, place / PIN, {"reason": reason, "at": at.astimezone(UTC).isoformat(), "host": socket.gethostname()})


def unpin(repository: Repository, place: Place) -> None:
    """Let retention decide again. Under an object lock the pin cannot be deleted, but superseded."""
    try:
        repository.delete(place / PIN)
    except Locked:
        put(repository, place / PIN, {"reason": None})


def prove(repository: Repository, place: Place, proof: Proof) -> str:
    """Record what was found out; it changes the trust for everyone. Returns the path of the record."""
    proof = replace(proof, host=proof.host or socket.gethostname())
    path = place / f"{PROOF}/{proof.at.astimezone(UTC):{_STAMP}}-{proof.result}.json"
    put(repository, path, asdict(proof) | {"at": proof.at.astimezone(UTC).isoformat()})
    return path


def proof_of(name: str) -> tuple[datetime, Trust] | None:
    """Read a record's name, relative to its backup; None if it is none."""
    found = _PROOF.fullmatch(name)
    if found is None:
        return None
    with suppress(ValueError):  # digits that are no date
        return datetime.strptime(found[1], _STAMP).replace(tzinfo=UTC), Trust(found[2])
    return None


def deciding(proofs: Iterable[tuple[datetime, Trust]]) -> tuple[datetime, Trust] | None:
    """Return the record that tells the trust: the newest if it says damaged, else the best since the last damaged.

    Of two in one second damaged is the newer.
    """
    ordered = sorted(proofs, key=lambda proof: (proof[0], proof[1] is Trust.DAMAGED))
    if not ordered or ordered[-1][1] is Trust.DAMAGED:
        return ordered[-1] if ordered else None
    last = max((n for n, proof in enumerate(ordered) if proof[1] is Trust.DAMAGED), default=-1)
    return max(ordered[last + 1 :], key=lambda proof: (proof[1], proof[0]))


def put(repository: Repository, path: str, value: Any) -> None:
    """Write one small object."""
    data = json.dumps(value, indent=1, ensure_ascii=False).encode()
    with repository.create(path, size_hint=len(data)) as upload:
        upload.write(data)
        upload.commit()


def get(repository: Repository, path: str, *, version: str | None = None) -> bytes:
    """Read one small object whole."""
    with repository.open(path, version=version) as reader:
        return b"".join(iter(lambda: reader.read(1 << 20), b""))


def sweep(repository: Repository, *, installation: str, now: datetime, prefix: str = "") -> list[str]:
    """Clear the backups without manifest that dead processes of this installation left; return their folders.

    Also what is left of a backup whose deletion was interrupted. Of a process that cannot be seen from here nothing
    must have been written for two days.
    """
    swept = []
    for place, entries in _folders(repository.list(prefix)).items():
        names = {entry.path.removeprefix(place.prefix) for entry in entries}
        unfinished = STARTED in names and MANIFEST not in names
        if unfinished and _is_ours(repository, place, entries, installation, now) and _clear(repository, place):
            swept.append(place.prefix)
    return swept


def _folders(entries: Iterable[Entry]) -> dict[Place, list[Entry]]:
    folders: dict[Place, list[Entry]] = {}
    for entry in entries:
        if found := parse(entry.path):
            folders.setdefault(found[0], []).append(entry)
    return folders


def _is_ours(repository: Repository, place: Place, entries: Sequence[Entry], installation: str, now: datetime) -> bool:
    """Tell whether this installation began it and no longer works on it."""
    try:
        who = Owner(**json.loads(get(repository, place / STARTED)))
    except (NotFound, ValueError, TypeError):
        return False
    if who.installation != installation:
        return False
    alive = who.alive()
    return not alive if alive is not None else now - max(entry.modified_at for entry in entries) > SILENCE


def _clear(repository: Repository, place: Place) -> bool:
    """Delete everything of a backup that has no manifest, its mark last; return whether it is gone."""
    entries = list(repository.list(place.prefix))  # again: it may have got its manifest before its process ended
    if any(entry.path == place / MANIFEST for entry in entries):
        return False
    try:
        for entry in sorted(entries, key=lambda entry: entry.path == place / STARTED):
            repository.delete(entry.path)
    except Locked:  # the next sweep goes on
        return False
    return True
