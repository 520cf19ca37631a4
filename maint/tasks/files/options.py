"""The options of the task."""

from pydantic import Field

from maint.backups.stores import StoreOptions
from maint.config.model import AbsolutePath


class Options(StoreOptions):
    """Options of a job with ``task = "files"``."""

    paths: tuple[AbsolutePath, ...] = Field(min_length=1, description="files and folders, with all that is below them")
    exclude: tuple[str, ...] = Field(
        (), description='patterns: "*.tmp" of names anywhere, with a slash of whole paths; what is below goes, too'
    )
    verify: bool = Field(True, description="read each new backup again and compare it file by file")
