"""Make one backup of files, in every repository at once."""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from maint.backups import restore_md
from maint.backups.files.archive import Archive
from maint.backups.files.member import FILE, FOLDER, LINK
from maint.backups.files.walk import CHANGED, GONE, SPECIAL, UNREADABLE, VANISHED, Choice, Notes
from maint.backups.manifest import FilesManifest, Tree
from maint.backups.passes import Made, Maker, Part, Pass, Tools, begun, too_small
from maint.backups.paths import FILES, Place, new_id
from maint.backups.pipeline import Packing
from maint.backups.stores import Stores
from maint.errors import BackupError
from maint.model import Finding, Severity


@dataclass(frozen=True, slots=True)
class Order:
    """What to back up, how, and into which repositories."""

    choice: Choice
    repositories: Stores
    packing: Packing
    maker: Maker
    scratch: Path  #: a private folder, for the list until it is sent
    usual_bytes: float | None  #: of the stream, from earlier backups


def make(order: Order, tools: Tools) -> Made[FilesManifest]:
    """Make the backup. Raises what ended it if no repository holds one; then nothing of it is left anywhere."""
    place = Place(FILES, order.maker.job, new_id(tools.clock.now()))
    manifests: dict[str, FilesManifest] = {}

    def conclude(part: Part) -> None:
        manifests[part.repository.name] = _conclude(order, one, part, archive, created_at)

    with begun(place, order.repositories, order.maker, order.packing, tools) as one:
        created_at = tools.clock.now()
        archive, raw = _archive(order, one)
        one.each(conclude)
    small = too_small(place.database, raw, order.usual_bytes)
    return Made(place.id, manifests, one.errors, (*_findings(archive.notes, place.database), *small))


def _archive(order: Order, one: Pass) -> tuple[Archive, int]:
    """Send the tar, then its list, which was written beside it meanwhile."""
    name, done = one.place.database, 0
    path = order.scratch / f"{one.place.id}.jsonl"
    with path.open("xb+") as listing:
        path.unlink()

        def tap(data: bytes) -> None:
            nonlocal done
            done += len(data)
            one.tools.progress(name, done_bytes=done, total_bytes=order.usual_bytes, what="")

        archive = Archive(order.choice, listing, one.tools.stop)
        try:
            raw = one.pump("dump", archive, tap)
        finally:
            archive.close()
        if not archive.counts:
            raise BackupError(
                f"nothing is there to back up: {', '.join(archive.notes.examples[GONE]) or 'no file was found'}",
                hint=f"maint jobs show {shlex.quote(name)} shows its paths",
            )
        listing.seek(0)
        one.pump("listing", listing)
    return archive, raw


def _conclude(order: Order, one: Pass, part: Part, archive: Archive, created_at: datetime) -> FilesManifest:
    """Write what goes along, and the manifest last."""
    dump, listing = part.streams["dump"], part.streams["listing"]
    tree = Tree(
        paths=order.choice.paths,
        exclude=order.choice.exclude,
        files=archive.counts[FILE],
        folders=archive.counts[FOLDER],
        links=archive.counts[LINK],
        bytes=archive.bytes,
        listing=listing,
    )
    part.put("RESTORE.md", restore_md.of_files(one.place, created_at, tree, dump, encrypted=bool(part.recipients)))
    part.put("SHA256SUMS", restore_md.checksums(part.files))
    lacks = tuple(f"{archive.notes.counts[kind]} {text}" for kind, text in _LACKS if archive.notes.counts[kind])
    manifest = FilesManifest(**one.facts(part, created_at, {}), dump=dump, tree=tree, lacks=lacks)
    one.conclude(part, manifest)
    return manifest


_LACKS = (
    (GONE, "of the paths: not there"),
    (UNREADABLE, "that could not be read"),
    (VANISHED, "that vanished before they were read"),
    (SPECIAL, "sockets, pipes and devices"),
)

#: kind of trouble -> severity, which files, what to do
_TROUBLE = {
    GONE: (Severity.WARNING, "paths of the job that are not there", "mount or make them, or take them out of paths"),
    UNREADABLE: (Severity.WARNING, "files that could not be read", "let the user that maint runs as read them"),
    CHANGED: (Severity.WARNING, "files that changed while they were read", "back up a snapshot, or exclude them"),
    VANISHED: (Severity.WARNING, "files that vanished before they were read", "exclude them if they come and go"),
    SPECIAL: (Severity.INFO, "left out as they are sockets, pipes or devices", None),
}


def _findings(notes: Notes, name: str) -> Iterator[Finding]:
    for kind, (severity, which, fix) in _TROUBLE.items():
        if count := notes.counts[kind]:
            first, *others = notes.examples[kind]
            yield Finding(
                check=f"files.{kind}",
                severity=severity,
                object=name,
                message=f"{which}: {first}" + (f" and {count - 1} more" if others else ""),
                value=str(count),
                examples=tuple(notes.examples[kind]),
                fix=fix,
            )
