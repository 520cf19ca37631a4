"""What verification says of a backup, and what failed restores say: of the backup, or of the place?"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from maint.errors import MaintError
from maint.model import Finding, Trust
from maint.restore.sources import Failed


class Word(StrEnum):
    """The result of one verification."""

    PROVEN = "proven"
    RESTORED = "restored"
    DAMAGED = "damaged"
    CANNOT_VERIFY = "cannot_verify"

    @property
    def trust(self) -> Trust | None:
        """Return what it makes of the trust; None: nothing was learned about the backup."""
        return None if self is Word.CANNOT_VERIFY else Trust(self.value)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one verification found."""

    word: Word
    reasons: tuple[str, ...] = ()  #: damage; what keeps it from `proven`; or why it cannot be verified
    fix: str | None = None
    seconds: float | None = None  #: of the restore, from the first byte fetched to the last index
    analyze_seconds: float | None = None
    tables: int = 0  #: compared
    rows: int = 0
    looked: tuple[str, ...] = ()  #: what else was compared
    uncompared: tuple[str, ...] = ()
    settings: dict[str, str] = field(default_factory=dict)  #: of the server it was restored on
    findings: tuple[Finding, ...] = ()  #: of the laboratory

    @property
    def reason(self) -> str | None:
        """Return the reasons as one text."""
        return "; ".join(self.reasons) or None


class CannotVerify(MaintError):
    """This place cannot restore the backup: nothing is said about the backup itself."""


class NotRestorable(Exception):
    """pg_restore refuses what is in the archive, on a server of the version that it came from."""


class PlaceFailed(MaintError):
    """The restore was ended by something that has nothing to do with the backup."""

    transient = True


SUPERUSER = "needs a superuser"

#: what is wrong with the place, by what PostgreSQL says; tried in this order
_LOST = re.compile(
    r"server closed the connection|terminating connection|no connection to the server|could not connect"
    r"|connection to server .* failed|the database system is|SSL SYSCALL|lost connection to worker"
)
_PLACE: tuple[tuple[re.Pattern[str], str, str], ...] = (
    (
        re.compile(r"No space left on device|[Dd]isk quota exceeded|could not extend file"),
        "space",
        "scratch_dir in the job: a folder on a larger disk",
    ),
    (
        re.compile(r"out of memory|out of shared memory|could not resize shared memory|too many clients"),
        "memory",
        "verify where there is more memory",
    ),
    (
        re.compile(r"must be (a )?superuser|[Oo]nly (a )?superuser|permission denied|must be owner|Only roles with"),
        SUPERUSER,
        "trusted = true in the job, if you trust what is in the database: it may run programs where it is restored",
    ),
    (
        re.compile(r'could not access file|could not load library|extension ".*" is not available|control file'),
        "extension",
        "install the extension's package where backups are verified",
    ),
    (
        re.compile(r'collation ".*" for encoding|could not create locale|could not open collator|ICU is not supported'),
        "locale",
        "install the locale where backups are verified (Debian: dpkg-reconfigure locales)",
    ),
    (
        re.compile(r"unsupported version|unrecognized configuration parameter"),
        "programs",
        "install a newer PostgreSQL where backups are verified",
    ),
)


def check_place(lines: Sequence[str], status: int = 0, *, words: str = "") -> None:
    """Raise `PlaceFailed` or `CannotVerify` if that is what pg_restore's lines say; `words`: the server's own last."""
    text = "\n".join(lines)
    if status < 0:
        raise PlaceFailed(f"pg_restore was killed by signal {-status}", hint="out of memory? see the system's log")
    if found := _LOST.search(text):
        _match(words, _PLACE[:2])  # it may have said why
        raise PlaceFailed(f"the scratch server went away: {_line(text, found)}")
    _match(text, _PLACE)


def check_ended(lines: Sequence[str], *, words: str) -> None:
    """As `check_place`, of problems in post-data: what concerns one object alone is a finding."""
    if _LOST.search("\n".join(lines)):
        check_place(lines, words=words)
    _match("\n".join(lines), _PLACE[:2])


def _match(text: str, places: Sequence[tuple[re.Pattern[str], str, str]]) -> None:
    for pattern, what, fix in places:
        if found := pattern.search(text):
            raise CannotVerify(f"{what}: {_line(text, found)}", hint=fix)


def judge(failed: Failed, *, same_major: bool, trusted: bool, words: str = "") -> Exception:
    """Return what a failed restore of pre-data or data means."""
    try:
        check_place(failed.lines, failed.error.status, words=words)
    except (PlaceFailed, CannotVerify) as error:
        if not (trusted and str(error).startswith(SUPERUSER)):
            return error
    if "ERROR:" not in "\n".join(failed.lines):  # no word of a server's: pg_restore itself did not run
        return MaintError(str(failed))
    if not same_major:
        return CannotVerify(
            f"programs: a newer major than that of the backup refuses it: {failed}",
            hint="install PostgreSQL of the backup's own major where backups are verified",
        )
    return NotRestorable(f"cannot be restored: {failed}")


def _line(text: str, found: re.Match[str]) -> str:
    """Return the line of the match, without what pg_restore puts before it."""
    start, end = text.rfind("\n", 0, found.start()) + 1, text.find("\n", found.end())
    line = text[start : end if end >= 0 else None]
    return re.sub(r"^pg_restore: (error: )?(could not execute query: )?(ERROR:\s*)?", "", line)
