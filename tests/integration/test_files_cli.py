"""The job ``files`` and the commands about backups: as a user meets them."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from support.maint import Maint
from support.trees import write


@pytest.fixture
def maint(configured: Callable[..., Maint], tmp_path: Path) -> Maint:
    """A maint whose job files backs up tmp_path/source."""
    one = configured()
    write(tmp_path / "source", [b"a", b"b/c"])
    one.write(f'installation = "test"\n[repository.local]\nurl = "file://{one.repository}"\n')
    job(one, tmp_path)
    return one


def job(maint: Maint, tmp_path: Path, **options: str) -> None:
    given = {"paths": f'["{tmp_path / "source"}"]', "keep": "{ last = 1 }"} | options
    lines = "\n".join(f"{key} = {value}" for key, value in given.items())
    maint.job("files", f"enabled = true\nretries = 0\n[options]\n{lines}\n")


def run(maint: Maint, code: int = 0) -> str:
    """Run the job; return the id of its backup."""
    answer = maint("run", "files", "--json")
    assert answer.code == code, answer
    (said,) = answer.json_lines
    return str(said["backups"][0])


def test_it_is_off_until_switched_on(configured: Callable[..., Maint]) -> None:
    one = configured()
    one.write(f'[repository.local]\nurl = "file://{one.repository}"\n')
    assert "off: files (files); to switch it on: enabled = true" in one("jobs").out
    assert "files (files)" not in "".join(line for line in one("jobs").out.splitlines() if "off:" not in line)


def test_it_needs_paths(maint: Maint) -> None:
    maint.job("files", "enabled = true\n[options]\npaths = []\n")
    assert maint("run", "files").code == 2
    maint.job("files", 'enabled = true\n[options]\npaths = ["relative"]\n')
    assert "not an absolute path" in maint("run", "files").err


def test_a_run_is_checked_and_prunes(maint: Maint) -> None:
    first = run(maint)
    (row,) = maint.json("backups")
    assert (row["id"], row["kind"], row["server"], row["database"]) == (first, "files", "-", "files")
    assert (row["trust"], row["files"], row["tables"], row["rows"]) == ("checked", 2, None, None)
    second = run(maint)
    assert [row["id"] for row in maint.json("backups")] == [second]
    shown = maint.json("backups", "show", "files")["manifest"]
    assert (shown["kind"], shown["format"], shown["tree"]["files"]) == ("files", "tar", 2)
    page = maint("backups", "show", second[:-2]).out
    assert "2 files (4 B" in page or "2 files (4 bytes)" in page
    assert "on -" not in page


def test_dry_run_says_what_a_run_does(maint: Maint) -> None:
    run(maint)
    said = maint("run", "files", "--dry-run").out
    run(maint)
    for verb in ("clear", "backup", "check", "delete"):
        assert f"\n{verb} " in f"\n{said}", said


def test_pinned_and_pruned_by_hand(maint: Maint, tmp_path: Path) -> None:
    job(maint, tmp_path, keep="{ last = 5 }")
    first, second = run(maint), run(maint)
    assert maint("backups", "pin", first, "--reason", "before 4.2").code == 0
    job(maint, tmp_path, keep="{ last = 1 }")
    kept = {row["id"]: row["decision"] for row in maint.json("backups", "prune")}
    assert kept == {first: "keep", second: "keep"}
    assert maint("backups", "unpin", first).code == 0
    assert maint("backups", "prune", "--confirm").code == 0
    assert [row["id"] for row in maint.json("backups")] == [second]


def test_check_finds_a_flipped_byte(maint: Maint) -> None:
    run(maint)
    assert maint("backups", "check", "files").code == 0
    (dump,) = maint.repository.rglob("dump.000")
    data = bytearray(dump.read_bytes())
    data[len(data) // 2] ^= 1
    dump.write_bytes(data)
    assert maint("backups", "check", "--", "-/files").code == 1
    assert [row["trust"] for row in maint.json("backups")] == ["damaged"]


def test_without_verify_it_is_only_stored(maint: Maint, tmp_path: Path) -> None:
    job(maint, tmp_path, verify="false")
    run(maint)
    assert [row["trust"] for row in maint.json("backups")] == ["stored"]


def test_a_required_repository_that_fails_fails_the_run(maint: Maint, tmp_path: Path) -> None:
    (tmp_path / "blocked").write_text("a file")
    maint.add(f'[repository.second]\nurl = "file://{tmp_path / "blocked" / "in"}"\n')
    answer = maint("run", "files", "--json")
    assert answer.code == 1
    (said,) = answer.json_lines
    assert len(said["backups"]) == 1
    assert {row["repository"] for row in maint("backups", "--json").json} == {"local"}


def test_nothing_there_fails_and_tells_what_is_still_good(maint: Maint, tmp_path: Path) -> None:
    first = run(maint)
    (tmp_path / "source").rename(tmp_path / "elsewhere")
    answer = maint("run", "files")
    assert answer.code == 1
    assert f"There is a good backup of files: {first}" in answer.out + answer.err
    assert [row["id"] for row in maint.json("backups")] == [first]


def test_its_own_repository_is_left_out(maint: Maint, tmp_path: Path) -> None:
    job(maint, tmp_path, paths=f'["{tmp_path}"]', exclude='["output", "state"]')
    names = []
    for _ in range(2):
        run(maint)
        listing = next(maint.repository.rglob("listing.000")).read_bytes()
        names.append(zstandard.ZstdDecompressor().decompressobj().decompress(listing))
    assert b"source/a" in names[1]
    assert str(maint.repository).lstrip("/").encode() not in names[1]


def test_doctor_looks_at_the_paths(maint: Maint, tmp_path: Path) -> None:
    job(maint, tmp_path, paths=f'["{tmp_path / "source"}", "{tmp_path / "nowhere"}"]')
    said = maint("doctor").out
    assert f"{tmp_path / 'source'} can be read" in said
    assert f"{tmp_path / 'nowhere'} is not there" in said


def test_names_that_are_no_text_are_told(maint: Maint, tmp_path: Path) -> None:
    os.mkfifo(os.fsencode(tmp_path / "source") + b"/\xff\n\x1b[31mpipe")
    run(maint)
    shown = maint.json("show", "1")
    (finding,) = shown["findings"]
    assert finding["examples"] == [f"{tmp_path}/source/\\udcff\n\x1b[31mpipe: a pipe"]
    assert "\x1b" not in maint("show", "1").out
