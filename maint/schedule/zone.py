"""Names of time zones."""

from zoneinfo import ZoneInfo


def check_zone(name: str) -> str:
    """Return `name` if it is a time zone; ValueError with the nearest names otherwise."""
    try:
        ZoneInfo(name)
    except (OSError, ValueError, LookupError):
        raise ValueError(f"no such time zone: {name!r}{_nearest_zone(name)}") from None
    return name


def _nearest_zone(name: str) -> str:
    from difflib import get_close_matches
    from zoneinfo import available_timezones

    near = get_close_matches(name, available_timezones(), n=2)
    return f"; did you mean {' or '.join(near)}?" if near else ' (as in "Europe/Berlin")'
