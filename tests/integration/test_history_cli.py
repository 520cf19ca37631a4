"""`maint history` and `maint show`: the screens, the JSON, and what is said when there is nothing."""

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from maint.cli.app import App
from maint.cli.history import history as history_command
from maint.cli.history import show as show_command
from maint.clock import Stop, SystemClock
from maint.config.model import Config
from maint.errors import HistoryError, UsageError
from maint.history import History
from maint.model import Action, Finding, Outcome, Run, Sample, Severity, Step, StepOutcome
from maint.model import Result as Done
from maint.owner import me

NOW = datetime(2026, 11, 21, 4, 30, 4, tzinfo=UTC)


class FixedClock(SystemClock):
    def now(self) -> datetime:
        return NOW


@pytest.fixture
def app(tmp_path: Path) -> App:
    made = App(None, clock=FixedClock())
    made.__dict__["config"] = Config(state_dir=tmp_path / "state", timezone="Europe/Berlin")
    return made


@pytest.fixture
def history(app: App) -> Iterator[History]:
    with History.open(app.config) as opened:
        yield opened


def call(app: App, command: click.Command, *arguments: str) -> Result:
    return CliRunner().invoke(command, arguments, obj=app, catch_exceptions=False, standalone_mode=False)


def json_of(app: App, command: click.Command, *arguments: str) -> Any:
    return json.loads(call(app, command, *arguments, "--json").stdout)


def claim(history: History, slot: str | None = "2026-11-21T02:30:00Z", **other: Any) -> Run:
    entry = {"job": "vacuum", "task": "vacuum", "server": "main", "now": NOW - timedelta(hours=2)}
    return history.claim(slot=slot, owner=me(), host="db1", **{**entry, **other})


def stopped_run(history: History) -> Run:
    run = claim(history)
    for outcome, name, note, skip in (
        (StepOutcome.NOT_REACHED, "public.audit_log", "predicted 55 min, 20 min were left; first next time", None),
        (StepOutcome.DONE, "public.events", "2.1 M dead -> 0", None),
        (StepOutcome.NO_EFFECT, "public.ses\nsions", "0 of 880,000 removed", None),
        (StepOutcome.SKIPPED, "public.carts", "", "busy: locked by pid 4711"),
        (StepOutcome.FAILED, "public.broken", "deadlock detected", None),
    ):
        action = Action("vacuum", name, ("VACUUM (ANALYZE)",), skip=skip)
        history.record(run.id, Step(action, Done(outcome, note), NOW, 64.0))
    fix = "SELECT pg_drop_replication_slot('d');"
    held = Finding("vacuum.held", Severity.WARNING, "slot d", "slot d holds back 3 tables", fix=fix)
    history.report(run.id, "main", Finding("vacuum.note", Severity.INFO, "shop", "nothing special"), NOW)
    history.report(run.id, "main", held, NOW)
    history.sample(run.id, "main", Sample("dead", "public.events", 2.1e6, "rows"), NOW)
    history.log(run.id, "".join(f"line {number}.\n" for number in range(40)))
    history.finish(run.id, Outcome.STOPPED, "1 of 5 tables", "its window ended", "it goes on tomorrow", NOW)
    return history.run(run.id)


def test_without_a_history_nothing_is_made(app: App) -> None:
    for command in (history_command, show_command):
        result = call(app, command)
        assert (result.exit_code, result.stdout) == (0, "no runs yet\nTo begin: maint run backup\n")
    assert json_of(app, history_command) == []
    assert json_of(app, show_command) is None
    assert not app.config.state_dir.exists()
    with pytest.raises(HistoryError, match="there is no run 7"):
        call(app, show_command, "7")


def test_an_empty_history(app: App, history: History) -> None:
    assert call(app, history_command).stdout == "no runs yet\nTo begin: maint run backup\n"
    assert call(app, history_command, "--job", "x").stdout == "no such run\n"


def test_history_screen(app: App, history: History) -> None:
    stopped_run(history)
    claim(history, None, job="report", server="-", now=NOW)
    result = call(app, history_command)
    assert [" ".join(line.split()) for line in result.stdout.splitlines()] == [
        "run job server slot outcome took",
        "2 report - by hand, Sat 21 Nov 05:30 CET running -",
        "1 vacuum main Sat 21 Nov 03:30 CET stopped 2:00:00 its window ended",
    ]
    assert result.stderr == "To look: maint show 1\n"


def test_history_filters(app: App, history: History) -> None:
    stopped_run(history)
    claim(history, None, job="report", server="-", now=NOW - timedelta(days=3))

    def ids(*arguments: str) -> list[int]:
        return [row["run_id"] for row in json_of(app, history_command, *arguments)]

    assert ids() == [1, 2]
    assert ids("--job", "report") == ids("--server", "-") == [2]
    assert ids("--outcome", "stopped") == ids("--since", "2d") == ids("--since", "2026-11-21") == [1]
    assert ids("--since", "2026-11-18") == [1, 2]
    # a date without a zone is one in the configured zone: 03:30 there is 02:30 UTC
    assert ids("--since", "2026-11-21T03:30") == ids("--since", "2026-11-21T02:30Z") == [1]
    assert ids("--since", "2026-11-21T03:31") == []
    assert ids("--limit", "1") == [1]
    assert call(app, history_command, "--limit", "1").stderr.startswith("The newest 1; more with --limit.")
    with pytest.raises(UsageError, match="yesterday"):
        call(app, history_command, "--since", "yesterday")


def test_history_json(app: App, history: History) -> None:
    stopped_run(history)
    assert json_of(app, history_command) == [
        {
            "run_id": 1,
            "job": "vacuum",
            "task": "vacuum",
            "server": "main",
            "slot": "2026-11-21T02:30:00Z",
            "attempt": 1,
            "outcome": "stopped",
            "started_at": "2026-11-21T02:30:04Z",
            "finished_at": "2026-11-21T04:30:04Z",
            "seconds": 7200.0,
            "summary": "1 of 5 tables",
            "error": "its window ended",
            "hint": "it goes on tomorrow",
        }
    ]


def test_show_screen(app: App, history: History) -> None:
    stopped_run(history)
    lines = call(app, show_command, "1").stdout.splitlines()
    assert lines[:12] == [
        "run 1 · vacuum on main · slot Sat 21 Nov 03:30 CET · stopped after 2:00:00 (attempt 1)",
        "1 of 5 tables",
        " did          public.events      VACUUM (ANALYZE)  1:04  2.1 M dead -> 0",
        " no effect    public.ses\\nsions  VACUUM (ANALYZE)  1:04  0 of 880,000 removed",
        " skipped      public.carts                               busy: locked by pid 4711",
        " failed       public.broken      VACUUM (ANALYZE)  1:04  deadlock detected",
        " not reached  public.audit_log                           predicted 55 min, 20 min were left; first next time",
        "warning  slot d holds back 3 tables",
        "         fix: SELECT pg_drop_replication_slot('d');",
        "info     nothing special · shop",
        "error: its window ended",
        "hint: it goes on tomorrow",
    ]
    assert lines[12] == "Last lines of the log"
    assert lines[13:38] == [f"  line {number}." for number in range(15, 40)]
    assert lines[38:] == [
        "To retry:  maint run vacuum --server main",
        "Earlier:   maint history --job vacuum --server main",
    ]


def test_show_many_steps_keeps_what_failed(app: App, history: History) -> None:
    run = claim(history)
    for number in range(60):
        history.record(run.id, Step(Action("count", f"done{number}"), Done(), NOW, 1))
        history.record(run.id, Step(Action("count", f"bad{number}"), Done(StepOutcome.FAILED), NOW, 1))
    text = call(app, show_command, "1").stdout
    assert text.count(" bad") == 60
    assert text.count(" done") == 50
    assert " and 10 more did: maint show 1 --json" in text


def test_show_without_a_number_is_the_newest_that_did_not_succeed(app: App, history: History) -> None:
    bad = stopped_run(history)
    good = claim(history, None)
    history.finish(good.id, Outcome.SUCCEEDED, "all done", None, None, NOW)
    claim(history, None)
    assert json_of(app, show_command)["run_id"] == bad.id


def test_show_without_a_number_when_all_is_well(app: App, history: History) -> None:
    run = claim(history)
    history.finish(run.id, Outcome.SUCCEEDED, "all done", None, None, NOW)
    assert call(app, show_command).stdout == "every run that ended succeeded\nTo see them: maint history\n"
    assert json_of(app, show_command) is None
    text = call(app, show_command, "1").stdout
    assert text.endswith("succeeded after 2:00:00 (attempt 1)\nall done\n")


def test_show_json(app: App, history: History) -> None:
    stopped_run(history)
    found = json_of(app, show_command, "1")
    assert (found["run_id"], found["outcome"], found["seconds"]) == (1, "stopped", 7200.0)
    assert found["steps"][1] == {
        "verb": "vacuum",
        "object": "public.events",
        "commands": ["VACUUM (ANALYZE)"],
        "reason": "",
        "outcome": "done",
        "note": "2.1 M dead -> 0",
        "before": {},
        "after": {},
        "started_at": "2026-11-21T04:30:04Z",
        "seconds": 64.0,
        "predicted_seconds": None,
        "lock": None,
        "database": None,
    }
    assert [finding["check"] for finding in found["findings"]] == ["vacuum.note", "vacuum.held"]
    assert found["samples"] == [
        {
            "name": "dead",
            "object": "public.events",
            "value": 2.1e6,
            "unit": "rows",
            "server": "main",
            "at": "2026-11-21T04:30:04Z",
        }
    ]
    assert found["log"] == [f"line {number}." for number in range(15, 40)]
    assert len(json_of(app, show_command, "1", "--log")["log"]) == 40


def test_the_whole_log(app: App, history: History) -> None:
    stopped_run(history)
    assert "line 0." not in call(app, show_command, "1").stdout
    assert "line 0." in call(app, show_command, "1", "--log").stdout


def test_show_a_running_one(app: App, history: History) -> None:
    run = claim(history)
    history.heartbeat(run.id, {"shop\x1b": {"done_bytes": 5, "what": "public.a"}}, NOW - timedelta(seconds=3))
    lines = call(app, show_command, "1").stdout.splitlines()
    assert lines == [
        "run 1 · vacuum on main · slot Sat 21 Nov 03:30 CET · running for 2 h,"
        f" pid {run.pid} on db1, last sign of life 3 s ago (attempt 1)",
        " now      shop\\x1b  done bytes 5, what public.a",
        "To follow it:  maint show 1 --follow",
    ]


def test_follow_until_it_ends(app: App, history: History) -> None:
    run = claim(history)
    history.heartbeat(run.id, {}, NOW)
    history.log(run.id, "before\n")

    def work() -> None:
        SystemClock().wait(Stop(), 0.3)
        history.log(run.id, "while\x1b\n")
        history.finish(run.id, Outcome.SUCCEEDED, "all done", None, None, NOW)

    thread = threading.Thread(target=work)
    thread.start()
    text = call(app, show_command, "--follow").stdout
    thread.join()
    assert text.splitlines()[:2] == ["before", "while\\x1b"]
    assert text.endswith("all done\n")
    assert call(app, show_command, "--follow").stdout.startswith("nothing is running\n")


def test_follow_does_not_wait_for_the_dead(app: App, history: History) -> None:
    claim(history, now=NOW - timedelta(minutes=6))
    assert "shows no sign of life" in call(app, show_command, "1", "--follow").stderr


def test_unknown_run(app: App, history: History) -> None:
    with pytest.raises(HistoryError, match="there is no run 9"):
        call(app, show_command, "9")
