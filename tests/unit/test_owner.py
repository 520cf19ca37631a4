"""Whether the process that something belongs to still runs."""

import os
import subprocess

import pytest

from maint.owner import Owner, me, of


def test_this_process_lives() -> None:
    assert me().alive() is True
    assert Owner.parse(str(me())) == me()


def test_a_pid_used_again_is_another_process() -> None:
    assert Owner(me().place, os.getpid(), me().start - 1).alive() is False


def test_what_cannot_be_seen_from_here() -> None:
    assert Owner("0" * 12, os.getpid(), me().start).alive() is None


def test_a_zombie_is_dead() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        child = of(process.pid)
        assert child.alive() is True
        process.stdin.close()  # type: ignore[union-attr]
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert child.alive() is False
    assert child.alive() is False


@pytest.mark.parametrize("text", ["", "nonsense", "1-2-3", "0123456789ab-x-1", "{}"])
def test_what_is_no_owner(text: str) -> None:
    assert Owner.parse(text) is None
