"""What becomes of a defect of maint: one line for the operator, an end for the run."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from maint import cli
from maint.cli.app import App
from maint.clock import Stop, SystemClock
from maint.config.model import Config, Job
from maint.history import History
from maint.model import Outcome
from maint.runner import Ground, work
from maint.task import Context
from maint.tasks import TASKS


def _broken(*_: object) -> Any:
    raise KeyError("no such thing")


def test_a_defect_is_one_line_unless_debug_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(App, "history_if_any", _broken)
    monkeypatch.setattr(App, "config", None)
    with pytest.raises(SystemExit) as ended:
        cli.main(["history"])
    assert ended.value.code == 1
    assert capsys.readouterr().err.splitlines() == [
        "maint: internal error: KeyError: 'no such thing'",
        "hint: maint --debug … shows where",
    ]
    with pytest.raises(KeyError):
        cli.main(["--debug", "history"])


def test_a_plan_with_a_defect_ends_its_run_as_failed(tmp_path: Path) -> None:
    def plan(_: Context[Any]) -> Any:
        raise KeyError("no such thing")

    task = dataclasses.replace(TASKS["command"], plan=plan)
    config = Config(state_dir=tmp_path)
    with History.open(config) as history:
        ground = Ground(config, {"command": task}, SystemClock(), Stop(), history)
        report = work(ground, Job(name="mine", task="command"), None)
        assert report.run.error == "internal error: KeyError: 'no such thing'"
        assert "Traceback" in history.log_text(report.run.id)
        assert [run.outcome for run in history.runs()] == [Outcome.FAILED]
