"""What pg_restore says: of the backup, or of the place?"""

import pytest

from maint.errors import MaintError, ProgramFailed
from maint.restore.sources import Failed
from maint.tasks.verify.verdict import CannotVerify, NotRestorable, PlaceFailed, Word, check_ended, judge

PLACE = [
    (
        'pg_restore: error: COPY failed for table "t": ERROR:  could not extend file "x": No space left on device',
        "space",
    ),
    ("pg_restore: error: could not execute query: ERROR:  out of memory", "memory"),
    (
        "pg_restore: error: could not execute query: ERROR:  must be superuser to create a base type",
        "needs a superuser",
    ),
    ("pg_restore: error: could not execute query: ERROR:  permission denied for language c", "needs a superuser"),
    (
        'pg_restore: error: could not execute query: ERROR:  could not access file "$libdir/x": No such file',
        "extension",
    ),
    (
        'pg_restore: error: could not execute query: ERROR:  collation "de_DE" for encoding "UTF8" does not exist',
        "locale",
    ),
    ("pg_restore: error: unsupported version (1.17) in file header", "programs"),
]
CONTENT = 'pg_restore: error: COPY failed for table "t": ERROR:  invalid input syntax for type integer: "x"'
LOST = "pg_restore: error: could not execute query: server closed the connection unexpectedly"


def failed(*lines: str, status: int = 1) -> Failed:
    return Failed(ProgramFailed("pg_restore", status, lines), lines)


def judged(*lines: str, status: int = 1, same_major: bool = True, trusted: bool = False, words: str = "") -> Exception:
    return judge(failed(*lines, status=status), same_major=same_major, trusted=trusted, words=words)


@pytest.mark.parametrize(("line", "what"), PLACE)
def test_what_the_place_lacks_says_nothing_of_the_backup(line: str, what: str) -> None:
    error = judged(line)
    assert isinstance(error, CannotVerify)
    assert str(error).startswith(what)
    assert error.hint
    assert "pg_restore:" not in str(error)


def test_content_that_the_same_major_refuses_is_the_backups_fault() -> None:
    assert isinstance(judged(CONTENT), NotRestorable)
    assert isinstance(judged(CONTENT, same_major=False), CannotVerify)


def test_for_a_superuser_nothing_needs_a_superuser() -> None:
    assert isinstance(judged(PLACE[2][0], trusted=True), NotRestorable)
    assert isinstance(judged(PLACE[0][0], trusted=True), CannotVerify)


def test_who_was_killed_or_lost_its_server_is_tried_again() -> None:
    for error in (judged(CONTENT, status=-9), judged(CONTENT, LOST)):
        assert isinstance(error, PlaceFailed)
        assert error.transient
    assert isinstance(judged(LOST, words="PANIC: could not write: No space left on device"), CannotVerify)


def test_a_pg_restore_that_does_not_run_is_no_damage() -> None:
    error = judged('pg_restore: error: unrecognized section name: "p"')
    assert isinstance(error, MaintError)
    assert not isinstance(error, (CannotVerify, NotRestorable))


def test_in_post_data_one_object_alone_is_a_finding() -> None:
    check_ended([PLACE[2][0], PLACE[4][0], CONTENT], words="")
    for line, expected in ((LOST, PlaceFailed), (PLACE[0][0], CannotVerify)):
        with pytest.raises(expected):
            check_ended([CONTENT, line], words="")


def test_only_what_was_learned_of_the_backup_changes_its_trust() -> None:
    assert [word.trust and word.trust.value for word in Word] == ["proven", "restored", "damaged", None]
