"""What to say when a run has failed: at 03:00, to somebody who was asleep, the same order everywhere."""

from collections.abc import Iterator

from maint.cli.output import printable
from maint.config.model import Job
from maint.log import redact
from maint.runner import NO_SERVER, Report


def text(report: Report, job: Job) -> str:
    """Return what failed on what, what is still good, error and hint, last log lines, next command, next try."""
    return redact("\n".join(_lines(report, job)))


def _lines(report: Report, job: Job) -> Iterator[str]:
    run = report.run
    on = "" if run.server == NO_SERVER else f" on {run.server}"
    yield ""
    yield f"{run.job}{on} {str(run.outcome).replace('_', ' ')} (attempt {run.attempt})."
    yield from report.outputs.get("still_good", ())
    yield f"  {printable(run.error or '')}"
    if run.hint:
        yield f"  Hint: {printable(run.hint)}"
    if report.log_tail:
        yield "Last lines of the log"
        yield from (f"  {line}" for line in report.log_tail)
    yield f"To look:  maint show {run.id}"
    server = "" if run.server == NO_SERVER else f" --server {run.server}"
    yield f"To retry: maint run {run.job}{server}"
    if job.schedule:
        yield f"maint tries again by itself at its next slot ({job.schedule}, {job.timezone}), if its service runs."
