"""maint restore --roles: those that a server lacks, as they were; those it has are left alone."""

from collections.abc import Callable, Iterator

import pytest
from support import postgres
from support.dumps import NEWEST, counts, folder_of
from support.maint import Maint
from support.postgres import Database
from support.restores import add_server, backed_up, databases, flip, nothing_beside, roles, volumes

from maint.cluster import Cluster
from maint.restore.roles import split, statements, with_groups

Configured = Callable[..., Maint]

#: a role that owns something, through a group that owns nothing; one that exists on the other server, too
ROLES = """
CREATE ROLE "Hostile; ""role"" it's" LOGIN PASSWORD 'kept secret' VALID UNTIL '2099-01-01' CONNECTION LIMIT 3;
CREATE ROLE grp NOINHERIT;
CREATE ROLE outer_grp;
CREATE ROLE there LOGIN CREATEDB;
CREATE ROLE unused;
GRANT outer_grp TO grp;
GRANT grp TO "Hostile; ""role"" it's" WITH ADMIN OPTION;
GRANT there TO "Hostile; ""role"" it's";
ALTER ROLE "Hostile; ""role"" it's" SET search_path = sales, "a; b";
COMMENT ON ROLE "Hostile; ""role"" it's" IS E'two\\nlines; DROP ROLE there; --';
ALTER TABLE public.nothing OWNER TO "Hostile; ""role"" it's";
GRANT SELECT ON public.customers TO there;
"""
NAME = 'Hostile; "role" it\'s'


@pytest.fixture(scope="module")
def pair(major: int) -> Iterator[tuple[Cluster, Cluster]]:
    """Two servers: roles belong to a whole server."""
    with postgres.make(major) as one, postgres.make(major) as another:
        postgres.make_sample(one)
        Database(one, "sample").execute(ROLES)
        yield one, another


@pytest.fixture
def source(pair: tuple[Cluster, Cluster]) -> Database:
    """A database whose roles the other server lacks, but for one."""
    return Database(pair[0], "sample")


@pytest.fixture
def other(pair: tuple[Cluster, Cluster]) -> Iterator[Database]:
    found = Database(pair[1], "postgres")
    found.execute("CREATE ROLE there NOLOGIN")
    yield found
    postgres.drop(Database(pair[1], "sample"))
    names = ['"{}"'.format(role.replace('"', '""')) for role in roles(pair[1]) - {"postgres"}]
    found.execute(f"DROP ROLE {', '.join(names)}")


def _attributes(database: Database, role: str) -> object:
    return database.execute(
        "SELECT rolsuper, rolinherit, rolcanlogin, rolconnlimit, rolpassword, rolvaliduntil::text,"
        " (SELECT setconfig FROM pg_db_role_setting WHERE setrole = a.oid), shobj_description(oid, 'pg_authid'),"
        " ARRAY(SELECT roleid::regrole || ' ' || admin_option FROM pg_auth_members WHERE member = a.oid ORDER BY 1)"
        " FROM pg_authid a WHERE rolname = %s",
        role,
    )


def test_missing_roles_are_created_as_they_were(source: Database, other: Database, configured: Configured) -> None:
    maint = backed_up(configured(source))
    add_server(maint, "other", other.cluster)
    refused = maint("restore", "sample", "--to", "other/sample")
    assert refused.code == 2
    assert f"lacks the role {NAME}" in refused.err
    assert "--roles" in refused.err
    assert "sample" not in databases(other.cluster)
    planned = maint("restore", "sample", "--to", "other/sample", "--roles", "--dry-run")
    assert planned.code == 0, planned.err
    assert "PASSWORD '***'" in planned.out
    assert "SCRAM" not in planned.out + planned.err
    assert roles(other.cluster) == {"postgres", "there"}
    answer = maint("restore", "sample", "--to", "other/sample", "--roles", "--json")
    assert answer.code == 0, answer.err
    assert "SCRAM" not in answer.out + answer.err
    assert answer.json["new_roles"] == [NAME, "grp", "outer_grp"]
    assert roles(other.cluster) == {"postgres", "there", NAME, "grp", "outer_grp"}
    for role in (NAME, "grp", "outer_grp"):
        assert _attributes(other, role) == _attributes(source, role)
    assert other.value("SELECT rolcanlogin OR rolcreatedb FROM pg_roles WHERE rolname = 'there'") is False
    copy = Database(other.cluster, "sample")
    assert copy.value("SELECT tableowner FROM pg_tables WHERE tablename = 'nothing'") == NAME
    assert copy.value("SELECT has_table_privilege('there', 'public.customers', 'SELECT')") is True


@NEWEST
def test_roles_that_only_the_database_itself_names(source: Database, other: Database, configured: Configured) -> None:
    source.execute("CREATE DATABASE named")
    named = Database(source.cluster, "named")
    named.execute(
        "CREATE ROLE granted; CREATE ROLE is_set; CREATE ROLE owning; GRANT CONNECT ON DATABASE named TO granted;"
        "ALTER ROLE is_set IN DATABASE named SET work_mem = '9MB'; ALTER DATABASE named OWNER TO owning"
    )
    try:
        maint = backed_up(configured(named))
        add_server(maint, "other", other.cluster)
        refused = maint("restore", "named", "--to", "other/sample")
        assert "lacks the roles granted, is_set, owning" in refused.err
        answer = maint("restore", "named", "--to", "other/sample", "--roles", "--json")
        assert (answer.code, answer.json["new_roles"]) == (0, ["granted", "is_set", "owning"]), answer.err
        assert (
            Database(other.cluster, "sample").value(
                "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'sample'"
            )
            == "owning"
        )
        postgres.drop(Database(other.cluster, "sample"))
        other.execute("DROP ROLE granted")
        without = maint("restore", "named", "--to", "other/sample", "--no-owner", "--no-privileges", "--json")
        assert (without.code, without.json["problems"]) == (0, []), without.err
    finally:
        postgres.drop(named)
        source.execute("DROP ROLE granted; DROP ROLE is_set; DROP ROLE owning")


@NEWEST
def test_roles_that_were_created_are_gone_if_the_restore_fails(
    source: Database, other: Database, configured: Configured
) -> None:
    maint = backed_up(configured(source))
    add_server(maint, "other", other.cluster)
    flip(volumes(folder_of(maint))[-1], -20)
    answer = maint("restore", "sample", "--to", "other/sample", "--roles")
    assert answer.code == 1, answer.err
    assert roles(other.cluster) == {"postgres", "there"}
    assert nothing_beside(maint, other.cluster)


@NEWEST
def test_globals_that_were_changed_make_no_roles(source: Database, other: Database, configured: Configured) -> None:
    maint = backed_up(configured(source))
    add_server(maint, "other", other.cluster)
    flip(next(folder_of(maint).glob("globals*")))
    answer = maint("restore", "sample", "--to", "other/sample", "--roles")
    assert answer.code == 1, answer.err
    assert "globals.sql.zst: digest differs" in answer.err
    assert roles(other.cluster) == {"postgres", "there"}


@NEWEST
def test_without_them(source: Database, other: Database, configured: Configured) -> None:
    maint = backed_up(configured(source))
    add_server(maint, "other", other.cluster)
    answer = maint("restore", "sample", "--to", "other/sample", "--no-owner", "--no-privileges")
    assert answer.code == 0, answer.err
    assert counts(Database(other.cluster, "sample")) == counts(source)
    assert roles(other.cluster) == {"postgres", "there"}


def test_by_somebody_who_is_no_superuser(source: Database, other: Database, configured: Configured) -> None:
    other.execute("CREATE ROLE maker LOGIN CREATEDB CREATEROLE; GRANT there TO maker WITH ADMIN OPTION")
    maint = backed_up(configured(source))
    add_server(maint, "other", other.cluster, "maker")
    answer = maint("restore", "sample", "--to", "other/sample", "--roles", "--no-owner")
    if answer.code == 1:  # until 15 settings of roles are for superusers; nothing of it is there then
        assert "permission denied" in answer.err
        assert roles(other.cluster) == {"postgres", "there", "maker"}
    else:
        assert _attributes(other, NAME)[0][4] == _attributes(source, NAME)[0][4]
    assert nothing_beside(maint, other.cluster)


def test_a_script_is_split_where_its_statements_end() -> None:
    text = (
        "--\n-- Roles; all\n--\n\\restrict abc\nCREATE ROLE a;\nCOMMENT ON ROLE a IS E'it\\'s; x';\n"
        "ALTER ROLE \"q\"\"; x\ny\" WITH LOGIN PASSWORD 'p;''';\n\\unrestrict abc\n"
    )
    assert split(text) == [
        "CREATE ROLE a",
        "COMMENT ON ROLE a IS E'it\\'s; x'",
        "ALTER ROLE \"q\"\"; x\ny\" WITH LOGIN PASSWORD 'p;'''",
    ]


def test_statements_for_some_roles_and_older_servers() -> None:
    found = split(
        "CREATE ROLE a; CREATE ROLE b; ALTER ROLE a WITH NOSUPERUSER INHERIT LOGIN NOREPLICATION NOBYPASSRLS;"
        "ALTER ROLE a SET work_mem TO '9MB'; ALTER ROLE a IN DATABASE d SET x TO 'y'; COMMENT ON ROLE b IS 'x';"
        "GRANT g TO a WITH ADMIN OPTION, INHERIT FALSE GRANTED BY postgres; GRANT a TO b; GRANT gone TO a;"
        "CREATE TABLESPACE t LOCATION '/x'; GRANT SET ON PARAMETER work_mem TO a;"
    )
    assert with_groups(found, ["a"]) == {"a", "g", "gone"}
    for major, options in ((15, "WITH ADMIN OPTION"), (16, "WITH ADMIN OPTION, INHERIT FALSE")):
        assert list(statements(found, {"a"}, known={"a", "g"}, major=major)) == [
            "CREATE ROLE a",
            "ALTER ROLE a WITH INHERIT LOGIN",
            "ALTER ROLE a SET work_mem TO '9MB'",
            f"GRANT g TO a {options}",
        ]
