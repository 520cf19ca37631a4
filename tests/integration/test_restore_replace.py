"""maint restore --replace: what is carried over, who is in the way; the old database is there whatever happens."""

from collections.abc import Callable
from contextlib import suppress

import psycopg
import pytest
from support import postgres, wait_until
from support.dumps import NEWEST, counts, folder_of
from support.maint import Maint
from support.postgres import Database
from support.restores import add_server, backed_up, databases, flip, nothing_beside, volumes

MakeDatabase = Callable[..., Database]
Configured = Callable[..., Maint]

SETTINGS = (
    "SELECT pg_get_userbyid(datdba), datconnlimit, datallowconn, datacl::text, shobj_description(d.oid, 'pg_database'),"
    " ARRAY(SELECT setrole::regrole || array_to_string(setconfig, '|') FROM pg_db_role_setting"
    " WHERE setdatabase = d.oid ORDER BY 1) FROM pg_database d WHERE datname = current_database()"
)


def _old_of(database: Database) -> Database:
    (name,) = (name for name in databases(database.cluster) if name.startswith(f"{database.name}_old_"))
    return Database(database.cluster, name)


@pytest.fixture
def database(make_database: MakeDatabase) -> Database:
    """A database whose kept predecessors are gone after the test."""
    found = make_database()
    yield found
    for name in databases(found.cluster):
        if name.startswith(f"{found.name}_old_"):
            postgres.drop(Database(found.cluster, name))


def _changed(database: Database) -> None:
    """Change it after the backup."""
    database.execute("DELETE FROM public.customers WHERE id > 90 AND id NOT IN (SELECT customer_id FROM sales.orders)")
    database.execute("CREATE TABLE public.since_then AS SELECT 1 AS one")


@pytest.mark.parametrize("format_", ["custom", "directory"])
def test_it_takes_the_place_and_the_settings(database: Database, configured: Configured, format_: str) -> None:
    name = database.name
    maint = backed_up(configured(database), f'format = "{format_}"')
    before = counts(database)
    _changed(database)
    changed = counts(database)
    database.execute(
        f'CREATE ROLE owns; CREATE ROLE "It\'s app"; ALTER DATABASE {name} OWNER TO owns;'
        f'ALTER DATABASE {name} SET search_path = sales, "Odd, one", "$user"; ALTER DATABASE {name} CONNECTION LIMIT 7;'
        f"ALTER DATABASE {name} SET \"my.own\" = 'a, ''b'''; ALTER DATABASE {name} SET DateStyle = 'SQL, DMY';"
        f"ALTER ROLE \"It's app\" IN DATABASE {name} SET search_path = '';"
        f"ALTER ROLE owns IN DATABASE {name} SET work_mem = '9MB';"
        f"COMMENT ON DATABASE {name} IS 'it''s; a \\ \"shop\"'; REVOKE ALL ON DATABASE {name} FROM PUBLIC;"
        f'GRANT TEMP, CONNECT ON DATABASE {name} TO "It\'s app" WITH GRANT OPTION;'
        f"REVOKE CREATE ON DATABASE {name} FROM owns;"
    )
    try:
        settings = database.execute(SETTINGS)
        answer = maint("restore", f"main/{name}", "--to", name, "--replace", "--yes", name, "--json")
        assert answer.code == 0, answer.err
        old = _old_of(database)
        assert answer.json["old_database"] == old.name
        assert database.execute(SETTINGS) == settings
        assert counts(database) == before
        assert counts(old) == changed
        assert old.value("SELECT datallowconn FROM pg_database WHERE datname = current_database()") is True
        assert nothing_beside(maint, database.cluster)
    finally:
        for one in [database, *([old] if "old" in locals() else [])]:
            one.execute(
                f'ALTER DATABASE {one.name} OWNER TO postgres; REVOKE ALL ON DATABASE {one.name} FROM owns, "It\'s app"'
            )
            one.execute('DROP OWNED BY owns, "It\'s app"')
        database.execute('DROP ROLE owns; DROP ROLE "It\'s app"')


@NEWEST
def test_privileges_that_were_all_revoked_stay_revoked(database: Database, configured: Configured) -> None:
    maint = backed_up(configured(database))
    database.execute(f"REVOKE ALL ON DATABASE {database.name} FROM PUBLIC, postgres")
    before = database.execute(SETTINGS)
    assert maint("restore", database.name, "--to", database.name, "--replace", "--yes", database.name).code == 0
    assert database.execute(SETTINGS) == before


@NEWEST
def test_whoever_is_connected_is_named_and_left_alone(database: Database, configured: Configured) -> None:
    maint = backed_up(configured(database))
    _changed(database)
    changed = counts(database)
    with database.connect(application_name="the shop") as session:
        answer = maint("restore", database.name, "--to", database.name, "--replace", "--yes", database.name)
        assert answer.code == 2, answer.err
        assert f"postgres (the shop, pid {session.info.backend_pid}, since " in answer.err
        assert "--disconnect" in answer.err
        assert session.execute("SELECT 1").fetchone() == (1,)
    assert counts(database) == changed
    assert nothing_beside(maint, database.cluster)


@NEWEST
def test_disconnect_ends_them_superusers_too(database: Database, configured: Configured) -> None:
    maint = backed_up(configured(database))
    before = counts(database)
    _changed(database)
    with database.connect(application_name="the shop") as session:
        answer = maint(
            "restore", database.name, "--to", database.name, "--replace", "--disconnect", "--yes", database.name
        )
        assert answer.code == 0, answer.err
        with pytest.raises(psycopg.OperationalError):
            session.execute("SELECT 1")
    assert counts(database) == before


@NEWEST
def test_somebody_who_connects_again_and_again(database: Database, configured: Configured) -> None:
    import threading

    maint = backed_up(configured(database))
    before = counts(database)
    _changed(database)
    done, got_in = threading.Event(), []

    def knock() -> None:
        while not done.is_set():
            with suppress(psycopg.Error), database.connect() as session:
                session.execute("SELECT pg_sleep(0.05)")
                got_in.append(1)

    guests = [threading.Thread(target=knock) for _ in range(4)]
    for guest in guests:
        guest.start()
    try:
        wait_until(lambda: len(got_in) > 4)
        answer = maint(
            "restore", database.name, "--to", database.name, "--replace", "--disconnect", "--yes", database.name
        )
        assert answer.code == 0, answer.err
        many = len(got_in)
        wait_until(lambda: len(got_in) > many + 4, "guests of the new database")
    finally:
        done.set()
        for guest in guests:
            guest.join()
    assert counts(database) == before


@NEWEST
def test_a_prepared_transaction_is_named(database: Database, configured: Configured) -> None:
    maint = backed_up(configured(database))
    database.execute("BEGIN; INSERT INTO public.nothing VALUES (1); PREPARE TRANSACTION 'half'")
    try:
        answer = maint(
            "restore", database.name, "--to", database.name, "--replace", "--disconnect", "--yes", database.name
        )
        assert answer.code == 2
        assert "prepared transaction 'half'" in answer.err
        assert "ROLLBACK PREPARED" in answer.err
    finally:
        database.execute("ROLLBACK PREPARED 'half'")


@NEWEST
def test_what_stays_with_the_old_one_is_named(database: Database, configured: Configured) -> None:
    maint = backed_up(configured(database))
    database.execute("SELECT pg_create_logical_replication_slot('reader', 'pgoutput')")
    database.execute(
        "CREATE SUBSCRIPTION buys CONNECTION 'host=nowhere.invalid' PUBLICATION p"
        " WITH (connect = false, slot_name = NONE)"
    )
    try:
        answer = maint("restore", database.name, "--to", database.name, "--replace", "--yes", database.name)
        assert answer.code == 0, answer.err
        assert "stays with the old database: replication slot reader" in answer.out
        assert "stays with the old database: subscription buys" in answer.out
    finally:
        old = _old_of(database)
        old.execute("DROP SUBSCRIPTION buys")
        old.execute("SELECT pg_drop_replication_slot('reader')")


@NEWEST
def test_damage_leaves_the_old_one(database: Database, configured: Configured) -> None:
    maint = backed_up(configured(database))
    _changed(database)
    changed, settings = counts(database), database.execute(SETTINGS)
    flip(volumes(folder_of(maint))[-1], -20)
    name = database.name
    with database.connect() as session:
        answer = maint("restore", name, "--to", name, "--replace", "--disconnect", "--yes", name)
        assert answer.code == 1, answer.err
        assert session.execute("SELECT 1").fetchone() == (1,)  # nobody was ended for nothing
    assert (counts(database), database.execute(SETTINGS)) == (changed, settings)
    assert nothing_beside(maint, database.cluster)


@NEWEST
def test_what_cannot_be_carried_over_leaves_the_old_one(database: Database, configured: Configured) -> None:
    name = database.name
    maint = backed_up(configured(database))
    database.execute(
        f"CREATE ROLE plain LOGIN CREATEDB; ALTER DATABASE {name} OWNER TO plain;"
        f"ALTER ROLE postgres IN DATABASE {name} SET work_mem = '9MB'"
    )
    try:
        add_server(maint, "as_plain", database.cluster, "plain")
        settings = database.execute(SETTINGS)
        without = ("--no-owner", "--no-privileges")
        answer = maint("restore", f"main/{name}", "--to", f"as_plain/{name}", "--replace", "--yes", name, *without)
        assert answer.code == 1, answer.err
        assert "ermission denied" in answer.err or "must be superuser" in answer.err
        assert database.execute(SETTINGS) == settings
        assert nothing_beside(maint, database.cluster)
    finally:
        database.execute(f"ALTER DATABASE {name} OWNER TO postgres; DROP ROLE plain")


@NEWEST
@pytest.mark.parametrize("who", ["nobody", "wrong"])
def test_the_name_is_asked_for(database: Database, configured: Configured, who: str) -> None:
    maint = backed_up(configured(database))
    given = ["--yes", "another"] if who == "wrong" else []
    answer = maint("restore", database.name, "--to", database.name, "--replace", *given)
    assert answer.code == 2
    assert ("--yes " + database.name if who == "nobody" else f"another is not {database.name}") in answer.err


@NEWEST
@pytest.mark.parametrize("name", ["é" * 31 + "x", "a=b 'c' \"d\"", "two\nlines"])
def test_long_and_hostile_names(make_database: MakeDatabase, configured: Configured, name: str) -> None:
    database = make_database(name)
    maint = backed_up(configured(database))
    answer = maint("restore", f"main/{name}", "--to", f"main/{name}", "--replace", "--yes", name, "--json")
    assert answer.code == 0, answer.err
    old = Database(database.cluster, answer.json["old_database"])
    try:
        assert len(old.name.encode()) <= 63
        assert counts(old) == counts(database)
    finally:
        postgres.drop(old)


@NEWEST
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nowhere", "there is no database nowhere"),
        ("template1", "is a template"),
        ("postgres", "over which maint reaches"),
    ],
)
def test_what_is_not_replaced(database: Database, configured: Configured, name: str, says: str) -> None:
    maint = backed_up(configured(database))
    answer = maint("restore", database.name, "--to", f"main/{name}", "--replace", "--yes", name)
    assert answer.code == 2, answer.err
    assert says in answer.err


@NEWEST
def test_who_may_not_rename_is_told_before(database: Database, configured: Configured) -> None:
    maint = backed_up(configured(database))
    database.execute("CREATE ROLE plain LOGIN CREATEDB")
    try:
        add_server(maint, "as_plain", database.cluster, "plain")
        to = f"as_plain/{database.name}"
        answer = maint("restore", f"main/{database.name}", "--to", to, "--replace", "--yes", database.name)
        assert answer.code == 1
        assert f"plain may not rename {database.name}" in answer.err
    finally:
        database.execute("DROP ROLE plain")


@NEWEST
def test_the_room_for_both(database: Database, configured: Configured, clusters: object) -> None:
    maint = backed_up(configured(database))
    planned = maint("restore", database.name, "--to", database.name, "--replace", "--dry-run")
    assert planned.code == 0, planned.err
    (line,) = (line for line in planned.out.splitlines() if line.startswith("room for both"))
    assert line.endswith("are free")
    # of a database that was far too large for this disk
    path = folder_of(maint) / "manifest.json"
    size = database.value("SELECT pg_database_size(current_database())")
    text = path.read_text()
    import json

    found = json.loads(text)
    assert found["source"]["size_bytes"] <= size * 2
    found["source"]["size_bytes"] = 1 << 60
    path.write_text(json.dumps(found))
    answer = maint("restore", database.name, "--to", database.name, "--replace", "--yes", database.name)
    assert answer.code == 1, answer.err
    assert "beside the old one" in answer.err


@NEWEST
def test_over_tcp_the_room_is_not_known(own_cluster: Callable[..., object], configured: Configured) -> None:
    cluster = own_cluster(tcp=True)
    postgres.make_sample(cluster)  # type: ignore[arg-type]
    database = Database(cluster, "sample")  # type: ignore[arg-type]
    maint = backed_up(configured(database))
    maint.add(f'[server.far]\ndsn = "{cluster.tcp_dsn()}"\n')  # type: ignore[attr-defined]
    planned = maint("restore", "sample", "--to", "far/sample", "--replace", "--dry-run")
    assert planned.code == 0, planned.err
    assert "what is free on the server is not known here" in planned.out


@NEWEST
def test_dry_run_says_the_same_words(database: Database, configured: Configured) -> None:
    import json
    import re

    maint = backed_up(configured(database))
    database.execute(f"ALTER DATABASE {database.name} SET work_mem = '9MB'")
    arguments = ("restore", database.name, "--to", database.name, "--replace", "--disconnect")
    planned = maint(*arguments, "--dry-run", "--json").json["steps"]
    assert _swapped(planned)
    assert not [name for name in databases(database.cluster) if name.startswith(f"{database.name}_old_")]

    def unnumbered(text: str) -> str:
        return re.sub(r"maint_restore_[0-9a-f-]+_[0-9a-f]{4}|_old_\w+|, \S+ \S+ are free", "", text)

    done = maint(*arguments, "--yes", database.name)
    assert done.code == 0, done.err
    said = [unnumbered(json.loads(line)["message"]) for line in done.err.splitlines()]
    steps = [unnumbered(step) for step in planned]
    assert [line for line in said if line in steps] == steps


def _swapped(steps: list[str]) -> bool:
    return len([step for step in steps if " RENAME TO " in step]) == 2 and any("end all sessions" in s for s in steps)
