"""Verification in tests: what a run of it says, and faults planted between the restore and the comparison."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from maint.postgres import SQL
from support import wait_until
from support.maint import Answer, Maint


def verify_job(maint: Maint, options: str = "", **keys: Any) -> None:
    """Write jobs/verify.toml: no retries unless asked for, other `keys`, and lines for its options."""
    lines = [f"{key} = {json.dumps(value)}" for key, value in {"retries": 0, **keys}.items()]
    maint.job("verify", "\n".join([*lines, "[options]", options]))


def verified(
    maint: Maint, *, first: Callable[[], None] = lambda: None, code: int | None = None
) -> list[dict[str, Any]]:
    """Run verify; return what it says of each backup. `first` is done in its process, `code` is the expected one."""
    answer, said = verify(maint, first=first)
    assert code is None or answer.code == code, answer
    found: list[dict[str, Any]] = said["verified"]
    return found


def verify(maint: Maint, *, first: Callable[[], None] = lambda: None) -> tuple[Answer, dict[str, Any]]:
    """Run verify; return the answer, and the JSON object it holds."""
    answer = maint.start("run", "verify", "--json", first=first).wait()
    assert answer.out, answer.err
    (said,) = answer.json_lines
    assert nothing_left(maint)
    return answer, said


def nothing_left(maint: Maint) -> bool:
    """Check that no server, folder or program of this maint's is left."""
    for folder in (bases(maint), maint.state / "scratch"):
        assert not folder.is_dir() or list(folder.iterdir()) == []
    return True


def bases(maint: Maint) -> Path:
    """Return the folder in which its throw-away servers are made."""
    return Path(maint.environment["TMPDIR"])


def before_comparing(*statements: str) -> Callable[[], None]:
    """Return a hook that changes the restored copy just before it is compared."""

    def hook() -> None:
        from maint.restore import compare

        inner = compare.compare

        def outer(connection: Any, *arguments: Any, **named: Any) -> Any:
            for statement in statements:
                connection.execute(SQL(statement))  # type: ignore[arg-type]
            return inner(connection, *arguments, **named)

        compare.compare = outer

    return hook


def edit_manifest(maint: Maint, change: Callable[[dict[str, Any]], object], repository: Path | None = None) -> None:
    """Change the only manifest of a repository."""
    (path,) = (repository or maint.repository).rglob("manifest.json")
    manifest = json.loads(path.read_bytes())
    change(manifest)
    path.chmod(0o600)
    path.write_text(json.dumps(manifest))


def server_processes(folder: Path) -> list[int]:
    """Return the pids of PostgreSQL servers whose data lies below `folder`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if str(folder) in (process / "cmdline").read_text() or str(process.joinpath("cwd").readlink()).startswith(
                str(folder)
            ):
                found.append(int(process.name))
        except OSError:
            continue
    return found


def no_server(folder: Path) -> bool:
    return wait_until(lambda: not server_processes(folder), "the end of the throw-away server") is True
