"""Backups of files: what comes back is what was there; what cannot be kept is named; what is damaged is found."""

import json
import os
import socket
import subprocess
from pathlib import Path
from typing import Any

import pyrage
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.trees import back_up, below, bring_back, inside, look, newest, swap, tree, write

from maint.backups import inventory, records
from maint.backups.files.walk import identity_of
from maint.clock import Stop
from maint.config.model import RepositoryConfig
from maint.errors import BackupError, Damaged, UsageError
from maint.model import Severity, Trust
from maint.repository import open_repository


@pytest.fixture
def config(tmp_path: Path) -> RepositoryConfig:
    return RepositoryConfig(name="local", url=f"file://{tmp_path / 'repository'}")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    return folder


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    return tmp_path / "scratch"


HOSTILE = (
    b"plain",
    b"with space",
    b"new\nline",
    b"quote'\"`$(x)",
    b"-rf",
    b"--checkpoint-action=exec=false",
    b"\xff\xfe",
    b"caf\xc3\xa9",
    b"caf\xe9",
    b"tab\tand\\back",
    b"\x1b[31m",
    b"x" * 255,
    b"\xe2\x82\xac" * 85,
    b"deep/" * 60 + b"end",
    b"~", b"*", b"..hidden", b"...", b"%2e%2e", b"#",
)  # fmt: skip


def test_what_comes_back_is_what_was_there(
    config: RepositoryConfig, source: Path, scratch: Path, tmp_path: Path
) -> None:
    write(source, HOSTILE)
    (source / "empty").mkdir(mode=0o700)
    (source / "closed").mkdir()
    (source / "closed" / "in").write_text("x")
    (source / "closed" / "in").chmod(0o640)
    (source / "closed").chmod(0o500)
    (source / "zero").touch()
    (source / "large").write_bytes(os.urandom(3 << 20) + bytes(513))
    (source / "link").symlink_to("large")
    (source / "closed2").symlink_to("closed/in")
    os.utime(source / "zero", ns=(-1_500_000_001, -1_500_000_001))
    os.utime(source / "plain", ns=(1, 1_900_000_000_123_456_789))
    before = tree(source)

    made = back_up(config, scratch, source)
    proof = look(config)
    back = bring_back(config, tmp_path / "back")

    assert not made.findings
    assert (proof.result, proof.reason) == (Trust.CHECKED, None)
    assert f"{made.manifest.tree.files} files, each compared with its size and SHA-256" in proof.compared
    assert tree(below(tmp_path / "back", source)) == before
    assert (back.skipped, back.torn, back.exit_code) == ((), (), 0)
    assert back.files == made.manifest.tree.files == sum(one[0] == "file" for one in before.values())
    assert (back.links, back.folders) == (2, 1 + sum(one[0] == "folder" for one in before.values()))


def test_stock_tools_restore_it(config: RepositoryConfig, source: Path, scratch: Path, tmp_path: Path) -> None:
    write(source, HOSTILE)
    (source / "link").symlink_to("/etc/hostname")
    back_up(config, scratch, source)
    folder = inside(config, "RESTORE.md").parent
    lines = [line[7:] for line in (folder / "RESTORE.md").read_text().splitlines() if line.startswith("       ")]
    done = subprocess.run(["bash", "-ec", "\n".join(lines)], cwd=folder, capture_output=True, check=True)
    assert b"SHA256SUMS" not in done.stderr
    listed = [json.loads(line) for line in done.stdout.splitlines() if line.startswith(b"{")]
    assert len(listed) == 1 + len(tree(source))
    assert tree(below(folder / "restored", source)) == tree(source)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    names=st.sets(
        st.binary(min_size=1, max_size=60).filter(lambda n: not {0, 47} & set(n) and n not in (b".", b"..")), max_size=8
    ),
    targets=st.lists(st.binary(min_size=1, max_size=40).filter(lambda n: not {0, 47} & set(n)), max_size=3),
)
def test_any_name_survives(names: set[bytes], targets: list[bytes], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("names")
    config = RepositoryConfig(name="local", url=f"file://{folder / 'repository'}")
    source = folder / "source"
    write(source, [b"one", *(b"d/" + name for name in names)])
    for number, target in enumerate(targets):
        if target != b"..":
            (source / f"link{number}").symlink_to(os.fsdecode(target))
    back_up(config, folder / "scratch", source)
    assert look(config).result is Trust.CHECKED
    bring_back(config, folder / "back")
    assert tree(below(folder / "back", source)) == tree(source)


def test_what_is_excluded_stays_away(config: RepositoryConfig, source: Path, scratch: Path, tmp_path: Path) -> None:
    write(source, [b"a.tmp", b"b.txt", b"cache/x", b"deep/cache/y", b"deep/c.tmp/z", b"deep/kept"])
    back_up(config, scratch, source, exclude=["*.tmp", f"{source}/cache"])
    bring_back(config, tmp_path / "back")
    names = set(tree(below(tmp_path / "back", source)))
    assert names == {b"b.txt", b"deep", b"deep/kept", b"deep/cache", b"deep/cache/y"}


def test_paths_below_one_another_are_kept_once(config: RepositoryConfig, source: Path, scratch: Path) -> None:
    write(source, [b"in/a", b"inner"])
    made = back_up(config, scratch, source / "in", source, source / "in" / "a", f"{source}/")
    assert (made.manifest.tree.files, look(config).result) == (2, Trust.CHECKED)


def test_a_configured_path_may_be_a_link_or_a_file(
    config: RepositoryConfig, source: Path, scratch: Path, tmp_path: Path
) -> None:
    write(source, [b"real/a", b"alone"])
    (source / "current").symlink_to("real")
    back_up(config, scratch, source / "current", source / "alone")
    bring_back(config, tmp_path / "back")
    assert (below(tmp_path / "back", source) / "current" / "a").read_bytes() == b"real/a"
    assert not (below(tmp_path / "back", source) / "current").is_symlink()
    assert (below(tmp_path / "back", source) / "alone").read_bytes() == b"alone"


def test_a_repository_inside_is_left_out(source: Path, scratch: Path) -> None:
    write(source, [b"a"])
    config = RepositoryConfig(name="local", url=f"file://{source / 'repository'}")
    back_up(config, scratch, source)
    never = frozenset({identity_of(str(source / "repository"))})
    assert back_up(config, scratch, source, never=never).manifest.tree.files == 1


def test_hard_links_come_back_as_copies(config: RepositoryConfig, source: Path, scratch: Path, tmp_path: Path) -> None:
    write(source, [b"a"])
    os.link(source / "a", source / "b")
    back_up(config, scratch, source)
    bring_back(config, tmp_path / "back")
    there = below(tmp_path / "back", source)
    assert (there / "a").read_bytes() == (there / "b").read_bytes() == b"a"


def test_what_is_no_file_is_named(config: RepositoryConfig, source: Path, scratch: Path, tmp_path: Path) -> None:
    write(source, [b"a"])
    os.mkfifo(source / "pipe")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(source / "socket"))
        made = back_up(config, scratch, source, tmp_path / "nowhere")
    found = {finding.check: finding for finding in made.findings}
    assert (found["files.special"].severity, found["files.special"].value) == (Severity.INFO, "2")
    assert {example.rpartition("/")[2] for example in found["files.special"].examples} == {
        "pipe: a pipe",
        "socket: a socket",
    }
    assert found["files.gone"].severity is Severity.WARNING
    assert "nowhere" in found["files.gone"].message
    assert made.manifest.lacks == ("1 of the paths: not there", "2 sockets, pipes and devices")
    assert look(config).result is Trust.CHECKED


def test_nothing_there_is_no_backup(config: RepositoryConfig, scratch: Path, tmp_path: Path) -> None:
    with pytest.raises(BackupError, match=r"nothing is there to back up: .*nowhere"):
        back_up(config, scratch, tmp_path / "nowhere")
    assert not list(open_repository(config).list())


def test_much_less_than_usual_is_told(config: RepositoryConfig, source: Path, scratch: Path) -> None:
    write(source, [b"a"])
    assert "backup.small" in {one.check for one in back_up(config, scratch, source, usual=1e6).findings}


def test_encrypted(source: Path, scratch: Path, tmp_path: Path) -> None:
    key, other = pyrage.x25519.Identity.generate(), pyrage.x25519.Identity.generate()
    for name, one in (("key", key), ("other", other)):
        (tmp_path / name).write_text(str(one))
    config = RepositoryConfig(name="safe", url=f"file://{tmp_path / 'repository'}", encrypt_to=(str(key.to_public()),))
    write(source, [b"very secret name"])
    back_up(config, scratch, source)
    everything = b"".join(path.read_bytes() for path in (tmp_path / "repository").rglob("*") if path.is_file())
    assert b"very secret name" not in everything
    assert "decrypted" in look(config, tmp_path / "key").compared
    assert look(config).compared[-1] == "not decrypted: there is no key here (identity_file)"
    assert look(config, tmp_path / "other").compared[-1] == "not decrypted: the key here does not fit"
    with pytest.raises(UsageError, match="is encrypted"):
        bring_back(config, tmp_path / "back", tmp_path / "other")
    assert bring_back(config, tmp_path / "back", tmp_path / "key").files == 1
    assert tree(below(tmp_path / "back", source)) == tree(source)


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["dump.000", "listing.000", "RESTORE.md"])
def test_a_flipped_byte_is_damage(config: RepositoryConfig, source: Path, scratch: Path, name: str) -> None:
    write(source, [b"a", b"b"])
    back_up(config, scratch, source)
    path = inside(config, name)
    flip(path, path.stat().st_size // 2)
    proof = look(config)
    assert (proof.result, proof.reason) == (Trust.DAMAGED, f"{name}: digest differs")


def raw(config: RepositoryConfig, name: str) -> bytes:
    return zstandard.ZstdDecompressor().decompressobj().decompress(inside(config, f"{name}.000").read_bytes())


CHANGES = {
    "other bytes": lambda tar, listing: (tar.replace(b"bytes of a", b"BYTES of a"), listing),
    "line missing": lambda tar, listing: (tar, b"".join(listing.splitlines(keepends=True)[:-1])),
    "line too many": lambda tar, listing: (tar, listing + listing.splitlines(keepends=True)[-1]),
    "no line": lambda tar, listing: (tar, b"nonsense\n" + listing),
    "tar cut": lambda tar, listing: (tar[:2048], listing),
    "no tar": lambda tar, listing: (b"x" * len(tar), listing),
    "empty": lambda _tar, listing: (b"", listing),
    "garbage between": lambda tar, listing: (tar[:1536] + b"y" * 512 + tar[1536:], listing),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_tar_that_is_not_its_list_is_damaged(
    config: RepositoryConfig, source: Path, scratch: Path, tmp_path: Path, change: str
) -> None:
    (source / "a").write_bytes(b"bytes of a")
    (source / "b").write_bytes(b"bytes of b")
    back_up(config, scratch, source)
    tar, listing = CHANGES[change](raw(config, "dump"), raw(config, "listing"))
    swap(config, "dump", tar)
    swap(config, "listing", listing)
    proof = look(config)
    assert proof.result is Trust.DAMAGED, proof
    with pytest.raises(Damaged, match=r"is damaged: .* files were restored before"):
        bring_back(config, tmp_path / "back")
    for path in (tmp_path / "back").rglob("*"):
        assert not path.is_file() or path.read_bytes() == f"bytes of {path.name}".encode()


@pytest.mark.parametrize("what", ["file", "full"])
def test_only_into_an_empty_folder(
    config: RepositoryConfig, source: Path, scratch: Path, tmp_path: Path, what: str
) -> None:
    write(source, [b"a"])
    back_up(config, scratch, source)
    target = tmp_path / "target"
    if what == "file":
        target.write_text("mine")
    else:
        write(target, [b"mine"])
    before = tree(tmp_path)
    with pytest.raises(UsageError, match=r"not empty|cannot be restored into"):
        bring_back(config, target)
    assert tree(tmp_path) == before


def test_a_database_is_not_restored_into_a_folder(config: RepositoryConfig, tmp_path: Path) -> None:
    from support.backups import store

    store(open_repository(config))
    with pytest.raises(UsageError, match="is a backup of a database"):
        bring_back(config, tmp_path / "back")


def test_pinned_pruned_and_swept_like_others(config: RepositoryConfig, source: Path, scratch: Path) -> None:
    from maint.backups import prune

    write(source, [b"a"])
    back_up(config, scratch, source)
    store = open_repository(config)
    records.pin(store, newest(config).place, "why", at=newest(config).created_at)
    assert newest(config).pinned == "why"
    records.unpin(store, newest(config).place)
    prune.remove(store, newest(config))
    assert not list(store.list())


def test_stopped_leaves_nothing(config: RepositoryConfig, source: Path, scratch: Path) -> None:
    from maint.errors import Stopped

    (source / "large").write_bytes(os.urandom(8 << 20))
    with pytest.raises(Stopped):
        back_up(config, scratch, source, progress=_raise)
    assert not inventory.load([open_repository(config)]).remnants
    assert not list(open_repository(config).list())


def _raise(*_args: Any, **_numbers: Any) -> None:
    stop = Stop()
    stop.set()
    stop.check()
