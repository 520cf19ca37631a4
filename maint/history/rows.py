"""Between the rows of the history and the value types of `maint.model`."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row

from maint.log import names_secret, redact
from maint.model import Finding, Outcome, Run, Sample, Severity, Step, StepOutcome


@dataclass(frozen=True, slots=True)
class StepRow:
    """One step as kept: what was planned, and what became of it."""

    verb: str
    object: str
    commands: tuple[str, ...]
    reason: str
    outcome: StepOutcome
    note: str
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    started_at: datetime
    seconds: float
    predicted_seconds: float | None
    lock: str | None
    database: str | None


@dataclass(frozen=True, slots=True)
class FindingRow:
    """One finding as kept: on which server, and when."""

    server: str
    fingerprint: str
    finding: Finding
    at: datetime


@dataclass(frozen=True, slots=True)
class SampleRow:
    """One sample as kept."""

    server: str
    sample: Sample
    at: datetime


def clean(value: Any) -> Any:
    """Return `value` as JSON can hold it, with every secret redacted and every text storable.

    PostgreSQL takes no NUL and neither database half a surrogate, which the output of programs may hold.
    """
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {clean(str(key)): _item(str(key), item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [clean(item) for item in value]
    text = redact(str(value)).replace("\0", "\\x00")
    return text.encode("utf-8", "backslashreplace").decode()


def _item(key: str, item: Any) -> Any:
    return "***" if isinstance(item, str) and names_secret(key) else clean(item)


def run_of(row: Row[Any]) -> Run:
    values = dict(row._mapping)  # noqa: SLF001 - public in spite of its name
    del values["pid_started"]
    outcome = values.pop("outcome")
    return Run(**values, outcome=Outcome(outcome) if outcome else None)


def step_values(step: Step) -> dict[str, Any]:
    action, result = step.action, step.result
    kept: dict[str, Any] = clean(
        {
            "verb": action.verb,
            "object": action.object,
            "commands": action.commands,
            "reason": action.skip or action.reason,
            "lock": action.lock,
            "database": action.database,
            "outcome": result.outcome,
            "note": result.note,
            "before": result.before,
            "after": result.after,
            "predicted_seconds": action.predicted_seconds,
            "seconds": step.seconds,
        }
    )
    return {**kept, "started_at": step.started_at}


def step_of(row: Row[Any]) -> StepRow:
    values = _without_keys(row)
    commands, outcome = tuple(values.pop("commands")), StepOutcome(values.pop("outcome"))
    return StepRow(**values, commands=commands, outcome=outcome)


def finding_values(server: str, finding: Finding) -> dict[str, Any]:
    kept: dict[str, Any] = clean(asdict(finding))
    return {**kept, "server": server, "fingerprint": finding.fingerprint(server)}


def finding_of(row: Row[Any]) -> FindingRow:
    values = _without_keys(row)
    place = {key: values.pop(key) for key in ("server", "fingerprint", "at")}
    severity, examples = Severity(values.pop("severity")), tuple(values.pop("examples"))
    return FindingRow(**place, finding=Finding(**values, severity=severity, examples=examples))


def sample_values(server: str, sample: Sample) -> dict[str, Any]:
    return {**clean(asdict(sample)), "server": server}


def sample_of(row: Row[Any]) -> SampleRow:
    values = _without_keys(row)
    return SampleRow(server=values.pop("server"), at=values.pop("at"), sample=Sample(**values))


def _without_keys(row: Row[Any]) -> dict[str, Any]:
    return {key: value for key, value in row._mapping.items() if key not in ("id", "run_id")}  # noqa: SLF001
