"""Fixtures of the tests that break things."""

from collections.abc import Iterator

import pytest

pytest.register_assert_rewrite("support.aftermath")

from support import postgres  # noqa: E402 - after that
from support.postgres import Database  # noqa: E402

from maint.cluster import Cluster  # noqa: E402

#: MB of text in `bulky` that zstd makes half as long
BULK = 12


@pytest.fixture
def sample(newest: Cluster) -> Iterator[Database]:
    """A clone of the sample database on the newest major alone: the fault matters here, the major does not."""
    found = postgres.clone(newest)
    yield found
    postgres.drop(found)


@pytest.fixture(scope="session")
def bulky(newest: Cluster) -> Iterator[Database]:
    """A database whose dump takes two parts of 5 MiB, about 6 MB; nobody changes it."""
    found = postgres.clone(newest)
    text = " || ".join(["md5(random()::text)"] * 8)  # 256 bytes
    found.execute(f"CREATE TABLE bulk AS SELECT {text} AS text FROM generate_series(1, {BULK * 4000}) AS i")
    yield found
    postgres.drop(found)
