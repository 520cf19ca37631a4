"""Durations, sizes, patterns and connection strings: by example and by property."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maint.config.values import (
    check_dsn,
    dsn_secrets,
    format_duration,
    format_size,
    is_pattern,
    mask_dsn,
    matches,
    parse_duration,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "seconds"), [("0s", 0), ("90s", 90), ("5m", 300), ("26h", 93600), ("8d", 691200), ("2w", 1209600)]
)
def test_durations(text: str, seconds: int) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "5", "1.5h", "-1h", "5 m", "5min", "h", "1h30m", 5, None, True, "９s"])
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration(text)


def test_a_duration_beyond_the_calendar() -> None:
    with pytest.raises(ValueError, match="100 years"):
        parse_duration("999999999999w")


@given(st.integers(0, 10**9))
def test_a_duration_is_written_as_it_is_read(seconds: int) -> None:
    assert parse_duration(format_duration(timedelta(seconds=seconds))) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("text", "size"), [("0B", 0), ("32MB", 32 << 20), ("1 GB", 1 << 30), ("8kB", 8192), ("2TB", 2 << 40), (17, 17)]
)
def test_sizes(text: object, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "5", "5 MiB", "1.5GB", "-1MB", "5mb", "5KB", True, None])
def test_what_is_no_size(text: object) -> None:
    with pytest.raises(ValueError, match="not a size"):
        parse_size(text)


@given(st.integers(0, 1 << 50))
def test_a_size_is_written_as_it_is_read(size: int) -> None:
    assert parse_size(format_size(size)) == size


@pytest.mark.parametrize(
    ("patterns", "name", "selected"),
    [
        (["*"], "shop", True),
        (["*", "!scratch_*"], "scratch_1", False),
        (["!scratch_*", "*"], "scratch_1", False),
        (["!scratch_*"], "shop", True),
        (["shop"], "Shop", False),
        (["sh?p"], "shop", True),
        (["[ab]*"], "beta", True),
        (["a[b"], "a[b", True),
        (["*"], "with\nnewline", True),
        ([], "shop", True),
    ],
)
def test_patterns(patterns: list[str], name: str, selected: bool) -> None:
    assert matches(patterns, name) is selected


def test_a_name_is_no_pattern() -> None:
    assert [is_pattern(text) for text in ("shop", "sh*p", "!shop", "sh?p", "[s]hop")] == [False, True, True, True, True]


@pytest.mark.parametrize(
    ("dsn", "shown"),
    [
        ("host=db user=maint", "host=db user=maint"),
        ("host=db password=topsecret user=maint", "host=db password=*** user=maint"),
        (r"password='top \'secret' host=db", "password=*** host=db"),
        ("password = topsecret host=db", "password = *** host=db"),
        ("sslpassword=topsecret", "sslpassword=***"),
        ("host=db passfile=/a/b", "host=db passfile=/a/b"),
        ("postgresql://maint:topsecret@db/shop", "postgresql://maint:***@db/shop"),
        ("postgres://maint:top%20secret@db,db2:5433/shop?x=y", "postgres://maint:***@db,db2:5433/shop?x=y"),
        ("postgresql://db/shop?user=x&password=topsecret&a=b", "postgresql://db/shop?user=x&password=***&a=b"),
        ("postgresql://maint@db:5432/shop", "postgresql://maint@db:5432/shop"),
        ("service=prod", "service=prod"),
        ("", ""),
        ("topsecret", "***"),
        ("password='topsecret", "***"),
    ],
)
def test_a_connection_string_is_shown_without_secrets(dsn: str, shown: str) -> None:
    assert mask_dsn(dsn) == shown
    assert "topsecret" not in mask_dsn(dsn)


def test_a_secret_is_known_as_written_and_as_meant() -> None:
    assert set(dsn_secrets("postgresql://u:p%40ss@h?sslpassword=x%20y")) == {"p%40ss", "p@ss", "x%20y", "x y"}
    assert "it's" in dsn_secrets(r"password='it\'s'")
    assert dsn_secrets("host=db password=''") == []


@pytest.mark.parametrize("dsn", ["shop", "host=db shop", "password='topsecret", "=x", "host = "])
def test_what_is_no_connection_string_is_refused_without_repeating_it(dsn: str) -> None:
    if dsn == "host = ":  # libpq takes an empty value
        assert check_dsn(dsn) == dsn
        return
    with pytest.raises(ValueError, match="not a libpq connection string") as caught:
        check_dsn(dsn)
    assert "topsecret" not in str(caught.value)


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=4))
def test_no_quoted_password_is_ever_shown(password: str) -> None:
    escaped = password.replace("\\", "\\\\").replace("'", "\\'")
    dsn = f"host=db password='{escaped}' user=maint"
    assert mask_dsn(dsn) == "host=db password=*** user=maint"
    assert password in dsn_secrets(dsn)
