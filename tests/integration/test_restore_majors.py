"""A backup of one major, restored by maint into another."""

from collections.abc import Callable

import pytest
from support import postgres
from support.dumps import counts
from support.maint import Maint
from support.postgres import Clusters, Database
from support.restores import add_server, backed_up, databases, nothing_beside

Configured = Callable[..., Maint]

_DEFAULT = [(a, b) for a in postgres.oldest_and_newest() for b in postgres.oldest_and_newest() if a != b]
_ALL = [(a, b) for a in postgres.MATRIX for b in postgres.MATRIX if a != b]
PAIRS = [pytest.param(*pair, id="pg{}-to-pg{}".format(*pair)) for pair in _DEFAULT] + [
    pytest.param(*pair, id="matrix-pg{}-to-pg{}".format(*pair), marks=pytest.mark.matrix) for pair in _ALL
]


@pytest.mark.parametrize(("dumped_by", "into"), PAIRS)
@pytest.mark.parametrize("jobs", [1, 2])
def test_from_one_major_to_another(
    clusters: Clusters, configured: Configured, dumped_by: int, into: int, jobs: int
) -> None:
    """A newer dump goes into an older server, too, as long as that understands what is in it."""
    source = postgres.clone(clusters.get(dumped_by))
    copy = Database(clusters.get(into), "from_elsewhere")
    try:
        source.execute('CREATE ROLE "of old"; ALTER TABLE public.nothing OWNER TO "of old"')
        maint = backed_up(configured(source))
        add_server(maint, "into", copy.cluster)
        answer = maint("restore", source.name, "--to", f"into/{copy.name}", "--roles", f"--jobs={jobs}", "--json")
        assert answer.code == 0, answer.err + answer.out
        assert answer.json["problems"] == []
        assert counts(copy) == counts(source)
        assert copy.value("SELECT total FROM sales.totals WHERE customer_id = 7") is not None
        assert nothing_beside(maint, copy.cluster)
        missed = maint(
            "restore", source.name, "--to", f"into/{copy.name}", "--replace", "--yes", copy.name, "--dry-run"
        )
        assert missed.code == 0, missed.err
    finally:
        for one in (source, copy):
            if one.name in databases(one.cluster):
                one.execute('DROP OWNED BY "of old"')
                postgres.drop(one)
            Database(one.cluster, "postgres").execute('DROP ROLE IF EXISTS "of old"')


@pytest.mark.parametrize(("dumped_by", "into"), [(postgres.oldest_and_newest()[-1], postgres.oldest_and_newest()[0])])
def test_what_an_older_server_does_not_understand(
    clusters: Clusters, configured: Configured, dumped_by: int, into: int
) -> None:
    if dumped_by < 15 or into >= 15:
        pytest.skip("needs a server from 15 on and one before it")
    source, copy = postgres.clone(clusters.get(dumped_by)), Database(clusters.get(into), "from_elsewhere")
    try:
        source.execute("CREATE TABLE public.newer (a int, UNIQUE NULLS NOT DISTINCT (a))")
        source.execute("CREATE VIEW public.invoking WITH (security_invoker = true) AS SELECT 1 AS one")
        maint = backed_up(configured(source))
        add_server(maint, "into", copy.cluster)
        answer = maint("restore", source.name, "--to", f"into/{copy.name}")
        assert answer.code == 1, answer.err
        assert 'unrecognized parameter "security_invoker"' in answer.err
        assert copy.name not in databases(copy.cluster)
        assert nothing_beside(maint, copy.cluster)
    finally:
        postgres.drop(source)
