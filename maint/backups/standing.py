"""The sentence everybody looks for when a backup has failed: is there still a good one, and how old is it?"""

from collections.abc import Iterable
from datetime import datetime

from maint.backups.inventory import Backup
from maint.format import age
from maint.model import Trust


def standing(database: str, backups: Iterable[Backup], now: datetime) -> str:
    """Say which backup of `database` is the newest good one, of these of all repositories."""
    good = sorted((b for b in backups if b.database == database and b.is_good), key=lambda b: b.created_at)
    if not good:
        return f"There is no good backup of {database}."
    newest = good[-1]
    proven = [b for b in good if b.trust is Trust.PROVEN]
    proof = f"newest proven {age(proven[-1].created_at, now)} old" if proven else "none proven"
    old = age(newest.created_at, now)
    return f"There is a good backup of {database}: {newest.id}, {old} old ({newest.trust}; {proof})."
