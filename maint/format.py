"""How numbers and names are written for people: the same in the terminal, in logs, mails and pages."""

from datetime import datetime


def printable(text: str) -> str:
    """Escape control characters: a database may be named with a newline or an escape sequence."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def size(n: float | None) -> str:
    """Show a number of bytes: ``552 MB`` (powers of 1024, as PostgreSQL prints them)."""
    if n is None:
        return "-"
    units = ("bytes", "kB", "MB", "GB", "TB", "PB")
    power = 0
    while abs(n) >= 1000 and power < len(units) - 1:
        n /= 1024
        power += 1
    text = f"{n:.0f}" if power == 0 or abs(n) >= 10 else f"{n:.1f}"
    return f"{text} {units[power]}"


def duration(seconds: float | None) -> str:
    """Show seconds: ``0.4 s``, ``0:31``, ``1:02:03``."""
    if seconds is None:
        return "-"
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def age(then: datetime, now: datetime) -> str:
    """Show how long ago: ``40 s``, ``12 min``, ``9 h``, ``1.4 d``, ``19 d``."""
    seconds = (now - then).total_seconds()
    if seconds < 0:
        return f"in {age(now, then)}"
    for unit, length, upto in (("s", 1, 90), ("min", 60, 90 * 60), ("h", 3600, 24 * 3600)):
        if seconds < upto:
            return f"{seconds / length:.0f} {unit}"
    days = seconds / 86400
    return f"{days:.1f} d" if days < 10 else f"{days:.0f} d"
