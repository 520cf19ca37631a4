"""One run as text: what it did, what it found, why it failed, and what to type next."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from maint.cli.output import age, duration, local, printable, table
from maint.history import FindingRow, History, StepRow
from maint.log import redact
from maint.model import Outcome, Run, StepOutcome

_WORDS = {
    StepOutcome.DONE: "did",
    StepOutcome.NO_EFFECT: "no effect",
    StepOutcome.SKIPPED: "skipped",
    StepOutcome.FAILED: "failed",
    StepOutcome.NOT_REACHED: "not reached",
}
#: steps shown of each outcome; failed ones are all shown
_MOST = 50
_TAIL = 25
_BAD = (Outcome.FAILED, Outcome.TIMED_OUT, Outcome.STOPPED, Outcome.LOST)


@dataclass(frozen=True, slots=True)
class Page:
    """Everything the history knows of one run."""

    run: Run
    steps: Sequence[StepRow]
    findings: Sequence[FindingRow]
    log: str

    @classmethod
    def read(cls, history: History, run: Run) -> "Page":
        return cls(run, history.steps(run.id), history.findings(run.id), history.log_text(run.id))

    @property
    def tail(self) -> list[str]:
        return self.log.splitlines()[-_TAIL:]


def outcome_of(run: Run) -> str:
    """Return the outcome in words; "running" while there is none."""
    return run.outcome.replace("_", " ") if run.outcome else "running"


def slot_of(run: Run, zone: ZoneInfo) -> str:
    """Show the slot with its zone; a manual one by when it began."""
    if run.slot.startswith("manual:"):
        return f"by hand, {local(run.started_at, zone)}"
    return local(datetime.fromisoformat(run.slot), zone)


def seconds_of(run: Run) -> float | None:
    """Return how long it took; None while it runs."""
    return (run.finished_at - run.started_at).total_seconds() if run.finished_at else None


def text(page: Page, zone: ZoneInfo, now: datetime, *, whole_log: bool = False) -> str:
    """Return the screen of ``maint show``."""
    lines = [_header(page.run, zone, now), *_summary(page.run), *_steps(page), *_findings(page.findings)]
    lines += [*_error(page.run), *_log(page, whole=whole_log), *_next(page.run)]
    return redact("\n".join(lines))


def _header(run: Run, zone: ZoneInfo, now: datetime) -> str:
    where = "" if run.server == "-" else f" on {run.server}"
    slot = slot_of(run, zone)
    slot = slot if slot.startswith("by hand") else f"slot {slot}"
    return f"run {run.id} · {run.job}{where} · {slot} · {_ending(run, now)} (attempt {run.attempt})"


def _ending(run: Run, now: datetime) -> str:
    if run.outcome:
        return f"{outcome_of(run)} after {duration(seconds_of(run))}"
    sign = f", last sign of life {age(run.heartbeat_at, now)} ago" if run.heartbeat_at else ""
    return f"running for {age(run.started_at, now)}, pid {run.pid} on {run.host}{sign}"


def _summary(run: Run) -> Iterator[str]:
    if run.summary:
        yield printable(run.summary)
    if run.outcome is None:
        for name, numbers in run.progress.items():
            yield f" now      {printable(name)}  {_pairs(numbers) if isinstance(numbers, Mapping) else ''}"


def _pairs(numbers: Mapping[str, Any]) -> str:
    return printable(", ".join(f"{key.replace('_', ' ')} {value}" for key, value in numbers.items()))


def _steps(page: Page) -> Iterator[str]:
    rows, more = [], []
    for outcome in _WORDS:
        steps = [step for step in page.steps if step.outcome is outcome]
        shown = steps if outcome is StepOutcome.FAILED else steps[:_MOST]
        rows += [_step(step) for step in shown]
        if hidden := len(steps) - len(shown):
            more.append(f" and {hidden} more {_WORDS[outcome]}: maint show {page.run.id} --json")
    if rows:
        yield "\n".join(f" {line}" for line in table(rows).splitlines())
    yield from more


def _step(step: StepRow) -> tuple[str, ...]:
    tried = step.outcome not in (StepOutcome.SKIPPED, StepOutcome.NOT_REACHED)
    took = duration(step.seconds) if tried else ""
    return _WORDS[step.outcome], step.object, _what(step) if tried else "", took, _note(step)


def _what(step: StepRow) -> str:
    """Return the command if it is short and alone; else what it was for."""
    first = step.commands[0] if len(step.commands) == 1 else ""
    return first if first and len(first) <= 40 else step.verb


def _note(step: StepRow) -> str:
    change = ", ".join(f"{key.replace('_', ' ')} {was} -> {now}" for key, was, now in _changes(step))
    return step.note or (change if step.outcome is StepOutcome.DONE else step.reason or change)


def _changes(step: StepRow) -> Iterator[tuple[str, Any, Any]]:
    for key, was in step.before.items():
        if key in step.after and step.after[key] != was:
            yield key, was, step.after[key]


def _findings(findings: Sequence[FindingRow]) -> Iterator[str]:
    for row in sorted(findings, key=lambda row: row.finding.severity, reverse=True):
        finding = row.finding
        yield f"{finding.severity:<8} {printable(finding.message)}{_numbers(row)}"
        yield from (f"         e.g. {printable(example)}" for example in finding.examples[:3])
        if finding.withheld:
            yield f"         no value: {printable(finding.withheld)}"
        if finding.fix:
            yield f"         fix: {printable(finding.fix)}"


def _numbers(row: FindingRow) -> str:
    finding = row.finding
    about = "" if finding.object in finding.message else printable(finding.object)
    limit = f" (threshold {finding.threshold})" if finding.threshold else ""
    scope = f"looked at {finding.scope}" if finding.scope else ""
    value = f"{finding.value}{limit}" if finding.value else ""
    return "".join(f" · {printable(part)}" for part in (about, value, scope, finding.where) if part)


def _error(run: Run) -> Iterator[str]:
    if run.error:
        yield f"error: {printable(run.error)}"
    if run.hint:
        yield f"hint: {printable(run.hint)}"


def _log(page: Page, *, whole: bool) -> Iterator[str]:
    lines = page.log.splitlines() if whole else page.tail if page.run.outcome in _BAD else []
    if lines:
        yield "The log" if whole else "Last lines of the log"
        yield from (f"  {printable(line)}" for line in lines)


def _next(run: Run) -> Iterator[str]:
    server = "" if run.server == "-" else f" --server {run.server}"
    if run.outcome is None:
        yield f"To follow it:  maint show {run.id} --follow"
    elif run.outcome in _BAD:
        yield f"To retry:  maint run {run.job}{server}"
        yield f"Earlier:   maint history --job {run.job}{server}"
