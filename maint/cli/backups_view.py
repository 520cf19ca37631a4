"""The inventory as a table, as JSON, and one backup as a page."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any
from zoneinfo import ZoneInfo

from maint.backups import judging
from maint.backups.inventory import Backup, Inventory, rivals
from maint.backups.manifest import DatabaseManifest, FilesManifest, Manifest
from maint.cli.output import age, duration, local, printable, size, table
from maint.cli.stock import by_place
from maint.config.model import Config
from maint.model import Trust


@dataclass(frozen=True, slots=True)
class View:
    """From where it is looked at."""

    zone: ZoneInfo
    now: datetime
    config: Config
    #: server -> databases, of the servers that have answered
    existing: Mapping[str, set[str]] | None = None

    def gone_since(self, backup: Backup, newest: Mapping[tuple[str, str], Backup]) -> datetime | None:
        """Return when the database was last seen, if it is no longer there."""
        known = (self.existing or {}).get(backup.server)
        if known is None or backup.database in known:
            return None
        return newest[backup.server, backup.database].created_at


def newest_of(backups: Sequence[Backup]) -> dict[tuple[str, str], Backup]:
    """Return the newest backup of each database; `backups` come newest first."""
    found: dict[tuple[str, str], Backup] = {}
    for backup in backups:
        found.setdefault((backup.server, backup.database), backup)
    return found


def row(backup: Backup, gone_since: datetime | None) -> dict[str, Any]:
    """Return one backup in one repository for ``--json``."""
    of = backup.summary
    return {
        "id": backup.id,
        "server": backup.server,
        "database": backup.database,
        "repository": backup.repository,
        "kind": of.kind,
        "created_at": of.created_at,
        "finished_at": of.finished_at,
        "size_bytes": of.size_bytes,
        "raw_bytes": of.raw_bytes,
        "trust": backup.trust,
        "trust_at": backup.trust_at,
        "restore_seconds": backup.trust_seconds if backup.trust in (Trust.RESTORED, Trust.PROVEN) else None,
        "reason": backup.reason,
        "pinned": backup.pinned,
        "hidden": backup.hidden,
        "format": of.format,
        "encrypted": of.encrypted,
        "tables": of.tables,
        "rows": of.rows,
        "files": of.file_count,
        "server_version": of.server_version,
        "installation": of.installation,
        "job": of.job,
        "run_id": of.run_id,
        "gone_since": gone_since,
    }


def rows(backups: Sequence[Backup], view: View) -> list[dict[str, Any]]:
    """Return every backup in every repository for ``--json``."""
    newest = newest_of(backups)
    judged = judging.standings(backups, view.config, view.now, view.existing)
    standings = {(one.server, one.database): judging.as_json(one) for one in judged if one.measures}
    return [
        row(backup, view.gone_since(backup, newest))
        | {"objectives": standings.get((backup.server, backup.database)) if backup.summary.kind == "database" else None}
        for backup in backups
    ]


def text(found: Inventory, view: View) -> Iterator[str]:
    """Yield the screen of ``maint backups``."""
    if found.backups:
        yield _table(found.backups, view)
        yield from _objectives(found, view)
    else:
        yield "no backups\nTo begin: maint run backup"
    for finding in rivals(found.backups):
        yield f"warning: {finding.message}\n    fix: {finding.fix}"
    yield from _leftovers(found, view)


def _table(backups: Sequence[Backup], view: View) -> str:
    newest = newest_of(backups)
    several = len({backup.server for backup in backups}) > 1
    lines = [
        _line(list(same), several, view, newest)
        for copies in by_place(backups)
        for _, same in groupby(sorted(copies, key=_state), key=_state)
    ]
    return table(lines, headers=("id", "database", "age", "size", "trust", "where", ""))


def _state(backup: Backup) -> tuple[str, ...]:
    """Return what copies must have in common to share a line."""
    return str(backup.trust), str(backup.trust_at), backup.reason or "", str(backup.pinned), str(backup.hidden)


def _line(
    copies: Sequence[Backup], several: bool, view: View, newest: Mapping[tuple[str, str], Backup]
) -> tuple[str, ...]:
    first = copies[0]
    return (
        first.id,
        f"{first.server}/{first.database}" if several else first.database,
        age(first.created_at, view.now),
        size(first.summary.size_bytes),
        trust_text(first, view.zone),
        " ".join(sorted(copy.repository for copy in copies)),
        _remarks(first, view, newest),
    )


def trust_text(backup: Backup, zone: ZoneInfo) -> str:
    """Show the trust, when it was found out, and the measured restore time: ``proven 15 Nov, 0:47``."""
    at = f" {backup.trust_at.astimezone(zone):%d %b}" if backup.trust_at else ""
    measured = backup.trust_seconds is not None and backup.trust in (Trust.RESTORED, Trust.PROVEN)
    return f"{backup.trust}{at}" + (f", {duration(backup.trust_seconds)}" if measured else "")


def _remarks(backup: Backup, view: View, newest: Mapping[tuple[str, str], Backup]) -> str:
    remarks = [backup.reason] if backup.reason else []
    if backup.pinned is not None:
        remarks.append(f"pinned: {backup.pinned}" if backup.pinned else "pinned")
    if backup.hidden:
        remarks.append("hidden by a delete marker")
    gone = view.gone_since(backup, newest)
    if gone is not None and newest[backup.server, backup.database].place == backup.place:
        remarks.append(f"database gone since {local(gone, view.zone)}")
    return "; ".join(remarks)


def _objectives(found: Inventory, view: View) -> Iterator[str]:
    """Compare with the promises; of several databases the worst one decides."""
    if text := judging.line(judging.standings(found.backups, view.config, view.now, view.existing), view.now):
        yield text


def _leftovers(found: Inventory, view: View) -> Iterator[str]:
    """Yield what lies in the repositories and is no backup."""
    for remnant in found.remnants:
        where = f"{remnant.place.prefix} in {remnant.repository}"
        how = f"{size(remnant.size_bytes)}, {age(remnant.modified_at, view.now)} old"
        yield f"no backup: {where} ({how}): {printable(remnant.reason)}"
    for foreign in found.foreign:
        objects = f"{foreign.objects} object{'s' if foreign.objects != 1 else ''}"
        yield f"not maint's: {objects} in {foreign.repository} ({size(foreign.size_bytes)}), as {foreign.example}"


def page(
    copies: Sequence[Backup], manifest: DatabaseManifest | FilesManifest, urls: Mapping[str, str], view: View
) -> Iterator[str]:
    """Yield the screen of ``maint backups show``."""
    first = copies[0]
    held = _of_files(manifest) if isinstance(manifest, FilesManifest) else _of_database(manifest)
    where = "" if isinstance(manifest, FilesManifest) else f" on {manifest.server}"
    taken = f"{local(manifest.created_at, view.zone)}, {age(manifest.created_at, view.now)} ago"
    yield f"{manifest.id} · {printable(manifest.database)}{where} · {taken}"
    details = [
        (
            "made",
            _made(manifest),
        ),
        *held,
        ("stored", _stored(manifest)),
        *((("lacks", ", ".join(manifest.lacks)),) if manifest.lacks else ()),
        *((("pinned", first.pinned or "without a reason"),) if first.pinned is not None else ()),
        *((copy.repository, _copy(copy, urls[copy.repository], view)) for copy in copies),
    ]
    yield from (f" {line}" for line in table(details).splitlines())
    if isinstance(manifest, DatabaseManifest):
        for one in manifest.contents.tables:
            if one.rows is None:
                yield printable(f" not counted: {one.schema_}.{one.name}: {one.why}")
    yield f"To restore it by hand: {urls[first.repository]}RESTORE.md"


def _made(manifest: Manifest) -> str:
    took = duration((manifest.finished_at - manifest.created_at).total_seconds())
    return f"by run {manifest.run_id} of {manifest.job} on {manifest.host} ({manifest.installation}), in {took}"


def _of_database(manifest: DatabaseManifest) -> Iterator[tuple[str, str]]:
    source = manifest.source
    yield "contains", _contents(manifest)
    database = f"{size(source.size_bytes)}, {source.encoding}, {source.collate}"
    yield "source", f"PostgreSQL {source.server_version}, {database}"


def _of_files(manifest: FilesManifest) -> Iterator[tuple[str, str]]:
    tree = manifest.tree
    yield "contains", f"{tree.files:,} files ({size(tree.bytes)}), {tree.folders:,} folders, {tree.links:,} links"
    yield "source", printable(", ".join(tree.paths))


def _contents(manifest: DatabaseManifest) -> str:
    contents = manifest.contents
    large = f", {contents.large_objects:,} large objects" if contents.large_objects else ""
    return f"{len(contents.tables)} tables, {contents.rows:,} rows counted{large}"


def _stored(manifest: Manifest) -> str:
    sealed = f"encrypted to {len(manifest.recipients)} keys" if manifest.encrypted else "not encrypted"
    return (
        f"{manifest.format} format, {manifest.compression}, {sealed}; {size(manifest.dump.raw_bytes)} -> "
        f"{size(manifest.size_bytes)} in {len(manifest.files)} files"
    )


def _copy(copy: Backup, url: str, view: View) -> str:
    why = f" ({copy.reason})" if copy.reason else ""
    hidden = ", hidden by a delete marker" if copy.hidden else ""
    return f"{trust_text(copy, view.zone)}{why}{hidden} · {url}"
