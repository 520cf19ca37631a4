"""Fixtures for all tests. A test that asks for `major`, or for anything made with it, runs once per major:
by default the oldest and the newest found, with ``-m matrix`` 14 to 18."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import postgres
from support.maint import Maint, configuration
from support.postgres import Clusters, Database

from maint.clock import Stop
from maint.cluster import Cluster
from maint.config.model import ServerConfig

pytest_plugins = ["support.restores", "support.s3"]


def pytest_report_header() -> str:
    found = ", ".join(str(one) for one in postgres.found().values()) or "none"
    return f"PostgreSQL: found {found}; tested by default: {postgres.oldest_and_newest()}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "major" in metafunc.fixturenames and not _names_major_itself(metafunc):
        default = [pytest.param(major, id=f"pg{major}") for major in postgres.oldest_and_newest()]
        # other ids, as both may be selected together
        matrix = [pytest.param(major, id=f"matrix-pg{major}", marks=pytest.mark.matrix) for major in postgres.MATRIX]
        metafunc.parametrize("major", default + matrix, scope="session")


def _names_major_itself(metafunc: pytest.Metafunc) -> bool:
    return any("major" in str(mark.args[0]) for mark in metafunc.definition.iter_markers("parametrize"))


@pytest.fixture(scope="session")
def clusters() -> Iterator[Clusters]:
    with Clusters() as made:
        yield made


@pytest.fixture(scope="session")
def cluster(clusters: Clusters, major: int) -> Cluster:
    """The server that all tests of this worker share; do not stop it."""
    return clusters.get(major)


@pytest.fixture(scope="session")
def newest(clusters: Clusters) -> Cluster:
    """The shared server of the newest major found, for tests where the major does not matter."""
    return clusters.get(postgres.oldest_and_newest()[-1])


@pytest.fixture
def own_cluster(major: int) -> Iterator[Callable[..., Cluster]]:
    """Make servers of the test's own: `own_cluster(tcp=True, settings={…})`."""
    made: list[Cluster] = []

    def make(**options: Any) -> Cluster:
        made.append(postgres.make(major, **options))
        return made[-1]

    yield make
    for one in made:
        one.remove()


@pytest.fixture
def standby(own_cluster: Callable[..., Cluster]) -> Iterator[tuple[Cluster, Cluster]]:
    """A primary with the sample database, and its streaming replica."""
    primary = own_cluster()
    postgres.make_sample(primary)
    with postgres.make_standby(primary) as replica:
        yield primary, replica


@pytest.fixture
def make_database(cluster: Cluster) -> Iterator[Callable[..., Database]]:
    """Make databases: `make_database("name")`, `make_database(template="template0")` for an empty one."""
    made: list[Database] = []

    def make(name: str | None = None, template: str = "sample") -> Database:
        made.append(postgres.clone(cluster, name, template))
        return made[-1]

    yield make
    for one in made:
        postgres.drop(one)


@pytest.fixture
def database(make_database: Callable[..., Database]) -> Database:
    """A database with a little of everything (support/sample.sql)."""
    return make_database()


@pytest.fixture
def server_config() -> Callable[..., ServerConfig]:
    """Describe databases as maint's configuration does."""

    def describe(*databases: Database, **more: Any) -> ServerConfig:
        names = tuple(database.name for database in databases)
        values = {"name": "main", "dsn": databases[0].cluster.dsn(), "databases": names, **more}
        return ServerConfig.model_validate(values)

    return describe


@pytest.fixture
def configured(tmp_path: Path) -> Iterator[Callable[..., Maint]]:
    """Configure a maint: `maint = configured(database)`, then `maint("run", "backup").code`."""
    made: list[Maint] = []

    def make(*databases: Database, name: str = "maint", **lines: str) -> Maint:
        one = Maint(tmp_path / name)
        if databases:
            one.write(configuration(one.folder, list(databases), **lines))
        made.append(one)
        return one

    yield make
    for one in made:
        one.close()


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that servers run by root can enter, unlike tmp_path; its path is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="t-") as name:
        Path(name).chmod(0o755)
        yield Path(name).resolve()


@pytest.fixture
def stop() -> Stop:
    return Stop()
