"""The task ``backup``: dump every database of a server into its repositories, then let retention prune."""

from types import ModuleType

from maint.task import Scope, Task
from maint.tasks.backup.databases import is_wanted, unmatched, why_not
from maint.tasks.backup.options import Options

__all__ = ["TASK", "Options", "is_wanted", "unmatched", "why_not"]


def _work() -> ModuleType:
    """Import what does the work, with zstandard and all of `maint.backups`: other jobs do not wait for it."""
    from maint.tasks.backup import work

    return work


TASK = Task(
    name="backup",
    summary="Dump databases into repositories, count them, and keep backups by age class.",
    options=Options,
    scope=Scope.SERVER,
    heavy=True,
    plan=lambda context: _work().plan(context),
    act=lambda context, action: _work().act(context, action),
    conclude=lambda context, steps: _work().conclude(context, steps),
    outputs=lambda context, steps: _work().outputs(context, steps),
    without_history=True,
)
