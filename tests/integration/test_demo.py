"""``maint demo`` shows everything, quickly enough, and leaves nothing behind, however it ends."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from support import wait_until
from support.maint import Maint

from maint import postgres
from maint.clock import Stop
from maint.cluster import Cluster
from maint.demo import DATABASE, Shop

Configured = Callable[..., Maint]


@pytest.fixture
def maint(configured: Configured, open_folder: Path) -> Maint:
    """Nothing is configured; what a demo makes is made in `open_folder`."""
    made = configured()
    made.environment["TMPDIR"] = str(open_folder)
    return made


def servers(folder: Path) -> list[str]:
    """Return the command lines of servers that run below `folder`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue
        if str(folder) in line and "postgres" in line:
            found.append(line)
    return found


def test_it_shows_everything_and_leaves_nothing(maint: Maint, open_folder: Path) -> None:
    answer = maint.real("demo")
    assert answer.code == 0, answer
    for words in (
        "Started PostgreSQL",
        "rows in 12 tables of 3 schemas",
        "$ maint run backup",
        "$ maint backups",
        "$ maint backups prune",
        "$ maint history",
        "$ maint run verify",
        "succeeded: 2 proven: ",
        "proven: 12 tables, ",
        "The server and everything else were removed.",
        "maint init",
    ):
        assert words in answer.out
    assert answer.out.count("succeeded: 1 database") == 3
    assert list(open_folder.iterdir()) == []
    assert servers(open_folder) == []


def test_what_is_kept_can_be_looked_at(maint: Maint, open_folder: Path) -> None:
    kept = open_folder / "kept"
    assert maint("demo", "--keep", str(kept)).code == 0
    assert list(open_folder.iterdir()) == [kept]
    answer = maint("--config", str(kept / "maint.toml"), "backups", "--json")
    assert answer.code == 0, answer
    assert [backup["database"] for backup in answer.json] == ["shop"] * 3


def test_nothing_is_kept_where_something_is(maint: Maint, open_folder: Path) -> None:
    (open_folder / "mine").touch()
    answer = maint("demo", "--keep", str(open_folder))
    assert answer.code == 2
    assert "is not empty" in answer.err
    assert [path.name for path in open_folder.iterdir()] == ["mine"]


@pytest.mark.parametrize(
    ("number", "after"),
    [
        (signal.SIGTERM, "maint demo:"),
        (signal.SIGINT, "Started PostgreSQL"),
        (signal.SIGINT, "$ maint run backup"),
        (signal.SIGTERM, "== What there is now"),
    ],
)
def test_ended_early_it_leaves_nothing(maint: Maint, open_folder: Path, number: signal.Signals, after: str) -> None:
    child = maint.start("demo")
    wait_until(lambda: after in child.out, after)
    child.send(number)
    answer = child.wait()
    assert answer.code == 5, answer
    assert "Traceback" not in answer.err
    assert "The server and everything else were removed." not in answer.out
    assert list(open_folder.iterdir()) == []
    assert servers(open_folder) == []


def test_the_next_demo_clears_what_a_killed_one_left(maint: Maint, open_folder: Path) -> None:
    child = maint.start("demo")
    wait_until(lambda: "$ maint run backup" in child.out)
    child.kill()
    assert len(list(open_folder.iterdir())) == 1
    wait_until(lambda: not servers(open_folder), "the server's end")
    assert maint("demo").code == 0
    assert list(open_folder.iterdir()) == []


def test_the_shop_can_be_made_on_every_major(cluster: Cluster, tmp_path: Path) -> None:
    shop = Shop(cluster, tmp_path)
    try:
        held = shop.fill(Stop())
        assert held.rows > 300_000
        with postgres.connect(shop._server, DATABASE) as connection:
            ((before,),) = connection.execute("SELECT count(*) FROM sales.orders")
            shop.sell(Stop())
            ((after,),) = connection.execute("SELECT count(*) FROM sales.orders")
            assert after == before + 400
            assert connection.execute("SELECT count(*) FROM pg_largeobject_metadata")[0][0] == 1
            # every event lies where it belongs, only older ones in the rest
            assert connection.execute("SELECT count(*) FROM web.events_rest")[0][0] < held.rows / 20
    finally:
        with postgres.connect(shop._server) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
            connection.execute("DROP ROLE IF EXISTS shop_clerk")


def test_a_folder_for_temporary_files_with_a_long_path(maint: Maint, open_folder: Path) -> None:
    long = open_folder / ("x" * 120)
    long.mkdir()
    answer = maint("demo", env={"TMPDIR": str(long)})
    assert answer.code == 2
    assert "too long for a socket" in answer.err
    assert list(long.iterdir()) == []
