"""A line of the terminal that tells how far a run is."""

import shutil
from collections.abc import Mapping
from typing import Any, TextIO

from maint.clock import Clock
from maint.format import duration, printable, size

_BAR = 20
_EIGHTHS = " ▏▎▍▌▋▊▉"


class Line:
    """Rewrites one line: object, bar, percent, bytes, speed, what, time."""

    def __init__(self, stream: TextIO, clock: Clock) -> None:
        self._stream = stream
        self._clock = clock
        self._began: dict[str, float] = {}
        self._shown = False

    def show(self, progress: Mapping[str, Mapping[str, Any]]) -> None:
        """Show what runs now; several at a time share the line."""
        now = self._clock.monotonic()
        texts = [
            self._one(name, numbers, now - self._began.setdefault(name, now)) for name, numbers in progress.items()
        ]
        if not texts:
            return
        more = f"  (+{len(texts) - 1} more)" if len(texts) > 1 else ""
        width = shutil.get_terminal_size().columns - 1
        self._stream.write("\r\x1b[K" + (texts[0] + more)[:width])
        self._stream.flush()
        self._shown = True

    def _one(self, name: str, numbers: Mapping[str, Any], seconds: float) -> str:
        done, total = numbers.get("done_bytes"), numbers.get("total_bytes")
        if done is None or not total:
            return f"{printable(name)}  {duration(seconds)}"
        share = min(done / total, 0.99)  # the total is a guess
        speed = f"{size(done / seconds)}/s" if seconds > 1 else ""
        what = printable(str(numbers.get("what") or ""))
        return (
            f"{printable(name)}  {bar(share)} {share:4.0%}  {size(done)} of ~{size(total)}  {speed}  {what}"
            f"  {duration(seconds)}"
        )

    def clear(self) -> None:
        """Take the line away."""
        if self._shown:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._shown = False


def bar(share: float) -> str:
    """Draw a share of one: ``███████████▌        ``."""
    eighths = round(share * _BAR * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_EIGHTHS[rest] if rest else "")).ljust(_BAR)
