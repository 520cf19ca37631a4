"""The task ``verify``: restore backups, compare them with what was counted, and record the proof."""

from types import ModuleType

from maint.task import Scope, Task
from maint.tasks.verify.options import Options

__all__ = ["TASK", "Options"]


def _work() -> ModuleType:
    """Import what does the work, with all of `maint.restore`: other jobs do not wait for it."""
    from maint.tasks.verify import work

    return work


def _sweep(options: Options) -> list[str]:
    from maint import cluster

    return cluster.sweep(options.base)


TASK = Task(
    name="verify",
    summary="Restore backups into a throw-away server and compare every row, index, constraint and sequence.",
    options=Options,
    scope=Scope.SERVER,
    heavy=False,
    plan=lambda context: _work().plan(context),
    act=lambda context, action: _work().act(context, action),
    conclude=lambda context, steps: _work().conclude(context, steps),
    outputs=lambda context, steps: _work().outputs(context, steps),
    anywhere=True,
    sweep=_sweep,
)
