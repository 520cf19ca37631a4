"""When jobs are due: cron expressions, zones, daylight saving time, windows. Pure.

A slot is an instant; a cron expression speaks of local times, of which some days lack an hour and others
have one twice (FACTS of every scheduler's bug list). Here:

- Hour field fixed (``2``, ``1-3``, ``1,13``): a local time that does not exist is due once, at the next
  valid minute; one that exists twice is due the first time only.
- Hour field ``*`` (or all 24 hours): elapsed time counts, so both passes through a repeated hour count.
- Hour field ``*/n``: a repeated hour counts once.
- In both latter cases a local time that does not exist is due as long after the slot before it as on any
  other day (02:20 becomes 03:20). Whatever falls on the same instant is one slot.

Day of month and day of week both restricted (neither contains ``*``): either is enough, as in crontab(5).
"""

from maint.schedule.cron import Schedule
from maint.schedule.window import Window
from maint.schedule.zone import check_zone

__all__ = ["Schedule", "Window", "check_zone"]
