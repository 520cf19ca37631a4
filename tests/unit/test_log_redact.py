"""Redaction: what is registered, and what looks like a secret by its form."""

import json
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maint import log
from maint.log import SHORTEST_SECRET, names_secret, redact, register_secret


@pytest.fixture(autouse=True)
def _none_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "_registered", set())
    monkeypatch.setattr(log, "_known", None)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://app:hunter2@db/shop", "postgresql://app:***@db/shop"),
        ("postgresql://:hunter2@db/shop", "postgresql://:***@db/shop"),
        ("postgresql://app:hun@t/er2@db/shop", "postgresql://app:***@db/shop"),
        ("postgresql+psycopg://app:hunter2@/shop", "postgresql+psycopg://app:***@/shop"),
        ("cannot open https://k:v@s3.example.com/b: 403", "cannot open https://k:***@s3.example.com/b: 403"),
        ("postgresql://db/shop?user=a&password=hunter2", "postgresql://db/shop?user=a&password=***"),
        ("host=db password=hunter2 dbname=shop", "host=db password=*** dbname=shop"),
        (r"password='hun\'ter 2' dbname=shop", "password=*** dbname=shop"),
        ("password = 'hunter 2'", "password = ***"),
        ("password='hunter 2 cut o", "password=***"),
        ("sslpassword=hunter2", "sslpassword=***"),
        ("PGPASSWORD=hunter2 pg_dump", "PGPASSWORD=*** pg_dump"),
        ("AWS_SECRET_ACCESS_KEY=abc/def+ghi", "AWS_SECRET_ACCESS_KEY=***"),
        ("aws_session_token = abc", "aws_session_token = ***"),
        ("{'secret_key': 'abc', 'region': 'eu'}", "{'secret_key': ***, 'region': 'eu'}"),
        ('{"password": "a\\"b"}', '{"password": ***}'),
        ("X-Amz-Signature=abc&x=1", "X-Amz-Signature=***"),
        ("ALTER ROLE a PASSWORD 'it''s' LOGIN", "ALTER ROLE a PASSWORD *** LOGIN"),
        ("Authorization: Bearer abc.def", "Authorization: ***"),
        ("AGE-SECRET-KEY-1QYQSZQGPQYQ", "***"),
        ("x -----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY----- y", "x *** y"),
    ],
)
def test_forms(text: str, shown: str) -> None:
    assert redact(text) == shown
    assert redact(redact(text)) == shown


@pytest.mark.parametrize(
    "text",
    [
        'FATAL: password authentication failed for user "app"',
        "password_file=/etc/maint/pgpass",
        "set password_file, or ~/.pgpass",
        "s3://acme-backups/prod/main/shop",
        "postgresql://app@db:5432/shop",
        "http://127.0.0.1:9188/health",
        "primary key of public.orders",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text) == text


def test_names() -> None:
    assert all(map(names_secret, ("password", "PGPASSWORD", "aws_secret_access_key", "sslpassword")))
    assert not any(map(names_secret, ("password_file", "access", "primary_key")))


def test_a_key_file_is_hidden_line_by_line() -> None:
    register_secret("# a comment\nline-one-of-key\nline-two-of-key\n")
    assert redact("read line-two-of-key from it") == "read *** from it"


def test_short_secrets_do_not_blank_everything() -> None:
    register_secret("a")
    register_secret("  ")
    register_secret("")
    assert redact("a database password=a") == "a database password=***"


SECRETS = st.text(st.characters(exclude_characters="*", exclude_categories=["Cs"]), min_size=SHORTEST_SECRET).filter(
    lambda text: len(text.strip()) >= SHORTEST_SECRET and text == text.strip() and "\n" not in text
)


def spellings(secret: str) -> list[str]:
    encoded = quote(secret, safe="")
    libpq = secret.replace("\\", "\\\\").replace("'", "\\'")
    return [secret, encoded, quote(secret), quote_plus(secret), libpq, json.dumps(secret)[1:-1], repr(secret)[1:-1]]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(secret=SECRETS, before=st.text(), after=st.text(), data=st.data())
def test_a_registered_secret_never_survives(secret: str, before: str, after: str, data: st.DataObject) -> None:
    register_secret(secret)
    spelled = data.draw(st.sampled_from(spellings(secret)))
    shown = redact(before + spelled + after)
    assert spelled not in shown
    assert secret not in shown


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(password=st.text(st.characters(exclude_characters="*'\"", exclude_categories=["Cs", "Cc", "Z"]), min_size=8))
def test_an_unregistered_password_in_a_known_place_never_survives(password: str) -> None:
    quoted = "'" + password.replace("\\", "\\\\") + "'"
    for text in (
        f"connecting to postgresql://app:{password}@db/shop failed",
        f"host=db password={quoted} dbname=shop",
        f"PGPASSWORD={password}",
        json.dumps({"password": password}),
    ):
        assert password not in redact(text)


@given(st.text())
def test_any_text_is_taken(text: str) -> None:
    redact(text)
    assert "\n" not in log.escape(text)
