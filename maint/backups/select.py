"""Which backup is meant: an id or the beginning of one, or ``[SERVER/]DATABASE[@newest|@proven|@INSTANT]``."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from maint.backups.inventory import Backup
from maint.errors import UsageError
from maint.model import Trust

#: named in an error, the newest first
_MOST = 5
_LOOK = "maint backups"


def select(backups: Sequence[Backup], text: str, *, zone: ZoneInfo) -> list[Backup]:
    """Return the backup that is meant: one entry per repository that holds it. `backups` come newest first.

    A database alone means its newest good backup. An instant means the newest good one taken by then: in `zone`
    unless it says otherwise, and a day means its end. Raises `UsageError` if none or several are meant.
    """
    found = _by_id(backups, text) or _by_database(backups, text, zone)
    if not found:
        raise UsageError(f"there is no backup {text}", hint=f"{_LOOK} lists them: by id, or as [SERVER/]DATABASE")
    return [backup for backup in backups if backup.place == found.place]


def _by_id(backups: Sequence[Backup], text: str) -> Backup | None:
    exact = [backup for backup in backups if backup.id == text]
    return _only(text, exact or [backup for backup in backups if text and backup.id.startswith(text)])


def _only(text: str, found: Sequence[Backup]) -> Backup | None:
    """Return the backup if it is one, in however many repositories."""
    places = list(dict.fromkeys(backup.place for backup in found))
    if len(places) > 1:
        names = ", ".join(f"{place.id} ({place.server}/{place.database})" for place in places[:_MOST])
        more = f" and {len(places) - _MOST} more" if len(places) > _MOST else ""
        raise UsageError(f"{text} may mean {names}{more}", hint="give more of the id, or all of it")
    return found[0] if found else None


def _by_database(backups: Sequence[Backup], text: str, zone: ZoneInfo) -> Backup | None:
    """Try the whole text as a database first: its name may hold an @ and a /."""
    name, at, which = text.rpartition("@")
    if of := _of_database(backups, text):
        return _newest(of, text)
    if not at or not (of := _of_database(backups, name)):
        return None
    if which == "newest":
        return _newest(of, name)
    if which == "proven":
        return _first([b for b in of if b.is_good and b.trust is Trust.PROVEN], f"no backup of {name} is proven")
    until = _instant(which, zone)
    taken = [backup for backup in of if backup.is_good and backup.created_at <= until]
    return _first(taken, f"no good backup of {name} was taken by {which}")


def _newest(of: Sequence[Backup], name: str) -> Backup:
    return _first([backup for backup in of if backup.is_good], f"no backup of {name} is good")


def _first(found: Sequence[Backup], otherwise: str) -> Backup:
    if not found:
        raise UsageError(otherwise, hint=f"{_LOOK} lists them")
    return found[0]


def _of_database(backups: Sequence[Backup], name: str) -> list[Backup]:
    found = [b for b in backups if name in (b.database, f"{b.server}/{b.database}")]
    exact = sorted({f"{backup.server}/{backup.database}" for backup in found})
    if len(exact) > 1:
        raise UsageError(f"{name} is backed up from several servers: {', '.join(exact)}", hint="name the server too")
    return found


def _instant(text: str, zone: ZoneInfo) -> datetime:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"@{text}: not understood", hint="@newest, @proven, or an instant: @2026-11-20, @2026-11-20T18:00"
        ) from None
    if re.fullmatch(r"[\dW-]+", text):
        instant += timedelta(days=1, microseconds=-1)
    return (instant if instant.tzinfo else instant.replace(tzinfo=zone)).astimezone(UTC)
