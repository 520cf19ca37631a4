"""The line of the terminal that tells how far a run is."""

import io
from typing import Any

import pytest

from maint.cli.progress import Line, bar
from maint.clock import SystemClock


class Ticking(SystemClock):
    """Ten seconds pass between two looks."""

    def __init__(self) -> None:
        self.ticks = -10.0

    def monotonic(self) -> float:
        self.ticks += 10
        return self.ticks


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")


def shown(stream: io.StringIO) -> str:
    """Return what stands in the line now."""
    return stream.getvalue().rpartition("\r\x1b[K")[2]


NUMBERS: dict[str, Any] = {"done_bytes": 58_000_000, "total_bytes": 100_000_000, "what": "public.events"}


def test_object_share_bytes_speed_table_and_time(stream: io.StringIO) -> None:
    line = Line(stream, Ticking())
    line.show({"shop": NUMBERS})
    line.show({"shop": NUMBERS})
    told = shown(stream).rpartition("█")[2].split()
    assert " ".join(told) == "▋ 58% 55 MB of ~95 MB 5.5 MB/s public.events 0:10"


def test_what_has_no_size_has_a_time(stream: io.StringIO) -> None:
    line = Line(stream, Ticking())
    line.show({"sleep": {}})
    line.show({"sleep": {}})
    assert shown(stream) == "sleep  0:10"


def test_several_share_the_line_and_names_stay_on_it(stream: io.StringIO) -> None:
    Line(stream, Ticking()).show({"a\nb\x1b[2J": {}, "c": {}})
    assert shown(stream).endswith("(+1 more)")
    assert "\n" not in shown(stream)
    assert "\x1b" not in shown(stream)


def test_it_is_no_longer_than_the_terminal(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    Line(stream, Ticking()).show({"x" * 63: NUMBERS})
    assert len(shown(stream)) == 39


def test_more_than_expected_is_never_100_percent(stream: io.StringIO) -> None:
    Line(stream, Ticking()).show({"shop": {**NUMBERS, "done_bytes": 300_000_000}})
    assert " 99%" in shown(stream)


def test_taken_away_once(stream: io.StringIO) -> None:
    line = Line(stream, Ticking())
    line.clear()
    assert stream.getvalue() == ""
    line.show({"shop": NUMBERS})
    line.clear()
    line.clear()
    assert shown(stream) == ""
    assert stream.getvalue().count("\r\x1b[K") == 2


def test_bar() -> None:
    assert bar(0) == " " * 20
    assert bar(1) == "█" * 20
    assert len(bar(0.58)) == 20
