"""What is told of a verification: the step, the finding, the record beside the backup."""

import os
import shlex
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from maint.backups import records
from maint.backups.inventory import Remnant
from maint.backups.records import Proof
from maint.format import duration
from maint.model import Finding, Result, Sample, Severity, StepOutcome
from maint.task import Context
from maint.tasks.verify.options import Options
from maint.tasks.verify.proving import Chosen
from maint.tasks.verify.verdict import Verdict, Word

#: the sample of a measured restore, by database
SECONDS = "verify.seconds"

#: reasons that are written out; the rest is counted
_MOST = 20


def record(context: Context[Options], chosen: Chosen, verdict: Verdict, seconds: float) -> None:
    """Write the small record beside the backup: it changes the trust for everyone."""
    trust = verdict.word.trust
    if trust is None:
        return
    compared = [f"rows of {verdict.tables} tables, {verdict.rows} in all"] if verdict.seconds is not None else []
    compared += [*verdict.looked, *(f"not compared: {what}" for what in _some(verdict.uncompared))]
    proof = Proof(
        id=chosen.backup.id,
        result=trust,
        at=context.clock.now(),
        seconds=verdict.seconds if verdict.seconds is not None else round(seconds, 3),
        compared=tuple(compared),
        reason="; ".join(_some(verdict.reasons)) or None,
        tables_compared=verdict.tables,
        rows_compared=verdict.rows,
        analyze_seconds=verdict.analyze_seconds,
        cpus=os.cpu_count(),
        settings=verdict.settings,
    )
    records.prove(chosen.repository, chosen.backup.place, proof)


def _some(reasons: tuple[str, ...]) -> list[str]:
    more = len(reasons) - _MOST
    return [*reasons[:_MOST], *([f"and {more} more"] if more > 0 else [])]


def result(chosen: Chosen, verdict: Verdict, extra: tuple[Finding, ...] = ()) -> Result:
    """Return what becomes of the action."""
    samples: tuple[Sample, ...] = ()
    if verdict.seconds is not None and verdict.word is not Word.DAMAGED:
        samples = (Sample(SECONDS, chosen.database, verdict.seconds, "seconds"),)
    return Result(
        outcome=StepOutcome.SKIPPED if verdict.word is Word.CANNOT_VERIFY else StepOutcome.DONE,
        note=note(verdict),
        after=entry(chosen, verdict),
        findings=(*findings(chosen, verdict), *_of_laboratory(verdict), *extra),
        samples=samples,
    )


def _of_laboratory(verdict: Verdict) -> Iterator[Finding]:
    """Return what was found on the copy, saying so."""
    for finding in verdict.findings:
        yield replace(finding, where="laboratory")


def note(verdict: Verdict) -> str:
    """Say it in one line: ``proven: 214 tables, 94,201,877 rows equal, 0:47``."""
    if verdict.word is Word.CANNOT_VERIFY:
        return f"cannot verify: {verdict.reason}"
    if verdict.word is Word.DAMAGED:
        return f"damaged: {'; '.join(_some(verdict.reasons))}"
    text = f"{verdict.word}: {verdict.tables} tables, {verdict.rows:,} rows equal, {duration(verdict.seconds)}"
    return text + (f"; but {'; '.join(_some(verdict.reasons))}" if verdict.reasons else "")


def entry(chosen: Chosen, verdict: Verdict) -> dict[str, Any]:
    """Return what `run --json` says of one backup."""
    return {
        "id": chosen.backup.id,
        "server": chosen.backup.server,
        "database": chosen.database,
        "repository": chosen.repository.name,
        **_values(verdict),
    }


def _values(verdict: Verdict) -> dict[str, Any]:
    return {
        "result": verdict.word.value,
        "seconds": verdict.seconds,
        "analyze_seconds": verdict.analyze_seconds,
        "tables_compared": verdict.tables,
        "rows_compared": verdict.rows,
        "reason": verdict.reason,
        "not_compared": list(verdict.uncompared),
    }


def unreadable(remnant: Remnant) -> dict[str, Any]:
    """Return the same of a backup whose manifest cannot be used."""
    place = remnant.place
    verdict = _values(Verdict(Word.DAMAGED, (remnant.reason,)))
    return {
        "id": place.id,
        "server": place.server,
        "database": place.database,
        "repository": remnant.repository,
    } | verdict


def findings(chosen: Chosen, verdict: Verdict) -> tuple[Finding, ...]:
    """Return what has to be told beyond the step."""
    id_, database, where = chosen.backup.id, chosen.database, chosen.repository.name
    match verdict.word:
        case Word.DAMAGED:
            found = Finding(
                check="verify.damaged",
                severity=Severity.CRITICAL,
                object=f"{database}/{id_}",
                message=f"the backup {id_} of {database} in {where} is damaged: {'; '.join(verdict.reasons[:3])}",
                examples=verdict.reasons[:10],
                fix=f"maint run backup --server {shlex.quote(chosen.backup.server)}",
            )
        case Word.RESTORED:
            found = Finding(
                check="verify.restored",
                severity=Severity.WARNING,
                object=database,
                message=f"the backup {id_} of {database} was restored but is not proven: {verdict.reasons[0]}",
                value=f"{len(verdict.reasons)} reasons" if len(verdict.reasons) > 1 else None,
                examples=verdict.reasons[:10],
                fix=f"maint backups show {id_}",
            )
        case Word.CANNOT_VERIFY:
            found = Finding(
                check="verify.cannot",
                severity=Severity.WARNING,
                object=database,
                message=f"the backup {id_} of {database} in {where} cannot be verified here: {verdict.reason}",
                fix=verdict.fix,
            )
        case _:
            return ()
    return (found,)
