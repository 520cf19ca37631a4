"""maint restore is killed, or Ctrl-C pressed, at any crossing of a door; then it runs again.

By default a seeded sample of the crossings; all of them with ``-m soak``.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import pytest
from support import aftermath, postgres
from support.doors import die, press_ctrl_c, run_through
from support.dumps import Counts, counts
from support.maint import Maint
from support.postgres import Database
from support.restores import BESIDE, backed_up, databases, nothing_beside

#: crossings tried of each kind of restore by default
SAMPLE = 5


@dataclass
class Scene:
    """A maint with one backup, and the restore that is going to be disturbed."""

    maint: Maint
    database: Database  #: the target
    arguments: tuple[str, ...]
    restored: Counts  #: what the backup holds
    before: Counts | None  #: what the target holds beforehand; None: it is not there

    def crossings(self, seed: str) -> list[int]:
        """Return some crossings of a restore: one of each stretch, and all of the swap of two names."""
        answer, crossed = run_through(self.maint, 0, press_ctrl_c, *self.arguments)
        assert answer.code == 0, answer.err
        self.reset()
        return sorted({*_some(len(crossed), seed), *_of_swap(crossed)})

    def reset(self) -> None:
        """Have the target as it was."""
        for name in databases(self.database.cluster):
            if name.startswith(f"{self.database.name}_old_"):
                postgres.drop(Database(self.database.cluster, name))
        if self.before is None:
            postgres.drop(self.database)
        else:
            self.database.execute("CREATE TABLE IF NOT EXISTS public.since_then AS SELECT 1 AS one")

    def kept(self, what: str) -> Counts | None:
        """Check that the target is there, whole and open: as it was, or as it is to be; return its counts."""
        print(what)  # shown if this fails
        if self.database.name not in databases(self.database.cluster):
            assert self.before is None
            return None
        found = counts(self.database)
        assert found in (self.before, self.restored)
        return found

    def kill(self, at: int) -> bool:
        """Kill a restore at crossing `at`, restore again, check; return whether there was such a crossing."""
        answer, crossed = run_through(self.maint, at, die, *self.arguments)
        if answer.code == 0:
            self.reset()
            return False
        assert answer.code == -9, answer.err
        what = f"killed at {crossed[-1]}"
        done = self.kept(what) == self.restored
        if done and self.before is None:
            postgres.drop(self.database)
        aftermath.nothing_runs(self.maint, self.database)
        assert len([name for name in databases(self.database.cluster) if name.startswith(BESIDE)]) <= 1
        again = self.maint(*self.arguments)
        assert again.code == 0, f"{what}: {again.out}{again.err}"
        assert self.kept(what) == self.restored
        assert nothing_beside(self.maint, self.database.cluster)
        self.reset()
        return True

    def interrupt(self, at: int) -> bool:
        """Press Ctrl-C at a crossing, and check; return whether there was such a crossing."""
        answer, crossed = run_through(self.maint, at, press_ctrl_c, *self.arguments)
        if len(crossed) < at:
            self.reset()
            return False
        what = f"Ctrl-C at {crossed[at - 1]}"
        assert answer.code in (0, 5), f"{what}: {answer.code}\n{answer.out}{answer.err}"
        found = self.kept(what)
        assert found == (self.restored if answer.code == 0 else self.before), what
        aftermath.nothing_runs(self.maint, self.database)
        assert nothing_beside(self.maint, self.database.cluster)
        self.reset()
        return True


#: kind of restore -> its options
_KINDS = {
    "new": (),
    "files": ("--jobs=2",),
    "replace": ("--replace",),
    "disconnect": ("--replace", "--disconnect"),
}


@pytest.fixture(params=_KINDS)
def scene(request: pytest.FixtureRequest, sample: Database, configured: Callable[..., Maint]) -> Iterator[Scene]:
    maint = backed_up(configured(sample))
    restored = counts(sample)
    options = _KINDS[request.param]
    if "--replace" in options:
        sample.execute("CREATE TABLE public.since_then AS SELECT 1 AS one")
        arguments = ("restore", sample.name, "--to", sample.name, *options, "--yes", sample.name)
        found = Scene(maint, sample, arguments, restored, counts(sample))
    else:
        copy = Database(sample.cluster, f"{sample.name}_copy")
        found = Scene(maint, copy, ("restore", sample.name, "--to", copy.name, *options), restored, None)
    yield found
    found.reset()


def _some(last: int, seed: str) -> list[int]:
    """Return one number of each of `SAMPLE` equal stretches up to `last`."""
    chance = random.Random(seed)
    return [chance.randrange(low, high) for low, high in pairwise(1 + last * n // SAMPLE for n in range(SAMPLE + 1))]


def _of_swap(crossed: list[str]) -> range:
    """Return the crossings of the last two statements, which swap two names."""
    performed = [n for n, name in enumerate(crossed, 1) if name.endswith("perform")]
    return range(performed[-4], performed[-1] + 3)


def test_killed_at_some_crossings(scene: Scene, request: pytest.FixtureRequest) -> None:
    for at in scene.crossings(request.node.name):
        scene.kill(at)


def test_interrupted_at_some_crossings(scene: Scene, request: pytest.FixtureRequest) -> None:
    for at in scene.crossings(request.node.name):
        scene.interrupt(at)


@pytest.mark.soak
def test_killed_at_every_crossing(scene: Scene) -> None:
    at = 1
    while scene.kill(at):
        at += 1
    assert at > 50


@pytest.mark.soak
def test_interrupted_at_every_crossing(scene: Scene) -> None:
    at = 1
    while scene.interrupt(at):
        at += 1
    assert at > 50
