"""Loading: what is merged, where it is from, what is secret, and every problem of every file at once."""

import os
from pathlib import Path

import pytest
from pydantic import BaseModel

from maint import shipped, tasks
from maint.config import find, load
from maint.config.model import Config, Keep, Table
from maint.errors import ConfigError, UsageError


class BackupOptions(Table):
    repositories: tuple[str, ...] = ("*",)
    keep: Keep | None = None
    max_delete: int = 3


class OtherOptions(Table):
    text: str = ""


#: of the tasks that the shipped jobs have, and one that none has
OPTIONS: dict[str, type[BaseModel]] = {**tasks.OPTIONS, "backup": BackupOptions, "other": OtherOptions}


class Folder:
    """A configuration on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.toml("")

    def toml(self, text: str) -> None:
        (self.path / "maint.toml").write_text(text, encoding="utf-8")

    def job(self, name: str, text: str) -> None:
        (self.path / "jobs").mkdir(exist_ok=True)
        (self.path / "jobs" / f"{name}.toml").write_text(text, encoding="utf-8")

    def load(self) -> Config:
        return load(self.path / "maint.toml", options=OPTIONS)

    def problems(self) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            self.load()
        assert caught.value.exit_code == 2
        return [problem.replace(f"{self.path}/", "") for problem in caught.value.problems]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    return Folder(tmp_path)


def test_an_empty_file_gives_the_shipped_jobs(folder: Folder) -> None:
    config = folder.load()
    job = config.jobs["backup"]
    assert (job.schedule, job.timezone, job.servers) == ("0 2 * * *", "UTC", ("*",))
    assert config.origin("jobs.backup.schedule") == "shipped"
    assert config.origin("jobs.backup.parallel") == "default"
    assert config.state_dir == folder.path / "state"


def test_every_shipped_job_is_found(folder: Folder) -> None:
    assert set(folder.load().jobs) == {path.stem for path in shipped.folder("jobs").glob("*.toml")}


def test_a_job_file_overrides_key_by_key_and_nothing_deeper(folder: Folder) -> None:
    folder.toml('[repository.a]\nurl = "file:///x/y"')
    folder.job("backup", 'retries = 9\n[options]\nkeep = { last = 1 }\nrepositories = ["a"]')
    config = folder.load()
    job = config.jobs["backup"]
    assert isinstance(job.options, BackupOptions)
    assert (job.retries, job.schedule) == (9, "0 2 * * *")
    assert job.options.keep == Keep(last=1), "a value is replaced whole"
    file = str(folder.path / "jobs" / "backup.toml")
    assert [config.origin(f"jobs.backup.{key}") for key in ("retries", "options.keep")] == [file, file]


def test_after_takes_the_place_of_a_shipped_schedule(folder: Folder) -> None:
    folder.job("backup", 'after = "first"')
    folder.job("first", 'task = "other"')
    job = folder.load().jobs["backup"]
    assert (job.schedule, job.after, job.cron) == (None, "first", None)


def test_another_task_inherits_no_options(folder: Folder) -> None:
    folder.job("backup", 'task = "other"\n[options]\ntext = "x"')
    assert folder.load().jobs["backup"].options == OtherOptions(text="x")


def test_the_zone_is_the_jobs_else_the_files(folder: Folder) -> None:
    folder.toml('timezone = "Europe/Berlin"')
    folder.job("mine", 'task = "other"\ntimezone = "Asia/Kolkata"\nwindow = "22:00-06:00"\nschedule = "@daily"')
    config = folder.load()
    assert config.jobs["backup"].timezone == "Europe/Berlin"
    assert config.origin("jobs.backup.timezone") == str(folder.path / "maint.toml")
    mine = config.jobs["mine"]
    assert mine.cron
    assert mine.hours
    assert {mine.cron.zone.key, mine.hours.zone.key} == {"Asia/Kolkata"}


def test_selecting_servers_and_repositories(folder: Folder) -> None:
    folder.toml(
        '[server.main]\n[server.old]\n[repository.a]\nurl = "file:///x/y"\n[repository.b]\nurl = "s3://bucket/prefix/"'
    )
    config = folder.load()
    assert [server.name for server in config.servers_of(("*", "!old"))] == ["main"]
    assert [repository.url for repository in config.repositories_of(("*",))] == ["file:///x/y", "s3://bucket/prefix"]


def test_references_are_replaced_and_are_secrets(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    credentials = folder.path / "credentials"
    credentials.mkdir()
    (credentials / "pw").write_text("hunter2hunter2\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    monkeypatch.setenv("DB_HOST", "db.example.com")
    folder.toml('[server.main]\ndsn = "host=${env:DB_HOST} password=${credential:pw}"')
    folder.job("mine", 'task = "other"\n[options]\ntext = "$$1 $2 $$$${env:X}"')
    config = folder.load()
    assert config.server["main"].dsn.get_secret_value() == "host=db.example.com password=hunter2hunter2"
    assert config.server["main"].shown_dsn == "host=db.example.com password=***"
    assert {"db.example.com", "hunter2hunter2"} <= set(config.secrets)
    assert config.jobs["mine"].options == OtherOptions(text="$1 $2 $${env:X}")


def test_what_is_a_secret_by_its_key_is_one(folder: Folder) -> None:
    folder.toml(
        """
        [server.main]
        dsn = "postgresql://u:dsnsecret@h"
        [repository.a]
        url = "s3://bucket/prefix"
        access_key = "keysecret"
        secret_key = "othersecret"
        [history]
        url = "postgresql://u:historysecret@h/d"
        [[alerts.channel]]
        url = "slack://channelsecret"
        """
    )
    config = folder.load()
    together = "\n".join(config.secrets)
    for secret in ("dsnsecret", "keysecret", "othersecret", "historysecret", "channelsecret"):
        assert secret in together
        assert secret not in repr(config)


def test_every_problem_of_every_file_at_once(folder: Folder) -> None:
    folder.toml(
        """
        timezone = "Europe/Berln"
        tmezone = "UTC"
        [server.main]
        dsnn = "x"
        databases = "shop"
        [repository.off]
        url = "s3://bucket"
        part_size = "3 MiB"
        [mail]
        host = "smtp.example.com"
        port = "25"
        from = "maint@example.com"
        [http]
        listen = 5
        [[alerts.channel]]
        url = "${env:MAINT_TEST_NOT_SET}"
        jobs = ["bakcup"]
        """
    )
    folder.job("backup", 'schedule = "61 * * * *"\nservers = ["mian"]\ntimeout = "12 hours"\n[options]\nkeep = {}')
    folder.job("two", 'task = "bakup"\nretries = "3"\nwindow = "25:00-1"\ntimezone = "Mars"\nenabeld = true')
    folder.job("three", 'task = "backup"\nafter = "four"\n[options]\nkeep = { dayly = 3 }\nrepositories = ["of"]')
    folder.job("broken", 'task = "backup\n')
    problems = folder.problems()
    expected = [
        "maint.toml: timezone: no such time zone: 'Europe/Berln'; did you mean Europe/Berlin",
        "maint.toml: tmezone: unknown key; did you mean timezone?",
        "maint.toml: server.main.dsnn: unknown key; did you mean dsn?",
        "maint.toml: server.main.databases: must be a list",
        "maint.toml: repository.off.url: needs a prefix",
        "maint.toml: repository.off.part_size: not a size",
        "maint.toml: mail.port: must be a whole number, without quotes",
        "maint.toml: mail.to: is missing",
        "maint.toml: http.listen: must be a text, in quotes",
        "maint.toml: alerts.channel[0].url: the environment variable MAINT_TEST_NOT_SET is not set",
        "maint.toml: alerts.channel[0].jobs: there is no job 'bakcup'; did you mean backup?",
        "jobs/backup.toml: schedule: not a schedule: '61 * * * *': '61' is no minute",
        "jobs/backup.toml: servers: there is no server 'mian'; did you mean main?",
        "jobs/backup.toml: timeout: not a duration",
        "jobs/backup.toml: options.keep: keeps nothing",
        "jobs/two.toml: task: there is no task 'bakup'; did you mean backup?",
        "jobs/two.toml: retries: must be a whole number, without quotes",
        "jobs/two.toml: window: not a window",
        "jobs/two.toml: timezone: no such time zone: 'Mars'",
        "jobs/two.toml: enabeld: unknown key; did you mean enabled?",
        "jobs/three.toml: after: there is no job 'four'",
        "jobs/three.toml: options.keep.dayly: unknown key; did you mean daily?",
        "jobs/three.toml: options.repositories: there is no repository 'of'; did you mean off?",
        "jobs/broken.toml: not TOML: Illegal character '\\n' (at line 1",
    ]
    missing = [line for line in expected if not any(problem.startswith(line) for problem in problems)]
    assert not missing, "\n".join(problems)
    assert len(problems) == len(expected), "\n".join(problems)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[server.'a b']", "server.a b.name: not a name"),
        ("[server.-]", "server.-.name: not a name"),
        ("[server.main]\nname = 'x'", "server.main.name: unknown key"),
        ("server = 5", "server: must be a table"),
        ("[server]\nmain = 5", "server.main: must be a table"),
        ("[server.main]\ndsn = 'shop'", "server.main.dsn: not a libpq connection string"),
        ("[server.main]\nbin_dir = 'bin'", "server.main.bin_dir: not an absolute path"),
        ("[server.main]\ndatabases = []", "server.main.databases: must not be empty"),
        ("[repository.a]", "repository.a.url: is missing"),
        ("[repository.a]\nurl = 'ftp://x/y'", "repository.a.url: not a repository"),
        ("[repository.a]\nurl = 'file://x/y'", "repository.a.url: needs an absolute path"),
        ("[repository.a]\nurl = 'file:///'", "repository.a.url: needs an absolute path"),
        ("[repository.a]\nurl = 's3:///y'", "repository.a.url: needs a prefix"),
        ("[repository.a]\nurl = 's3://b/../c'", "repository.a.url: has an empty part"),
        ("[repository.a]\nurl = 'file:///x/y'\nregion = 'x'", "repository.a: region: only for s3://"),
        ("[repository.a]\nurl = 's3://b/p'\naccess_key = 'x'", "repository.a: access_key and secret_key"),
        ("[repository.a]\nurl = 's3://b/p'\nendpoint = 'x:9'", "repository.a.endpoint: not a URL"),
        ("[repository.a]\nurl = 's3://b/p'\npart_size = '1MB'", "repository.a.part_size: must be greater"),
        ("[repository.a]\nurl = 's3://b/p'\nsse = 'x'", "repository.a.sse: must be 'AES256' or 'aws:kms'"),
        ("[repository.a]\nurl = 's3://b/p'\nencrypt_to = ['x']", "repository.a.encrypt_to: not a public key"),
        ("[objectives]\nrpo = '0h'", "objectives.rpo: must be greater"),
        ("[mail]\nhost = 'x'\nto = ['y']", "mail.from: is missing"),
        ("state_dir = 'x'", "state_dir: not an absolute path"),
        ("installation = 'a b'", "installation: not a name"),
        ("timezone = 5", "timezone: must be a text"),
        ("timezone = 2026-01-01", "timezone: no such time zone"),
        ("a = '${env:MAINT_TEST_NOT_SET}'", "a: the environment variable"),
        ("a = '${foo:X}'", "a: '${foo:X}': write ${env:NAME}"),
        ("timezone = '${credential:X}'", "timezone: no credentials here"),
        ("x = 1\nx = 2", "not TOML: Cannot overwrite a value"),
    ],
)
def test_one_problem(folder: Folder, text: str, problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    folder.toml(text)
    (found,) = folder.problems()
    assert found.startswith(f"maint.toml: {problem}"), found


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "task: is missing"),
        ("task = 5", "task: must be a text"),
        ('task = "other"\nname = "x"', "name: unknown key"),
        ('task = "other"\noptions = 5', "options: must be a table"),
        ('task = "other"\n[options]\ntxt = "x"', "options.txt: unknown key; did you mean text?"),
        ('task = "other"\nschedule = "@daily"\nafter = "backup"', "schedule and after exclude each other"),
        ('task = "other"\nschedule = "0 0 30 2 *"', "schedule: never due"),
        ('task = "other"\nafter = "mine"', "after: goes in a circle: mine -> mine"),
        ('task = "sql"\n[options]\ndatabase = "d"\nfile = "x.sql"', "options.file: not an absolute path"),
        ('task = "command"\n[options]\nargv = ["x"]\ncwd = "x"', "options.cwd: not an absolute path"),
        ('task = "other"\nmode = "dry"', "mode: must be 'act' or 'advise'"),
        ('task = "other"\nretries = 1.0', "retries: must be a whole number"),
        ('task = "other"\nenabled = "no"', "enabled: must be true or false"),
        ('task = "other"\ntimeout = "0s"', "timeout: must be greater"),
        ('task = "other"\nwindow = "6-7"', "window: not a window"),
        ('task = "backup"\n[options]\nkeep = { last = -1 }', "options.keep.last: must be greater"),
    ],
)
def test_one_problem_of_a_job(folder: Folder, text: str, problem: str) -> None:
    folder.job("mine", text)
    (found,) = folder.problems()
    assert found.startswith(f"jobs/mine.toml: {problem}"), found


def test_a_longer_circle_is_told_at_each_job(folder: Folder) -> None:
    folder.job("one", 'task = "other"\nafter = "two"')
    folder.job("two", 'task = "other"\nafter = "one"')
    folder.job("three", 'task = "other"\nafter = "one"')
    assert [problem.partition(": ")[0] for problem in folder.problems()] == ["jobs/one.toml", "jobs/two.toml"]


def test_no_problem_repeats_a_secret(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAINT_TEST_SECRET", "topsecret")
    folder.toml(
        """
        [server.main]
        dsn = "topsecret ${env:MAINT_TEST_SECRET}"
        [repository.a]
        url = "s3://b/p"
        secret_key = "topsecret"
        encrypt_to = ["AGE-SECRET-KEY-topsecret"]
        [history]
        url = 5
        """
    )
    assert "topsecret" not in "\n".join(folder.problems())


def test_a_file_that_cannot_be_read_hides_no_other_and_causes_no_other(folder: Folder) -> None:
    (folder.path / "maint.toml").write_bytes(b"timezone = '\xff'")
    folder.job("mine", 'task = "other"\nservers = ["main"]\nretries = "x"')
    problems = folder.problems()
    assert [problem.partition(": ")[2][:12] for problem in problems] == ["not UTF-8 at", "retries: mus"]


# -- where the file is --


def test_the_order_in_which_it_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("MAINT_CONFIG", raising=False)
    xdg = tmp_path / "xdg" / "maint" / "maint.toml"
    xdg.parent.mkdir(parents=True)
    xdg.touch()
    assert find(None) == xdg
    here = tmp_path / "maint.toml"
    here.touch(0o600)
    assert find(None) == here
    monkeypatch.setenv("MAINT_CONFIG", "/named/by/environment")
    assert find(None) == Path("/named/by/environment")
    assert find(Path("/explicit")) == Path("/explicit")


def test_a_file_here_that_others_can_write_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    monkeypatch.delenv("MAINT_CONFIG", raising=False)
    here = tmp_path / "maint.toml"
    here.touch()
    for mode in (0o602, 0o620):
        here.chmod(mode)
        assert find(None) != here
    with pytest.raises(UsageError, match=r"\./maint.toml is not used"):
        load(None, options=OPTIONS)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_here_that_somebody_else_owns_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    here = tmp_path / "maint.toml"
    here.touch(0o600)
    os.chown(here, 12345, -1)
    assert find(None) != here


def test_no_file_says_what_writes_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path, message in ((None, "no configuration found"), (tmp_path / "x.toml", "there is no configuration")):
        with pytest.raises(UsageError, match=message) as caught:
            load(path, options=OPTIONS)
        assert "maint init" in (caught.value.hint or "")
