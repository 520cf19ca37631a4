"""Run one job on one server: claim the slot, plan, act, watch, retry, record.

`work` is what the daemon's children, `maint run`, systemd timers and CronJobs all call.
"""

import logging
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from maint import identity, owner
from maint import log as logs
from maint.clock import Clock, Stop
from maint.config.model import Config, Job, ServerConfig
from maint.errors import HistoryError, MaintError, SlotTaken
from maint.history import History
from maint.model import EXIT_CODES, Action, Finding, Outcome, Result, Run, Step, StepOutcome
from maint.runner.journal import Journal
from maint.runner.locks import Locks
from maint.runner.loop import Loop, failure
from maint.runner.outcome import outcome_of
from maint.runner.scratch import Scratch
from maint.runner.scratch import sweep as sweep_scratch
from maint.runner.watch import Watch
from maint.task import Context, Scope, Task

#: stands for the server in runs of the whole installation
NO_SERVER = "-"

_LONGEST_DELAY = 3600.0


@dataclass(frozen=True, slots=True)
class Ground:
    """What all runs of a process stand on."""

    config: Config
    tasks: Mapping[str, Task[Any]]
    clock: Clock
    stop: Stop
    history: History | None  #: None: it could not be opened, for `history_error`
    history_error: HistoryError | None = None
    show: Callable[[Mapping[str, Any]], None] | None = None  #: is told the progress once a second


@dataclass(frozen=True, slots=True)
class Report:
    """What became of one run, after all its attempts."""

    run: Run
    steps: tuple[Step, ...]
    findings: tuple[Finding, ...]
    outputs: Mapping[str, Any]
    log_tail: tuple[str, ...]
    transient: bool = False  #: whether what failed may succeed a little later

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.run.outcome or Outcome.LOST]


def sweep(ground: Ground) -> None:
    """Clear what a maint that was killed left on this machine: unfinished runs, scratch folders."""
    try:
        lost = ground.history.lost(ground.clock.now()) if ground.history else []
    except HistoryError as error:
        _LOG.warning("%s", error)
        lost = []
    for run in lost:
        _LOG.warning("run %s (%s on %s) is lost: its process is gone", run.id, run.job, run.server)
    for path in sweep_scratch(ground.config, ground.clock.now()):
        _LOG.info("removed %s, which a process that is gone has left", path)
    for job in ground.config.jobs.values():
        clear = ground.tasks[job.task].sweep if job.task in ground.tasks else None
        for left in clear(job.options) if clear else ():
            _LOG.info("removed %s, which a process that is gone has left", left)


def servers_of(ground: Ground, job: Job) -> list[ServerConfig | None]:
    """Return what the job runs on: each of its servers, or once for the whole installation."""
    if ground.tasks[job.task].scope is Scope.INSTALLATION:
        return [None]
    if ground.tasks[job.task].anywhere and not ground.config.server:
        return [None]
    return list(ground.config.servers_of(job.servers))


def plan(ground: Ground, job: Job, server: ServerConfig | None) -> Iterator[Action]:
    """Yield what a run would do now, from the code that would do it; changes nothing."""
    run = _unrecorded(job, server, "dry-run", ground.clock)
    journal = Journal(ground.history, run, ground.clock, _LOG)
    with Scratch(ground.config, run.id) as scratch:
        watch = Watch(timeout=None, idle_timeout=None, clock=ground.clock, stop=ground.stop, beat=lambda _p: None)
        context = _context(ground, job, server, run, watch, scratch, journal, lambda _finding: None, dry_run=True)
        for action in ground.tasks[job.task].plan(context):
            yield replace(action, commands=tuple(map(logs.redact, action.commands)))


def work(ground: Ground, job: Job, server: ServerConfig | None, *, slot: str | None = None) -> Report:
    """Work one slot (None: a manual run), with as many attempts as the job allows."""
    done: set[tuple[str, str]] = set()
    made: list[str] = []
    for attempt in range(1, job.retries + 2):
        report = _attempt(ground, job, server, slot, attempt, done)
        made += report.outputs.get("backups", ())  # those of earlier attempts are as good
        slot = report.run.slot
        if report.run.outcome is not Outcome.FAILED or not report.transient or attempt > job.retries:
            break
        done |= {(s.action.verb, s.action.object) for s in report.steps if s.result.outcome is StepOutcome.DONE}
        delay = min(job.retry_delay.total_seconds() * 2 ** (attempt - 1), _LONGEST_DELAY)
        _LOG.info("attempt %s failed (%s); next in %.0f s", attempt, report.run.error, delay)
        if ground.clock.wait(ground.stop, delay):
            break
    return replace(report, outputs={**report.outputs, "backups": made}) if made else report


_LOG = logging.getLogger("maint.run")


def _attempt(
    ground: Ground,
    job: Job,
    server: ServerConfig | None,
    slot: str | None,
    attempt: int,
    done: set[tuple[str, str]],
) -> Report:
    task = ground.tasks[job.task]
    run = _claim(ground, task, job, server, slot, attempt)
    journal = Journal(ground.history, run, ground.clock, _LOG)
    asked, own = ground.stop, Stop()  # the deadline of this run ends no other
    ground = replace(ground, stop=own)
    with ExitStack() as stack:
        stack.enter_context(asked.interrupts(lambda: own.set(asked.reason)))
        stack.enter_context(logs.bind(run=run.id, job=job.name, server=run.server))
        capture = stack.enter_context(logs.Capture(run.id))
        watch = Watch(
            timeout=job.timeout,
            idle_timeout=job.idle_timeout,
            clock=ground.clock,
            stop=ground.stop,
            beat=lambda progress: journal.beat(progress, capture),
            show=ground.show,
            window=_until_window_ends(job, ground.clock),
        )
        capture.heard = watch.heard
        page = _Page(journal)
        with Scratch(ground.config, run.id) as scratch, watch:
            context = _context(ground, job, server, run, watch, scratch, journal, page.finding)
            ended, transient = _act(task, context, watch, page, done, _not_reached(ground, run))
        return _conclude(ground, task, context, journal, page, ended, transient, capture)


def _until_window_ends(job: Job, clock: Clock) -> float | None:
    """Return the seconds left of the window the run began in; None without one, or outside of it."""
    window, now = job.hours, clock.now()
    return window.remaining(now).total_seconds() if window is not None and window.contains(now) else None


@dataclass(slots=True)
class _Page:
    """Steps and findings of one attempt, kept here without secrets and written to the history."""

    journal: Journal
    steps: list[Step] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def step(self, step: Step) -> None:
        step = replace(step, result=replace(step.result, note=logs.redact(step.result.note)))
        self.steps.append(step)
        self.journal.step(step)

    def finding(self, finding: Finding) -> None:
        finding = replace(finding, message=logs.redact(finding.message))
        if finding in self.findings:  # a repository that is gone is gone for every database
            return
        self.findings.append(finding)
        self.journal.finding(finding)


def _claim(
    ground: Ground, task: Task[Any], job: Job, server: ServerConfig | None, slot: str | None, attempt: int
) -> Run:
    """Claim the slot. Without a history only what cannot wait runs all the same."""
    if ground.history is not None:
        try:
            return ground.history.claim(
                job=job.name,
                task=task.name,
                server=server.name if server else NO_SERVER,
                slot=slot,
                attempt=attempt,
                owner=owner.me(),
                host=socket.gethostname(),
                now=ground.clock.now(),
            )
        except SlotTaken:
            raise
        except HistoryError as error:
            if not task.without_history:
                raise
            _LOG.error("the history cannot be written: %s", error)
    elif not task.without_history:
        raise ground.history_error or HistoryError()
    return _unrecorded(job, server, slot or "manual:0", ground.clock)


def _unrecorded(job: Job, server: ServerConfig | None, slot: str, clock: Clock) -> Run:
    return Run(0, job.name, job.task, server.name if server else NO_SERVER, slot, 1, clock.now())


def _not_reached(ground: Ground, run: Run) -> list[str]:
    if ground.history is None:
        return []
    try:
        return ground.history.not_reached(run.job, run.server)
    except HistoryError:
        return []


def _context(
    ground: Ground,
    job: Job,
    server: ServerConfig | None,
    run: Run,
    watch: Watch,
    scratch: Scratch,
    journal: Journal,
    report: Callable[[Finding], None],
    *,
    dry_run: bool = False,
) -> Context[Any]:
    return Context(
        config=ground.config,
        job=job,
        options=job.options,
        server=server,
        run_id=run.id,
        slot=run.slot,
        installation=identity.installation(ground.config),
        dry_run=dry_run,
        clock=ground.clock,
        stop=ground.stop,
        log=_LOG,
        progress=watch.progress,
        report=report,
        recent=journal.recent,
        history=ground.history,
        state={},
        scratch=scratch,
    )


def _act(
    task: Task[Any],
    context: Context[Any],
    watch: Watch,
    page: _Page,
    done: set[tuple[str, str]],
    first: list[str],
) -> tuple[MaintError | None, bool]:
    """Plan and act; return what ended the run early, and whether what failed may pass."""
    with ExitStack() as stack:
        locks = None
        if context.server is not None:
            locks = stack.enter_context(
                Locks(context.server, context.application_name, clock=context.clock, stop=context.stop)
            )
        loop = Loop(task, context, watch, locks, page.step, page.finding, done)
        try:
            context.stop.check()
            actions = list(task.plan(context))
        except Exception as raised:  # noqa: BLE001 - a defect must not leave the run unfinished in the history
            error = failure(raised, _LOG, "the plan")
            _LOG.error("%s", error)
            return context.stop.reason or error, error.transient
        if context.job.mode == "advise":
            for action in actions:
                page.step(_advice(action, context))
            return None, False
        loop.run(actions, first)
    failed = [step for step in page.steps if step.result.outcome is StepOutcome.FAILED]
    return loop.ended, bool(failed) and all(step.result.transient for step in failed)


def _advice(action: Action, context: Context[Any]) -> Step:
    note = action.skip or "advised only: mode = advise"
    return Step(action, Result(StepOutcome.SKIPPED, note), context.clock.now(), 0.0)


def _conclude(
    ground: Ground,
    task: Task[Any],
    context: Context[Any],
    journal: Journal,
    page: _Page,
    ended: MaintError | None,
    transient: bool,
    capture: logs.Capture,
) -> Report:
    if trouble := journal.trouble():
        page.finding(trouble)
    if context.job.mode == "advise":
        summary = f"advised only, nothing was done: {len(page.steps)} actions planned"
    else:  # may report findings
        summary = task.conclude(context, page.steps) if task.conclude else _summary(page.steps)
    outcome = outcome_of(page.steps, page.findings, ended)
    error, hint = _error(page.steps, ended)
    _LOG.log(logging.ERROR if error else logging.INFO, "%s: %s", outcome, error or summary)
    journal.flush(capture)
    journal.finish(outcome, summary, error, hint)
    run = replace(journal.run, outcome=outcome, finished_at=ground.clock.now(), summary=summary, error=error, hint=hint)
    outputs = task.outputs(context, page.steps) if task.outputs else {}
    return Report(run, tuple(page.steps), tuple(page.findings), outputs, capture.tail(), transient)


def _summary(steps: Sequence[Step]) -> str:
    """Count the steps by what became of them: ``3 done, 1 skipped``."""
    counts = [(o, sum(step.result.outcome is o for step in steps)) for o in StepOutcome]
    return ", ".join(f"{n} {o.replace('_', ' ')}" for o, n in counts if n) or "nothing to do"


def _error(steps: Sequence[Step], ended: MaintError | None) -> tuple[str | None, str | None]:
    """Return what to tell first, and its hint."""
    if ended is not None:
        return logs.redact(str(ended)), ended.hint
    failed = [step for step in steps if step.result.outcome is StepOutcome.FAILED]
    if not failed:
        return None, None
    others = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
    first = failed[0]
    return (
        f"{first.action.verb} of {first.action.object}: {first.result.note}{others}",
        first.result.after.get("hint"),
    )
