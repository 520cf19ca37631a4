"""Checks: one question to a connection each, on production or on a restored copy (the laboratory).

Each is a module with `check(connection, options, budget) -> Iterator[Finding]`. Who calls it says where.
"""

from dataclasses import dataclass, field

from maint.clock import Clock, Stop


@dataclass(frozen=True, slots=True)
class Budget:
    """How long a check may go on; what it has not looked at then it says."""

    clock: Clock
    stop: Stop
    seconds: float | None = None  #: None: as long as it takes
    began: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "began", self.clock.monotonic())

    def is_spent(self) -> bool:
        """Return whether the time is over. Raises the reason if the run was stopped."""
        self.stop.check()
        return self.seconds is not None and self.clock.monotonic() - self.began > self.seconds
