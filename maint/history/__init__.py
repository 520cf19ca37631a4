"""What maint did and found: runs, steps, findings, samples, logs. The only channel between its processes."""

from maint.history.rows import FindingRow, SampleRow, StepRow
from maint.history.store import History

__all__ = ["FindingRow", "History", "SampleRow", "StepRow"]
