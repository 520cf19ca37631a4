"""Tars that somebody else made, fed to the restore: nothing gets out of the folder, and all else comes back."""

import io
import os
import stat
import tarfile
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from support.trees import back_up, bring_back, swap, write

from maint.backups.files.member import Member
from maint.config.model import RepositoryConfig
from maint.errors import Damaged
from maint.restore.files import Restored

Entries = list[tuple[str, bytes, bytes | str]]


@pytest.fixture
def feed(tmp_path: Path) -> Callable[..., Restored]:
    """Restore a tar of these entries (name, type, bytes or target) into tmp_path/jail/target."""
    config = RepositoryConfig(name="local", url=f"file://{tmp_path / 'repository'}")
    write(tmp_path / "source", [b"a"])
    back_up(config, tmp_path / "scratch", tmp_path / "source")
    (tmp_path / "jail").mkdir()

    def restore(entries: Entries, *, mode: int = 0o644, **options: bool) -> Restored:
        packed, lines = io.BytesIO(), b""
        with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for name, type_, content in entries:
                info, data = tarfile.TarInfo(name), content if isinstance(content, bytes) else b""
                info.type, info.size, info.mode = type_, len(data), mode
                info.linkname = content if isinstance(content, str) else ""
                tar.addfile(info, io.BytesIO(data))
                digest = sha256(data).hexdigest() if type_ == tarfile.REGTYPE else None
                lines += replace(Member.of(info), path=name.rstrip("/"), sha256=digest).to_line()
        swap(config, "dump", packed.getvalue())
        swap(config, "listing", lines)
        return bring_back(config, tmp_path / "jail" / "target", **options)

    return restore


def names(tmp_path: Path) -> set[str]:
    """Return everything that came into the jail."""
    return {str(path.relative_to(tmp_path / "jail")) for path in (tmp_path / "jail").rglob("*")}


REG, DIR, SYM, LNK = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE


@pytest.mark.parametrize(
    "entry",
    [
        ("../escaped", REG, b"x"),
        ("a/../../escaped", REG, b"x"),
        ("a/./b", REG, b"x"),
        ("/absolute/escaped", REG, b"x"),
        ("a//b", REG, b"x"),
        ("..", DIR, b""),
        ("../folder", DIR, b""),
        ("../link", SYM, "target"),
        ("pipe", tarfile.FIFOTYPE, b""),
        ("device", tarfile.CHRTYPE, b""),
        ("disk", tarfile.BLKTYPE, b""),
        ("hard", LNK, "/etc/passwd"),
        ("hard", LNK, "good"),
        ("x" * 256, REG, b"x"),
        ("out", SYM, "/etc"),
        ("out", SYM, ".."),
        ("out", SYM, "../.."),
        ("d/out", SYM, "../../x"),
        ("out", SYM, "good/../.."),
        ("out", SYM, "./good/.."),
        ("good", REG, b"again"),
        ("good/below", REG, b"x"),
        ("good", SYM, "elsewhere"),
        ("good", DIR, b""),
    ],
    ids=lambda entry: f"{entry[0][:20]}-{entry[1].decode()}-{entry[2][:20]!r}",
)  # fmt: skip
def test_refused_and_named(feed: Callable[..., Restored], tmp_path: Path, entry: tuple[str, bytes, str]) -> None:
    back = feed([("good", REG, b"good"), entry, ("after", REG, b"after")])
    assert [left.path for left in back.skipped] == [entry[0]]
    assert (back.exit_code, back.files, back.skipped_count) == (3, 2, 1)
    extra = names(tmp_path) - {"target", "target/good", "target/after"}
    assert extra <= {"target/a", "target/d"}  # a folder on the way to it
    assert (tmp_path / "jail" / "target" / "good").read_bytes() == b"good"
    assert not Path("/absolute").exists()


@pytest.mark.parametrize(
    ("link", "through"),
    [
        (("link", SYM, "/tmp"), "link/escaped-by-maint"),
        (("link", SYM, ".."), "link/escaped"),
        (("d/up", SYM, ".."), "d/up/escaped"),
        (("d/up", SYM, ".."), "d/up/more/escaped"),
        (("link", SYM, "d"), "link/inside"),
    ],
)
@pytest.mark.parametrize("outside_links", [False, True])
def test_nothing_is_written_through_a_link(
    feed: Callable[..., Restored], tmp_path: Path, link: tuple[str, bytes, str], through: str, outside_links: bool
) -> None:
    feed([("d", DIR, b""), link, (through, REG, b"x"), ("after", REG, b"after")], outside_links=outside_links)
    assert not Path("/tmp/escaped-by-maint").exists()
    assert names(tmp_path) <= {
        "target",
        "target/d",
        "target/after",
        link[0].join(["target/", ""]),
        f"target/{through}",
        "target/link",
    }
    assert not (tmp_path / "jail" / "escaped").exists()
    assert not (tmp_path / "jail" / "target" / "escaped").exists()
    assert not (tmp_path / "jail" / "target" / "d" / "inside").exists()


def test_a_chain_of_links_does_not_lead_out(feed: Callable[..., Restored], tmp_path: Path) -> None:
    back = feed([("d/up", SYM, ".."), ("out", SYM, "d/up/.."), ("in", SYM, "d/up/d")])
    assert [(left.path, left.why) for left in back.skipped] == [("out", "a link out of the folder, to d/up/..")]
    assert (tmp_path / "jail" / "target" / "in").resolve() == tmp_path / "jail" / "target" / "d"


def test_links_that_lead_out_if_asked_for(feed: Callable[..., Restored], tmp_path: Path) -> None:
    back = feed([("out", SYM, "/etc/hostname"), ("up", SYM, "../..")], outside_links=True)
    assert (back.links, back.skipped) == (2, ())
    assert (tmp_path / "jail" / "target" / "out").readlink() == Path("/etc/hostname")


def test_set_user_id_is_left_out(feed: Callable[..., Restored], tmp_path: Path) -> None:
    back = feed([("shell", REG, b"x"), ("folder", DIR, b"")], mode=0o6755)
    assert stat.S_IMODE((tmp_path / "jail" / "target" / "shell").stat().st_mode) == 0o755
    assert [left.path for left in back.skipped] == ["shell"]
    assert stat.S_IMODE((tmp_path / "jail" / "target" / "folder").stat().st_mode) == 0o2755


def test_a_path_longer_than_any_system_call_takes(feed: Callable[..., Restored], tmp_path: Path) -> None:
    name = "/".join(["d" * 200] * 40)
    back = feed([(name, REG, b"deep")])
    assert (back.files, back.skipped) == (1, ())
    at = os.open(tmp_path / "jail" / "target", os.O_RDONLY)
    for part in name.split("/")[:-1]:
        below = os.open(part, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    assert os.stat("d" * 200, dir_fd=at).st_size == 4
    os.close(at)


@pytest.mark.parametrize("size", [1 << 40, (1 << 20) + 1])
def test_a_header_that_fills_the_memory(feed: Callable[..., Restored], tmp_path: Path, size: int) -> None:
    config = RepositoryConfig(name="local", url=f"file://{tmp_path / 'repository'}")
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, size
    swap(config, "dump", info.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 16))
    with pytest.raises(Damaged, match=f"a header of {size} bytes"):
        bring_back(config, tmp_path / "jail" / "target")


def test_a_list_line_that_fills_the_memory(feed: Callable[..., Restored], tmp_path: Path) -> None:
    config = RepositoryConfig(name="local", url=f"file://{tmp_path / 'repository'}")
    swap(config, "listing", b"{" + b" " * (64 << 20))
    with pytest.raises(Damaged, match="a line that says nothing"):
        bring_back(config, tmp_path / "jail" / "target")
