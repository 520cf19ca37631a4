"""What is distributed works: source distribution, wheel made of it, installed where nothing else of maint is."""

import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def call(*argv: str | Path, **options: object) -> str:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "MAINT"))}
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=env, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stdout + done.stderr
    return str(done.stdout)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that is built from the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    call(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT)
    return folder


@pytest.fixture(scope="module")
def venv(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel; the dependencies are those of this one, not downloaded again."""
    folder = tmp_path_factory.mktemp("installed") / "venv"
    call(sys.executable, "-m", "venv", "--without-pip", folder)
    python = folder / "bin" / "python"
    (wheel,) = built.glob("*.whl")
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--disable-pip-version-check")
    call(*pip, "--no-deps", "--no-index", wheel)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return folder


def names(folder: str, pattern: str) -> set[str]:
    return {path.name for path in (ROOT / folder).rglob(pattern)}


def test_every_shipped_job_is_found(venv: Path, tmp_path: Path) -> None:
    (tmp_path / "maint.toml").write_text(
        '[server.main]\ndsn = "host=/nowhere"\n[repository.local]\nurl = "file:///nowhere"\n'
    )
    (tmp_path / "maint.toml").chmod(0o600)
    options = {"cwd": tmp_path}
    answer = call("env", f"STATE_DIRECTORY={tmp_path}", venv / "bin" / "maint", "jobs", "--json", **options)
    found = {job["name"] for job in json.loads(answer)}
    assert found == {name.removesuffix(".toml") for name in names("jobs", "*.toml")}
    assert found


def test_every_statement_and_unit_is_there(venv: Path, tmp_path: Path) -> None:
    script = """
import maint.shipped as shipped
print(shipped.folder("sql").parent)
for name in ("sql", "systemd"):
    print(*(path.name for path in shipped.folder(name).rglob("*") if path.is_file()))
"""
    parent, *found = call(venv / "bin" / "python", "-c", script, cwd=tmp_path).split()
    assert Path(parent).is_relative_to(venv)
    assert set(found) == names("sql", "*.sql") | names("systemd", "*")


def test_nothing_else_is_distributed(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as tar:
        tops = {name.split("/")[1] for name in tar.getnames() if "/" in name}
    assert tops <= {
        *("maint", "jobs", "sql", "systemd", "tests"),
        *("README.md", "pyproject.toml", "PKG-INFO", ".gitignore"),
    }
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as contents:
        tops = {name.split("/")[0] for name in contents.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"maint"}
