"""maint is killed, or Ctrl-C pressed, at any crossing of a door; then it runs again.

By default a seeded sample of the crossings, one of each stretch of the run; all of them with ``-m soak``.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import pytest
from support import aftermath
from support.doors import press_ctrl_c, run_through
from support.maint import Maint
from support.postgres import Database
from support.repositories import write_with
from support.s3 import Store

from maint.config.model import RepositoryConfig
from maint.model import Outcome

#: crossings tried of each kind of run by default
SAMPLE = 5


@dataclass(frozen=True)
class Scene:
    """A maint with one good backup, and the run that is going to be disturbed."""

    maint: Maint
    database: Database
    repository: RepositoryConfig

    def crossings(self) -> int:
        """Return how many crossings a run makes that nothing disturbs."""
        answer, crossed = run_through(self.maint)
        assert answer.code == 0, answer.err
        return len(crossed)

    def check_now(self) -> list[str]:
        """Check what holds at any moment: what is listed is whole; return the ids, newest first."""
        return aftermath.ids(self.repository)

    def check_after(self, what: str) -> list[str]:
        """Check what holds as soon as a run has ended in an orderly way; return the ids."""
        print(what)  # shown if this fails
        aftermath.nothing_half(self.repository)
        aftermath.nothing_on_disk(self.maint)
        aftermath.nothing_runs(self.maint, self.database)
        assert all(run.outcome is not None for run in aftermath.runs(self.maint))
        return self.check_now()

    def kill(self, at: int | str) -> bool:
        """Kill a run at one crossing, run again, check; return whether there was such a crossing."""
        before, runs_before = self.check_now(), len(aftermath.runs(self.maint))
        answer, crossed = run_through(self.maint, at)
        if answer.code == 0:
            return False
        assert answer.code == -9, answer.err
        killed_at = self.check_now()
        assert killed_at[0] == before[0] or killed_at[0] not in before, "the newest good one is gone"
        again = self.maint("run", "backup")
        assert again.code == 0, f"killed at {crossed[-1]}: {again.out}{again.err}"
        after = self.check_after(f"killed at {crossed[-1]}")
        assert after[0] not in killed_at, "the second run made none"
        assert len(after) == 1, "retention left more than keep asks for"
        self._check_history(runs_before, complete=len(set(killed_at) - set(before)) == 1)
        return True

    def _check_history(self, runs_before: int, *, complete: bool) -> None:
        found = aftermath.runs(self.maint)
        killed = found[1 : len(found) - runs_before]
        assert len(killed) <= 1  # none if it was killed before it claimed the slot
        assert found[0].outcome is Outcome.SUCCEEDED
        assert {run.outcome for run in killed} <= ({Outcome.LOST, Outcome.SUCCEEDED} if complete else {Outcome.LOST})

    def interrupt(self, at: int) -> bool:
        """Press Ctrl-C at a crossing, and check; return whether there was such a crossing."""
        before, runs_before = self.check_now(), len(aftermath.runs(self.maint))
        answer, crossed = run_through(self.maint, at, press_ctrl_c)
        if len(crossed) < at:
            return False
        assert answer.code in (0, 5), f"Ctrl-C at {crossed[at - 1]}: {answer.code}\n{answer.out}{answer.err}"
        after = self.check_after(f"Ctrl-C at {crossed[at - 1]}")
        made = [id_ for id_ in after if id_ not in before]
        assert made or after == before
        assert after[: len(made)] == made
        assert len(made) <= 1
        assert made or answer.code == 5
        claimed = aftermath.runs(self.maint)[:-runs_before]  # none if it was interrupted before that
        assert len(claimed) <= 1
        assert all(run.outcome is (Outcome.STOPPED if answer.code == 5 else Outcome.SUCCEEDED) for run in claimed)
        return True


def some(last: int, seed: str) -> list[int]:
    """Return one number of each of `SAMPLE` equal stretches up to `last`; the same ones each time."""
    chance = random.Random(seed)
    edges = [1 + last * n // SAMPLE for n in range(SAMPLE + 1)]
    return [chance.randrange(low, high) for low, high in pairwise(edges)]


def every(disturb: Callable[[int], bool]) -> None:
    """Disturb a run at every crossing until one is through before that."""
    at = 1
    while disturb(at):
        at += 1
    assert at > 100, f"a run of only {at} crossings?"


_JOB = "retries = 0\n[options]\nkeep = { last = 1 }\nmax_delete = 100\n"


@pytest.fixture(params=["custom", "directory", "s3"])
def scene(request: pytest.FixtureRequest, configured: Callable[..., Maint], sample: Database, rclone: Store) -> Scene:
    """The two formats of a dump in a directory; and in S3, in two parts."""
    maint = configured()
    maint.job("backup", _JOB + ('format = "directory"\n' if request.param == "directory" else ""))
    database: Database = request.getfixturevalue("bulky") if request.param == "s3" else sample
    repository = rclone.config(rclone.bucket()) if request.param == "s3" else aftermath.local(maint)
    write_with(maint, database, repository)
    assert maint("run", "backup").code == 0
    return Scene(maint, database, repository)


#: where something is half done, by the names of the crossings
_HALF_DONE = {
    "directory": [
        "before sync test_",  # the folder is made
        "after __enter__ .*/dump.000",
        "after _start pg_dump$",
        "after commit .*/dump.000",
        "before commit .*/manifest.json",
        "after commit .*/manifest.json",
        "after delete .*/manifest.json",  # retention
        "after delete .*/dump.000",
    ],
    "s3": [
        "after put_object .*/started.json",
        "after create_multipart_upload .*probe-",
        "after create_multipart_upload .*/dump.000",  # an upload is begun and nobody knows its name yet
        "after name",
        "after upload_part .*/dump.000",
        "after complete_multipart_upload .*/dump.000",
        "after put_object .*/manifest.json",
        "after delete_object .*/manifest.json",  # retention
        "after delete_object .*/dump.000",
    ],
}


def test_killed_with_something_half_done(scene: Scene) -> None:
    is_s3 = scene.repository.url.startswith("s3:")
    for at in _HALF_DONE["s3" if is_s3 else "directory"]:
        assert scene.kill(at), f"there is no crossing {at}"


def test_killed_at_some_crossings(scene: Scene, request: pytest.FixtureRequest) -> None:
    for at in some(scene.crossings(), request.node.name):
        scene.kill(at)


@pytest.mark.parametrize("scene", ["custom", pytest.param("s3", marks=pytest.mark.slow)], indirect=True)
def test_interrupted_at_some_crossings(scene: Scene, request: pytest.FixtureRequest) -> None:
    for at in some(scene.crossings(), request.node.name):
        scene.interrupt(at)


@pytest.mark.soak
def test_killed_at_every_crossing(scene: Scene) -> None:
    every(scene.kill)


@pytest.mark.soak
def test_interrupted_at_every_crossing(scene: Scene) -> None:
    every(scene.interrupt)


def test_the_very_first_run_is_killed(configured: Callable[..., Maint], sample: Database) -> None:
    """Where there is neither history nor repository yet."""
    crossings = len(run_through(configured(sample, name="whole"))[1])
    for at in some(crossings, "first"):
        maint = configured(sample, name=f"killed-{at}")
        answer, crossed = run_through(maint, at)
        assert answer.code == -9, answer.err
        scene = Scene(maint, sample, aftermath.local(maint))
        scene.check_now()
        again = maint("run", "backup")
        assert again.code == 0, f"killed at {crossed[-1]}: {again.out}{again.err}"
        assert scene.check_after(f"killed at {crossed[-1]}")
