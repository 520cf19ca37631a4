"""Logs: the run on every line, hostile names on one line, secrets on none."""

import io
import json
import logging
import threading
from collections.abc import Iterator

import pytest

from maint import log
from maint.log import Capture, bind, carrying, setup

LOG = logging.getLogger("maint.test")


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    root, maint = logging.getLogger(), logging.getLogger("maint")
    before = (root.level, maint.level, list(root.handlers))
    yield
    root.setLevel(before[0])
    maint.setLevel(before[1])
    root.handlers[:] = before[2]


def lines_of(stream: io.StringIO) -> list[str]:
    return stream.getvalue().splitlines()


def test_text_line_has_time_run_job_and_server() -> None:
    setup(stream := io.StringIO(), json=False)
    with bind(run=7, job="backup", server="main"):
        LOG.info("reading", extra={"program": "pg_dump"})
        LOG.warning("slow")
    first, second = lines_of(stream)
    assert first[8:] == "Z 7 backup main  pg_dump: reading"
    assert second[8:] == "Z 7 backup main  warning: slow"


def test_no_server_is_not_shown() -> None:
    setup(stream := io.StringIO(), json=False)
    with bind(run=7, job="report", server="-"):
        LOG.info("sent")
    assert lines_of(stream)[0][8:] == "Z 7 report  sent"


def test_json_is_chosen_where_nobody_watches() -> None:
    setup(stream := io.StringIO())
    with bind(run=7, job="backup", server="main"):
        LOG.error("cut\noff", extra={"program": "pg_dump"})
    line = json.loads(stream.getvalue())
    assert line.pop("ts").endswith("Z")
    assert line == {
        "level": "error",
        "run": 7,
        "job": "backup",
        "server": "main",
        "program": "pg_dump",
        "logger": "maint.test",
        "message": "cut\noff",
    }


def test_control_characters_cannot_forge_a_line() -> None:
    setup(stream := io.StringIO(), json=False)
    LOG.info("dumping %s", "a\n02:00:00Z 1 backup main  all fine\r\x1b[2J\x9b\u2028\u202e\ud800")
    (line,) = lines_of(stream)
    assert line.isprintable()
    assert r"a\n02:00:00Z 1 backup main  all fine\r\x1b[2J\x9b\u2028\u202e\ud800" in line


def _break() -> None:
    raise ValueError("bad\npassword=hunter2")


def test_traceback_only_in_debug_and_indented() -> None:
    for debug in (False, True):
        setup(stream := io.StringIO(), json=False, debug=debug)
        try:
            _break()
        except ValueError:
            LOG.exception("it broke")
        first, *rest = lines_of(stream)
        assert "hunter2" not in stream.getvalue()
        assert bool(rest) is debug
        assert all(line.startswith("    ") for line in rest)
        assert debug or first.endswith("it broke (password=***)")


def test_levels() -> None:
    for options, shown in (({}, ["i", "w", "ow"]), ({"quiet": True}, ["w", "ow"]), ({"debug": True}, list("diw"))):
        setup(stream := io.StringIO(), json=False, **options)
        LOG.debug("d")
        LOG.info("i")
        LOG.warning("w")
        if not options.get("debug"):
            logging.getLogger("boto3").info("oi")
            logging.getLogger("boto3").warning("ow")
        assert [line.split()[-1] for line in lines_of(stream)] == shown


def test_setup_twice_does_not_double_lines() -> None:
    setup(io.StringIO(), json=False)
    setup(stream := io.StringIO(), json=False)
    LOG.info("once")
    assert len(lines_of(stream)) == 1


def in_thread(function) -> None:  # type: ignore[no-untyped-def]
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


def test_threads_of_the_only_run_log_for_it() -> None:
    setup(stream := io.StringIO(), json=False)
    with bind(run=7, job="backup", server="main"):
        in_thread(lambda: LOG.info("from a thread"))
    in_thread(lambda: LOG.info("afterwards"))
    first, second = lines_of(stream)
    assert first.endswith("Z 7 backup main  from a thread")
    assert second[8:] == "Z  afterwards"


def test_several_runs_in_one_process_are_told_apart() -> None:
    setup(stream := io.StringIO(), json=False)
    started, go = threading.Event(), threading.Event()

    def other() -> None:
        with bind(run=8, job="locks", server="two"):
            started.set()
            go.wait(10)

    thread = threading.Thread(target=other)
    with bind(run=7, job="locks", server="one"):
        thread.start()
        assert started.wait(10)
        in_thread(carrying(lambda: LOG.info("carried")))
        in_thread(lambda: LOG.info("whose"))
        go.set()
        thread.join()
    first, second = lines_of(stream)
    assert first.endswith("Z 7 locks one  carried")
    assert second[8:] == "Z  whose"  # nobody's rather than the wrong one's


def test_capture_keeps_its_own_run_only() -> None:
    with bind(run=7, job="backup", server="main"), Capture(7) as capture:
        LOG.info("mine")
        with bind(run=8):
            LOG.info("not mine")
    LOG.info("afterwards")
    assert [line[8:] for line in capture.tail()] == ["Z 7 backup main  mine"]
    assert capture.take().endswith("  mine\n")
    assert capture.take() == ""


def test_capture_is_bounded_and_says_what_is_missing() -> None:
    with bind(run=7), Capture(7) as capture:
        for number in range(2000):
            LOG.info("%d %s", number, "x" * 1000)
        text = capture.take()
    first, *rest = text.splitlines()
    assert len(text) <= Capture.LIMIT + 100
    assert first == f"({2000 - len(rest)} earlier messages were too many to keep)"
    assert " 1999 " in rest[-1]
    assert len(capture.tail()) == 25


def test_capture_sees_info_whatever_the_terminal_shows() -> None:
    setup(stream := io.StringIO(), json=False, quiet=True)
    with bind(run=7), Capture(7) as capture:
        LOG.info("hidden")
    assert not stream.getvalue()
    assert "hidden" in capture.take()


def test_registered_secrets_are_in_no_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "_registered", set())
    monkeypatch.setattr(log, "_known", None)
    log.register_secret("tr0ub/4dor")
    for as_json in (False, True):
        setup(stream := io.StringIO(), json=as_json)
        with bind(run=7, job="tr0ub/4dor"):
            LOG.info("%s and %s", "tr0ub/4dor", "tr0ub%2F4dor", extra={"program": "tr0ub/4dor"})
        assert "tr0ub" not in stream.getvalue()
