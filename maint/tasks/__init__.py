"""The tasks. To add one: a module here, a line below, a file in ``jobs/``."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from maint.task import Task
from maint.tasks import backup, command, files, sql, verify

_MODULES = (backup, command, files, sql, verify)

TASKS: Mapping[str, Task[Any]] = {module.TASK.name: module.TASK for module in _MODULES}

#: what `config.load` validates the options of jobs with
OPTIONS: Mapping[str, type[BaseModel]] = {name: task.options for name, task in TASKS.items()}
