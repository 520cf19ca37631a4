"""The task ``files``: what lies beside the databases (configuration, uploads), into the same repositories."""

from types import ModuleType

from maint.task import Scope, Task
from maint.tasks.files.options import Options

__all__ = ["TASK", "Options"]


def _work() -> ModuleType:
    """Import what does the work, with all of `maint.backups`: other jobs do not wait for it."""
    from maint.tasks.files import work

    return work


TASK = Task(
    name="files",
    summary="Pack files and folders into repositories, compare what was stored, and keep backups by age class.",
    options=Options,
    scope=Scope.INSTALLATION,
    heavy=False,
    plan=lambda context: _work().plan(context),
    act=lambda context, action: _work().act(context, action),
    conclude=lambda context, steps: _work().conclude(context, steps),
    outputs=lambda context, steps: _work().outputs(context, steps),
    preflight=lambda config, job, _server: _work().preflight(config, job),
    without_history=True,
)
