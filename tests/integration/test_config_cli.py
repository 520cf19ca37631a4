"""The commands config, jobs and tasks, on real files."""

import tomllib
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from support.maint import Maint
from support.postgres import Database

from maint.cluster import Cluster

CONFIG = """
timezone = "Europe/Berlin"

[server.main]
dsn = "postgresql://maint:topsecret@db.example.com/"

[repository.local]
url = "file:///var/backups/maint"

[repository.offsite]
url = "s3://bucket/prefix"
access_key = "${env:TEST_KEY}"
secret_key = "nobodysees"
region = "region-${env:TEST_KEY}"

[[alerts.channel]]
url = "slack://tokentoken"
"""
SECRETS = ("topsecret", "keykeykey", "nobodysees", "tokentoken")


@pytest.fixture
def maint(configured: Callable[..., Maint]) -> Maint:
    made = configured()
    made.environment["TEST_KEY"] = "keykeykey"
    made.write(CONFIG)
    return made


def test_a_valid_configuration(maint: Maint) -> None:
    answer = maint("config", "check")
    assert answer.code == 0
    assert answer.out.startswith(f"OK: {maint.config}: 1 server, 2 repositories, ")
    assert maint.json("config", "check")["valid"] is True


def test_a_configuration_without_servers_is_valid_and_says_so(maint: Maint) -> None:
    maint.write("")
    answer = maint("config", "check")
    assert answer.code == 0
    assert "there is no server yet" in answer.err


def test_every_problem_at_once_on_stderr_and_exit_2(maint: Maint) -> None:
    maint.add("\n[mail]\nhost = 5\nprot = 25\n")
    maint.job("backup", 'schedule = "61 * * * *"\ntimezone = "Europe/Berln"')
    maint.job("mine", 'task = "bakup"\nretries = "3"')
    answer = maint("config", "check")
    assert (answer.code, answer.out) == (2, "")
    lines = answer.err.splitlines()
    for wanted in (
        f"{maint.config}: mail.host: must be a text, in quotes",
        f"{maint.config}: mail.prot: unknown key; did you mean port?",
        f"{maint.config}: mail.from: is missing",
        f"{maint.config}: mail.to: is missing",
        f"{maint.folder}/jobs/backup.toml: schedule: not a schedule: '61 * * * *': '61' is no minute (0-59)",
        f"{maint.folder}/jobs/mine.toml: retries: must be a whole number, without quotes",
    ):
        assert wanted in lines
    assert any("jobs/backup.toml: timezone: no such time zone: 'Europe/Berln'" in line for line in lines)
    assert any("jobs/mine.toml: task: there is no task 'bakup'; did you mean backup?" in line for line in lines)
    assert len(lines) == 8 + 1
    assert lines[-1] == "maint: 8 problems in the configuration"
    found = maint("config", "check", "--json")
    assert (found.code, found.json["valid"], len(found.json["problems"])) == (2, False, 8)


def test_every_command_that_needs_it_ends_with_2(maint: Maint) -> None:
    maint.add("\nx = [")
    for command in (("jobs",), ("config", "show"), ("run", "backup"), ("history",)):
        answer = maint(*command)
        assert (answer.code, answer.out) == (2, ""), command
        assert f"{maint.config}: not TOML" in answer.err


def test_a_configuration_that_is_not_there(maint: Maint) -> None:
    maint.config.unlink()
    answer = maint("config", "check")
    assert answer.code == 2
    assert "hint: maint init" in answer.err


def test_what_is_in_force_is_toml_with_origins_and_without_secrets(maint: Maint) -> None:
    maint.job("backup", "retries = 5")
    answer = maint("config", "show")
    assert answer.code == 0
    for secret in SECRETS:
        assert secret not in answer.out + answer.err
    shown = tomllib.loads(answer.out)
    assert shown["server"]["main"]["dsn"] == "postgresql://maint:***@db.example.com/"
    assert shown["repository"]["offsite"]["region"] == "region-***"
    assert shown["repository"]["offsite"]["part_size"] == "32MB"
    assert "part_size" not in shown["repository"]["local"]
    assert shown["jobs"]["backup"]["timeout"] == "12h"
    job = answer.out.partition("[jobs.backup]")[2].partition("[jobs.")[0]
    lines = {line.partition(" = ")[0]: line.rpartition("# ")[2] for line in job.splitlines()}
    assert (lines["retries"], lines["retry_delay"], lines["catch_up"]) == (
        f"{maint.folder}/jobs/backup.toml",
        "shipped",
        "default",
    )
    settings = maint.json("config", "show")["settings"]
    assert settings["jobs.backup.retries"] == {"value": 5, "origin": f"{maint.folder}/jobs/backup.toml"}
    assert "***" in settings["server.main.dsn"]["value"]


def test_what_is_shown_can_be_loaded_again(maint: Maint) -> None:
    """Every value is written as the configuration takes it."""
    shown = maint("config", "show").out
    jobs = tomllib.loads(shown)["jobs"]
    maint.write(shown.partition("[jobs.")[0].replace("***", "x"))
    assert maint("config", "check").code == 0
    assert jobs["backup"]["options"]["keep"] == {"last": 3, "daily": 7, "weekly": 4, "monthly": 12}


@pytest.mark.parametrize("arguments", [(), ("--job",)])
def test_the_schema_is_one(maint: Maint, arguments: tuple[str, ...]) -> None:
    schema = maint("config", "schema", *arguments).json
    assert schema["$schema"].startswith("https://json-schema.org/")
    definitions = schema["$defs"]
    table = definitions["Job" if arguments else "ServerConfig"]
    assert "name" not in table["properties"]
    assert table["additionalProperties"] is False
    if arguments:
        assert {case["if"]["properties"]["task"]["const"] for case in schema["allOf"]} >= {
            "backup",
            "command",
            "sql",
            "verify",
        }
        for case in schema["allOf"]:
            reference = case["then"]["properties"]["options"]["$ref"]
            assert reference.removeprefix("#/$defs/") in definitions
    else:
        assert set(schema["properties"]) >= {"timezone", "server", "repository", "mail", "http", "alerts"}


def test_jobs_with_the_next_run_in_both_zones(maint: Maint) -> None:
    maint.job("extra", 'task = "sql"\nenabled = false\n[options]\ndatabase = "x"\nstatements = ["SELECT 1"]')
    maint.job("later", 'task = "sql"\nafter = "backup"\n[options]\ndatabase = "x"\nstatements = ["SELECT 1"]')
    answer = maint("jobs")
    assert answer.code == 0
    lines = {line.split()[0]: line for line in answer.out.splitlines()}
    assert " 02:00 CE" in lines["backup"]
    assert " UTC)" in lines["backup"]
    assert "after backup" in lines["later"]
    assert f"off: extra (sql); to switch it on: enabled = true in {maint.folder}/jobs/extra.toml" in answer.out
    assert not any(maint.state.iterdir()), "to list makes no history"
    found = {job["name"]: job for job in maint.json("jobs")}
    assert datetime.fromisoformat(found["backup"]["next_run_at"]) > datetime.now(UTC)
    assert (found["backup"]["servers"], found["backup"]["last_outcome"]) == (["main"], None)
    assert (found["extra"]["enabled"], found["extra"]["next_run_at"]) == (False, None)


def test_jobs_with_their_last_outcome(configured: Callable[..., Maint], newest: Cluster) -> None:
    maint = configured(Database(newest, "postgres"))
    maint.job("good", 'task = "sql"\n[options]\ndatabase = "postgres"\nstatements = ["SELECT 1"]')
    maint.job("bad", 'task = "sql"\n[options]\ndatabase = "postgres"\nstatements = ["SELECT 1/0"]')
    assert (maint("run", "good").code, maint("run", "bad").code) == (0, 1)
    lines = {line.split()[0]: line for line in maint("jobs").out.splitlines()}
    assert "by hand" in lines["good"]
    assert lines["good"].endswith("ago (run 1)")
    assert "succeeded" in lines["good"]
    assert "failed" in lines["bad"]
    found = {job["name"]: job["last_outcome"] for job in maint.json("jobs")}
    assert (found["backup"], found["bad"], found["good"]) == (None, "failed", "succeeded")


def test_one_job_with_origins_and_next_runs(maint: Maint) -> None:
    maint.job("backup", "[options]\nmax_delete = 2")
    answer = maint("jobs", "show", "backup", "--next", "3")
    assert answer.code == 0
    rows = {line.split()[0]: line.split()[1:] for line in answer.out.splitlines()}
    assert rows["options.max_delete"] == ["2", f"{maint.folder}/jobs/backup.toml"]
    assert rows["timeout"] == ['"12h"', "shipped"]
    assert answer.out.count(" 02:00 CE") == 3
    assert len(maint("jobs", "show", "backup", "--next", "7", "--json").json["next_runs_at"]) == 7


def test_a_job_that_is_not_there(maint: Maint) -> None:
    answer = maint("jobs", "show", "bakcup")
    assert answer.code == 2
    assert "did you mean backup?" in answer.err


def test_tasks_and_their_options(maint: Maint) -> None:
    maint.config.unlink()  # what there is does not depend on what is configured
    answer = maint("tasks")
    assert answer.code == 0
    assert "max_delete" in answer.out
    tasks = {task["name"]: task for task in maint.json("tasks")}
    options = {option["option"]: option for option in tasks["backup"]["options"]}
    assert options["format"]["type"] == '"custom" | "directory"'
    assert options["lock_wait"]["type"] == "duration"
    assert {option["option"] for option in tasks["sql"]["options"] if option["required"]} == {"database"}
    assert all(option["description"] for task in tasks.values() for option in task["options"])
