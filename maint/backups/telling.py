"""What a run tells of its new backups."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from maint.backups.manifest import Manifest
from maint.backups.passes import Made
from maint.backups.stores import Stores
from maint.backups.upkeep import Upkeep
from maint.errors import MaintError
from maint.format import duration, size
from maint.model import Finding, Result, Sample, Severity, Step, StepOutcome

#: samples in the history
STREAM_BYTES, STORED_BYTES, SECONDS = "backup.stream_bytes", "backup.stored_bytes", "backup.seconds"
#: how many earlier backups say what is usual
_USUAL = 5

_WITHOUT_BACKUP = (StepOutcome.FAILED, StepOutcome.NOT_REACHED)


def result(stores: Stores, made: Made[Any], seconds: float, note: str, after: Mapping[str, Any]) -> Result:
    """Return the result of one backup; a failure where it is missing in a repository that is required."""
    required = {store.name for store, config in stores if config.required}
    failed = {name: error for name, error in made.errors.items() if name in required}
    manifest: Manifest = made.manifest
    packed = f"{size(manifest.dump.raw_bytes)} -> {size(manifest.size_bytes)} in {duration(seconds)}"
    stored = f"{packed}, {note}, to {' and '.join(sorted(made.manifests))} ({made.id})"
    return Result(
        outcome=StepOutcome.FAILED if failed else StepOutcome.DONE,
        note="; ".join([stored, *(f"not in {name}: {error}" for name, error in failed.items())]),
        after={
            "backup": made.id,
            "repositories": sorted(made.manifests),
            "size_bytes": manifest.size_bytes,
            **after,
        },
        findings=(*made.findings, *(_left_the_pass(name, error) for name, error in made.errors.items())),
        samples=(
            Sample(STREAM_BYTES, manifest.database, manifest.dump.raw_bytes, "bytes"),
            Sample(STORED_BYTES, manifest.database, manifest.size_bytes, "bytes"),
            Sample(SECONDS, manifest.database, seconds, "seconds"),
        ),
        transient=bool(failed) and all(error.transient for error in failed.values()),
    )


def _left_the_pass(name: str, error: MaintError) -> Finding:
    return Finding(
        check="backup.repository",
        severity=Severity.WARNING,
        object=f"repository {name}",
        message=f"the repository {name} left the pass: {error}",
        fix=error.hint or "maint doctor",
    )


def usual(values: Sequence[float]) -> float | None:
    """Return what is usual by the newest values of a sample, newest first; None without any."""
    return statistics.median(values[:_USUAL]) if values else None


def summary(what: str, made: Iterable[Made[Any]], steps: Sequence[Step]) -> str:
    """Sum up: ``2 databases, 2.9 GB -> 0.8 GB in 0:31``; `what` says how many of what."""
    manifests: list[Manifest] = [one.manifest for one in made]
    raw, stored = sum(m.dump.raw_bytes for m in manifests), sum(m.size_bytes for m in manifests)
    seconds = sum(step.seconds for step in done(steps, "backup"))
    deleted = len(done(steps, "delete"))
    text = f"{what}, {size(raw)} -> {size(stored)} in {duration(seconds)}" if manifests else what
    return text + (f", {deleted} old backup{'s' if deleted != 1 else ''} deleted" if deleted else "")


def done(steps: Sequence[Step], verb: str) -> list[Step]:
    """Return the steps of one kind that were done."""
    return [step for step in steps if step.action.verb == verb and step.result.outcome is StepOutcome.DONE]


def outputs(upkeep: Upkeep | None, steps: Sequence[Step]) -> Mapping[str, Any]:
    """Name the backups that were made; where one failed, say what there is still."""
    failed = [s.action.object for s in steps if s.action.verb == "backup" and s.result.outcome in _WITHOUT_BACKUP]
    if upkeep is None:  # the run ended before anything was planned
        return {"backups": [], "still_good": []}
    made = [one.id for one in upkeep.made]
    return {"backups": made, "still_good": list(upkeep.still_good(failed)) if failed else []}
