"""The outcome of a run: a pure function of its steps, its findings and what ended it."""

from collections.abc import Iterable, Sequence

from maint.errors import MaintError, Stopped, TimedOut
from maint.model import WORST_FIRST, Finding, Outcome, Severity, Step, StepOutcome

#: the finding of an action that was skipped because somebody else works on the same database
BUSY = "run.busy"


def outcome_of(steps: Sequence[Step], findings: Iterable[Finding], ended: MaintError | None) -> Outcome:
    """Return the worst of all that happened; see `WORST_FIRST`."""
    findings = list(findings)
    became = {step.result.outcome for step in steps}
    candidates = {
        _of_the_end(ended),
        Outcome.FAILED if StepOutcome.FAILED in became else Outcome.SUCCEEDED,
        Outcome.STOPPED if StepOutcome.NOT_REACHED in became and ended is None else Outcome.SUCCEEDED,
    }
    if _only_met_busy(steps, findings):
        candidates.add(Outcome.SKIPPED)
    elif any(finding.severity >= Severity.WARNING for finding in findings):
        candidates.add(Outcome.WARNED)
    return next(outcome for outcome in WORST_FIRST if outcome in candidates)


def _only_met_busy(steps: Iterable[Step], findings: Iterable[Finding]) -> bool:
    """Tell whether all of what somebody else was at work on was skipped; what only clears up does not count."""
    busy = {finding.object for finding in findings if finding.check == BUSY}
    verbs = {step.action.verb for step in steps if step.action.object in busy}
    worked = (StepOutcome.DONE, StepOutcome.NO_EFFECT)
    return bool(busy) and not any(step.action.verb in verbs and step.result.outcome in worked for step in steps)


def _of_the_end(ended: MaintError | None) -> Outcome:
    match ended:
        case None:
            return Outcome.SUCCEEDED
        case TimedOut():
            return Outcome.TIMED_OUT
        case Stopped():
            return Outcome.STOPPED
        case _:
            return Outcome.FAILED
