"""The history, each test on SQLite and on PostgreSQL: what is written is read again, and claimed once."""

import multiprocessing
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import text
from support import postgres
from support.postgres import Database

from maint import log
from maint.cluster import Cluster
from maint.config.model import Config, HistoryConfig
from maint.errors import HistoryError, SlotTaken
from maint.history import History
from maint.history.schema import metadata
from maint.history.store import LOG_LIMIT
from maint.model import Action, Finding, Outcome, Result, Run, Sample, Severity, Step, StepOutcome
from maint.owner import Owner, me

#: children of a process without threads, with everything imported: quick, and allowed by every Python
FORK = multiprocessing.get_context("forkserver")
FORK.set_forkserver_preload(["maint.history", "alembic.command", "sqlalchemy.dialects.postgresql.psycopg"])
NOW = datetime(2026, 11, 20, 2, 0, 3, 123456, tzinfo=UTC)
SLOT = "2026-11-20T02:00:00Z"


@pytest.fixture
def team(newest: Cluster) -> Iterator[Database]:
    """An empty database on PostgreSQL."""
    made = postgres.clone(newest, template="template0")
    yield made
    postgres.drop(made)


def on_postgresql(dsn: str, folder: Path) -> Config:
    return Config(state_dir=folder / "state", history=HistoryConfig(url=SecretStr(dsn)))


@pytest.fixture(params=["sqlite", "postgresql"])
def config(request: pytest.FixtureRequest, tmp_path: Path) -> Config:
    """A configuration whose history does not exist yet."""
    if request.param == "sqlite":
        return Config(state_dir=tmp_path / "state")
    return on_postgresql(request.getfixturevalue("team").dsn, tmp_path)


@pytest.fixture
def history(config: Config) -> Iterator[History]:
    with History.open(config) as opened:
        yield opened


def claim(history: History, slot: str | None = SLOT, **other: Any) -> Run:
    entry = {"job": "backup", "task": "backup", "server": "main", "owner": me(), "host": "db1", "now": NOW}
    return history.claim(slot=slot, **{**entry, **other})


def step(object_: str, outcome: StepOutcome = StepOutcome.DONE, seconds: float = 1.5, **result: Any) -> Step:
    return Step(Action("backup", object_, ("pg_dump",), "due"), Result(outcome, **result), NOW, seconds)


def finish(history: History, run: Run, outcome: Outcome = Outcome.SUCCEEDED) -> bool:
    return history.finish(run.id, outcome, "", None, None, NOW + timedelta(seconds=31))


# -- open --


def test_it_exists_once_it_was_opened(config: Config) -> None:
    assert not History.exists(config)
    assert not config.state_dir.exists()  # looking makes nothing
    History.open(config).close()
    assert History.exists(config)


def test_a_newer_history_is_refused(config: Config) -> None:
    with History.open(config) as history, history._write() as connection:
        prefix = "maint." if connection.dialect.name == "postgresql" else ""
        connection.execute(text(f"UPDATE {prefix}alembic_version SET version_num = '0999'"))
    with pytest.raises(HistoryError, match="newer than this maint: schema 0999") as caught:
        History.open(config)
    assert "update maint" in (caught.value.hint or "")


def test_the_migrations_make_what_the_code_expects(team: Database, tmp_path: Path) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    options = {"include_schemas": True, "version_table_schema": "maint", "compare_server_default": True}
    with History.open(on_postgresql(team.dsn, tmp_path)) as history, history._read() as connection:
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata) == []


def _open_when(config: Config, start: Any, results: Any) -> None:
    start.wait()
    try:
        History.open(config).close()
        results.put("opened")
    except HistoryError as error:
        results.put(repr(error))


@pytest.mark.parametrize("_round", range(5))
def test_many_may_open_a_new_one_at_once(config: Config, _round: int) -> None:
    assert at_once(6, _open_when, config) == ["opened"] * 6


def at_once(count: int, target: Callable[..., None], *arguments: Any) -> list[Any]:
    """Run `target` in `count` processes that begin together; return what they put."""
    start, results = FORK.Event(), FORK.Queue()
    processes = [FORK.Process(target=target, args=(*arguments, start, results)) for _ in range(count)]
    for process in processes:
        process.start()
    start.set()
    found = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(60)
    return sorted(found)


def test_a_role_that_may_not_make_the_schema_is_told_what_its_owner_types(team: Database, tmp_path: Path) -> None:
    team.execute("DROP ROLE IF EXISTS history_writer")
    team.execute("CREATE ROLE history_writer LOGIN")
    config = on_postgresql(team.cluster.dsn(team.name, "history_writer"), tmp_path)
    assert not History.exists(config)
    with pytest.raises(HistoryError, match="permission denied for database") as caught:
        History.open(config)
    assert "CREATE SCHEMA maint AUTHORIZATION" in (caught.value.hint or "")
    team.execute("CREATE SCHEMA maint AUTHORIZATION history_writer")
    with History.open(config) as history:
        assert claim(history).id == 1


def test_connections_that_were_cut_are_made_again(team: Database, tmp_path: Path) -> None:
    with History.open(on_postgresql(team.dsn, tmp_path)) as history:
        run = claim(history)
        cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'maint history'"
        assert team.execute(cut)
        assert finish(history, run)


# -- claims --


def test_a_claim_is_read_again(history: History) -> None:
    run = claim(history, options_digest="abc")
    assert (run.slot, run.attempt, run.started_at, run.outcome) == (SLOT, 1, NOW, None)
    assert history.run(run.id) == run
    assert history.last_of("backup", "main") == run
    assert history.last_of("backup", "other") is None


def test_manual_runs_get_slots_of_their_own(history: History) -> None:
    first, second = claim(history, None), claim(history, None)
    assert [first.slot, second.slot] == [f"manual:{first.id}", f"manual:{second.id}"]


def test_a_slot_that_is_worked_is_refused_and_says_by_whom(history: History) -> None:
    run = claim(history)
    for attempt in (1, 2):
        with pytest.raises(SlotTaken) as caught:
            claim(history, attempt=attempt)
        assert caught.value.run_id == run.id
        said = f"being worked by run {run.id}, pid {run.pid} on db1, since 2026-11-20 02:00:03Z"
        assert said in str(caught.value)
    assert claim(history, server="other").id
    assert claim(history, job="vacuum").id


def test_an_attempt_follows_a_failed_one(history: History) -> None:
    finish(history, claim(history), Outcome.FAILED)
    with pytest.raises(SlotTaken, match="worked by run 1, failed"):
        claim(history, attempt=1)
    assert claim(history, attempt=2).attempt == 2


@pytest.mark.parametrize("outcome", [Outcome.SUCCEEDED, Outcome.WARNED])
def test_no_attempt_follows_one_that_did_the_work(history: History, outcome: Outcome) -> None:
    finish(history, claim(history), outcome)
    with pytest.raises(SlotTaken):
        claim(history, attempt=2)
    assert len(history.runs()) == 1


def _claim_when(config: Config, attempts: bool, start: Any, results: Any) -> None:
    with History.open(config) as history:
        start.wait()
        try:
            results.put(f"won {claim(history, attempt=me().pid if attempts else 1).attempt}"[:3])
        except SlotTaken:
            results.put("taken")


@pytest.mark.parametrize("attempts", [False, True])
def test_of_many_at_once_exactly_one_gets_the_slot(config: Config, attempts: bool) -> None:
    History.open(config).close()
    assert at_once(8, _claim_when, config, attempts) == ["taken"] * 7 + ["won"]


# -- the end of a run --


def test_finish_is_written_once(history: History) -> None:
    run = claim(history)
    assert history.finish(run.id, Outcome.FAILED, "0 of 1", "no space", "free some", NOW + timedelta(seconds=31))
    assert not finish(history, run)
    found = history.run(run.id)
    assert (found.outcome, found.summary, found.error, found.hint) == (
        Outcome.FAILED,
        "0 of 1",
        "no space",
        "free some",
    )
    assert found.finished_at == NOW + timedelta(seconds=31)


def test_heartbeat_tells_whether_the_run_still_counts(history: History) -> None:
    run = claim(history)
    assert history.heartbeat(run.id, {"shop": {"done_bytes": 5}}, NOW)
    assert history.run(run.id).progress == {"shop": {"done_bytes": 5}}
    finish(history, run)
    assert not history.heartbeat(run.id, {}, NOW)


def test_lost_is_whose_process_is_gone(history: History) -> None:
    alive, done = claim(history, None), claim(history, None)
    finish(history, done)
    reused = claim(history, None, owner=Owner(me().place, me().pid, 1))
    gone = FORK.Process(target=int)
    gone.start()
    dead = claim(history, None, owner=Owner(me().place, gone.pid or 0, 1))
    gone.join()
    lost = history.lost(NOW)
    assert [run.id for run in lost] == [reused.id, dead.id]
    assert {run.outcome for run in lost} == {Outcome.LOST}
    assert lost[1].error == f"its process {gone.pid} on db1 died"
    assert history.run(alive.id).outcome is None
    assert history.lost(NOW) == []


def test_lost_elsewhere_is_who_is_silent_for_five_minutes(history: History) -> None:
    claim(history, owner=Owner("another boot", me().pid, me().start))
    assert history.lost(NOW + timedelta(minutes=4)) == []
    with history._read() as connection:
        shared = connection.dialect.name == "postgresql"
    if shared:  # its clock decides, whatever this host believes
        assert history.lost(NOW + timedelta(days=999)) == []
        with history._write() as connection:
            connection.execute(text("UPDATE maint.runs SET heartbeat_at = heartbeat_at - 301 * 1000000"))
    (lost,) = history.lost(NOW + timedelta(minutes=5, seconds=1))
    assert "no sign of life from db1" in (lost.error or "")


def test_who_was_only_thought_dead_has_the_last_word(history: History) -> None:
    run = claim(history)
    history.lost(NOW, alive=lambda owner: False)
    assert not history.heartbeat(run.id, {}, NOW)
    assert finish(history, run)
    assert history.run(run.id).outcome is Outcome.SUCCEEDED


# -- what a run did --


def test_steps_findings_and_samples_are_read_again(history: History) -> None:
    run = claim(history)
    action = Action("vacuum", "public.events", ("VACUUM",), "2 M dead", None, 60.0, "ShareUpdateExclusive", "shop")
    finding = Finding(
        "vacuum.held", Severity.WARNING, "slot d", "held", "3", "1", "70 of 70", ("a", "b"), "SELECT 1", "why"
    )
    sample = Sample("size", "shop", 2.5e9, "bytes")
    history.record(run.id, Step(action, Result(note="done", before={"dead": 2}, after={"dead": [0, None]}), NOW, 18.25))
    history.record(run.id, Step(Action("x", "y", skip="busy"), Result(StepOutcome.SKIPPED), NOW, 0))
    history.report(run.id, "main", finding, NOW)
    history.sample(run.id, "main", sample, NOW)
    first, second = history.steps(run.id)
    assert (first.verb, first.object, first.commands, first.reason) == (
        "vacuum",
        "public.events",
        ("VACUUM",),
        "2 M dead",
    )
    assert (first.outcome, first.note, first.seconds, first.started_at) == (StepOutcome.DONE, "done", 18.25, NOW)
    assert (first.before, first.after) == ({"dead": 2}, {"dead": [0, None]})
    assert (first.predicted_seconds, first.lock, first.database) == (60.0, "ShareUpdateExclusive", "shop")
    assert (second.outcome, second.reason) == (StepOutcome.SKIPPED, "busy")
    (row,) = history.findings(run.id)
    assert (row.finding, row.server, row.at, row.fingerprint) == (finding, "main", NOW, finding.fingerprint("main"))
    (measured,) = history.samples(run.id)
    assert (measured.sample, measured.server, measured.at) == (sample, "main", NOW)
    assert history.recent("size", "main", "shop") == [2.5e9]


@pytest.mark.parametrize(
    "name", ["a \"b\" 'c'", "new\nline\x1b[31m", "ÄÖ数据" * 6, "\0nul", "half \udce4 surrogate", "%s {x}"]
)
def test_hostile_names(history: History, name: str) -> None:
    run = claim(history)
    history.record(run.id, step(name, note=name, before={name: name}))
    history.log(run.id, name)
    (row,) = history.steps(run.id)
    stored = name.replace("\0", "\\x00").replace("\udce4", "\\udce4")
    assert (row.object, row.note, row.before, history.log_text(run.id)) == (stored, stored, {stored: stored}, stored)
    assert history.durations("backup", "main", name) == []
    finish(history, run)
    assert history.durations("backup", "main", name) == [1.5]


def test_numbers_that_json_does_not_know(history: History) -> None:
    run = claim(history)
    history.record(run.id, step("a", after={"ratio": float("nan"), "at": NOW, "path": Path("/x")}))
    assert history.steps(run.id)[0].after == {"ratio": "nan", "at": str(NOW), "path": "/x"}


def test_secrets_are_in_no_column(history: History, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "_registered", set())
    monkeypatch.setattr(log, "_known", None)
    log.register_secret("tr0ub4dor")
    leak = "it was tr0ub4dor and password=hunter2"
    run = claim(history)
    everything = Action("run", leak, (leak,), leak, leak, None, leak, leak)
    history.record(run.id, Step(everything, Result(note=leak, before={leak: [leak], "password": "hunter2"}), NOW, 0))
    history.report(run.id, "main", Finding(leak, Severity.INFO, *[leak] * 5, (leak,), leak, leak), NOW)
    history.sample(run.id, "main", Sample(leak, leak, 1, leak), NOW)
    history.heartbeat(run.id, {leak: {"what": leak}}, NOW)
    history.log(run.id, leak)
    history.set_fact("a", {"b": leak})
    history.finish(run.id, Outcome.FAILED, leak, leak, leak, NOW)
    with history._read() as connection:
        prefix = "maint." if connection.dialect.name == "postgresql" else ""
        tables = ("runs", "steps", "findings", "samples", "logs", "facts")
        dump = str([connection.execute(text(f"SELECT * FROM {prefix}{table}")).all() for table in tables])
    assert dump.count("***") >= 20
    assert "tr0ub4dor" not in dump
    assert "hunter2" not in dump


def test_only_the_newest_megabyte_of_log_is_kept(history: History) -> None:
    run, other = claim(history, None), claim(history, None)
    history.log(other.id, "stays\n")
    for number in range(30):
        history.log(run.id, f"{number}\n" + "x" * 99_999)
    found = history.log_text(run.id)
    assert LOG_LIMIT - 200_000 < len(found) <= LOG_LIMIT
    assert "\n29\n" in f"\n{found}".replace("x29", "x\n29")
    history.log(run.id, "y" * (LOG_LIMIT + 5))
    assert history.log_text(run.id) == "y" * LOG_LIMIT
    assert history.log_text(other.id) == "stays\n"


def test_the_log_can_be_followed(history: History) -> None:
    run = claim(history)
    history.log(run.id, "one\n")
    fresh, position = history.log_after(run.id, 0)
    assert fresh == "one\n"
    assert history.log_after(run.id, position) == ("", position)
    history.log(run.id, "two\n")
    assert history.log_after(run.id, position)[0] == "two\n"


# -- questions --


def test_runs_are_filtered_newest_first(history: History) -> None:
    first = claim(history, None, now=NOW)
    second = claim(history, None, now=NOW + timedelta(hours=1), job="vacuum")
    third = claim(history, None, now=NOW + timedelta(hours=2), server="other")
    finish(history, first, Outcome.FAILED)
    finish(history, second)

    def ids(**filters: Any) -> list[int]:
        return [run.id for run in history.runs(**filters)]

    assert ids() == [third.id, second.id, first.id]
    assert ids(limit=1) == [third.id]
    assert ids(job="vacuum") == [second.id]
    assert ids(server="main") == [second.id, first.id]
    assert ids(outcome=Outcome.FAILED) == [first.id]
    assert ids(since=NOW + timedelta(minutes=1)) == [third.id, second.id]
    assert ids(unfinished=True) == [third.id]
    assert ids(job="backup", server="main", outcome=Outcome.FAILED, since=NOW) == [first.id]
    bad = history.last_bad()
    assert bad is not None
    assert bad.id == first.id


def test_unknown_run(history: History) -> None:
    with pytest.raises(HistoryError, match="there is no run 99"):
        history.run(99)


def test_what_was_not_reached_comes_from_the_newest_run_that_planned(history: History) -> None:
    assert history.not_reached("backup", "main") == []
    run = claim(history, None)
    for name, outcome in (("b", StepOutcome.NOT_REACHED), ("x", StepOutcome.DONE), ("a", StepOutcome.NOT_REACHED)):
        history.record(run.id, step(name, outcome))
    assert history.not_reached("backup", "main") == []  # it still runs
    finish(history, run, Outcome.STOPPED)
    finish(history, claim(history, None, now=NOW + timedelta(hours=1)), Outcome.SKIPPED)
    assert history.not_reached("backup", "main") == ["b", "a"]
    finish(history, claim(history, None, now=NOW + timedelta(hours=2)))
    assert history.not_reached("backup", "main") == []


def test_durations_are_those_of_done_steps_newest_first(history: History) -> None:
    for seconds, outcome in ((1.0, StepOutcome.DONE), (2.0, StepOutcome.FAILED), (3.0, StepOutcome.DONE)):
        run = claim(history, None)
        history.record(run.id, step("shop", outcome, seconds))
        finish(history, run)
    assert history.durations("backup", "main", "shop") == [3.0, 1.0]
    assert history.durations("backup", "main", "shop", verb="delete") == []
    assert history.durations("backup", "other", "shop") == []


def test_manifests_are_remembered_word_by_word(history: History) -> None:
    history.remember("local", {})
    history.remember("local", {f"p{n}": '{"password": "kept as it is"}' for n in range(2000)})
    history.remember("local", {"p1": "new"})
    history.remember("offsite", {"p1": "other"})
    history.forget("local", [f"p{n}" for n in range(2, 2000)] + ["unknown"])
    history.forget("local", [])
    assert history.cached("local") == {"p0": '{"password": "kept as it is"}', "p1": "new"}
    assert history.cached("offsite") == {"p1": "other"}


def test_facts(history: History) -> None:
    assert history.fact("store") is None
    history.set_fact("store", {"checks": True})
    history.set_fact("store", {"checks": False, "at": "now"})
    assert history.fact("store") == {"checks": False, "at": "now"}


def test_threads_share_one_history(history: History) -> None:
    from concurrent.futures import ThreadPoolExecutor

    run = claim(history)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: history.record(run.id, step(f"t{n}")), range(100)))
    assert len(history.steps(run.id)) == 100
