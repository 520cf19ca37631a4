"""Finds and reads ``maint.toml`` and the job files, and tells everything that is wrong with them at once."""

import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr

from maint import shipped
from maint.config.interpolate import Interpolation
from maint.config.model import Config, Job, MaintToml, Table
from maint.config.problems import Problems, suggestion, validate
from maint.config.values import dsn_secrets, is_pattern
from maint.errors import ConfigError, UsageError

NAME = "maint.toml"
_INIT = "maint init looks around and writes one"


def find(explicit: Path | None) -> Path | None:
    """Return the maint.toml to use; None if there is none. A named one may be missing: `load` tells."""
    if named := explicit or os.environ.get("MAINT_CONFIG"):
        return Path(named)
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    places = (Path(NAME), home / "maint" / NAME, Path("/etc/maint") / NAME)
    # a file in the present folder is used only if nobody else can have written it: it names programs to run
    return next((p.absolute() for p in places if p.is_file() and (p != Path(NAME) or _is_ours(p))), None)


def _is_ours(path: Path) -> bool:
    status = path.stat()
    return status.st_uid in (os.geteuid(), 0) and not status.st_mode & 0o022


def load(path: Path | None, *, options: Mapping[str, type[BaseModel]]) -> Config:
    """Return the whole configuration. `options`: task -> the model of its options.

    Raises `ConfigError` with every problem of every file, `UsageError` if there is no such file.
    """
    if path is None or not path.is_file():
        raise UsageError(_missing(path), hint=_INIT)
    return _Loader(path, options).load()


def _missing(path: Path | None) -> str:
    if path is not None:
        return f"there is no configuration {path}" if not path.exists() else f"{path} is not a file"
    if Path(NAME).is_file():
        return f"./{NAME} is not used: others own it or can write it (chmod go-w {NAME}, or use --config)"
    return "no configuration found"


def state_dir() -> Path:
    """Return where maint keeps what it knows, unless the configuration says otherwise."""
    if given := os.environ.get("STATE_DIRECTORY"):  # set by systemd; several are separated by colons
        return Path(given.partition(":")[0])
    if os.geteuid() == 0:
        return Path("/var/lib/maint")
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "maint"


class _Loader:
    """Reads one configuration; used once."""

    def __init__(self, path: Path, options: Mapping[str, type[BaseModel]]) -> None:
        self.path = path
        self.options = options
        self.problems = Problems()
        self.origins: dict[str, str] = {}
        self.secrets: list[str] = []
        #: of what may be named elsewhere; None where a file that cannot be read would say it
        self.names: dict[str, list[str] | None] = {"server": None, "repository": None, "job": None}

    def load(self) -> Config:
        toml = self._toml()
        jobs = self._jobs(toml.timezone)
        self._check_references(toml, jobs)
        if lines := self.problems.lines():
            raise ConfigError(lines)
        return Config(
            **dict(toml) | {"state_dir": toml.state_dir or state_dir()},
            jobs=jobs,
            path=self.path,
            origins=self.origins,
            secrets=tuple(dict.fromkeys([*self.secrets, *_secrets_of(toml)])),
        )

    # -- files --

    def _read(self, file: Path) -> dict[str, Any]:
        """Return a file's contents with every reference replaced; empty after a problem."""
        try:
            raw = tomllib.loads(file.read_text(encoding="utf-8"))
        except OSError as error:
            self.problems.add(file, "", f"cannot be read: {error.strerror} (may this user read it?)")
            return {}
        except UnicodeDecodeError as error:
            self.problems.add(file, "", f"not UTF-8 at byte {error.start}")
            return {}
        except tomllib.TOMLDecodeError as error:
            self.problems.add(file, "", f"not TOML: {error}")
            return {}
        interpolation = Interpolation(lambda key, what: self.problems.add(file, key, what))
        values: dict[str, Any] = interpolation.apply(raw)
        self.secrets += interpolation.secrets
        return values

    def _toml(self) -> MaintToml:
        raw = self._read(self.path)
        if not self.problems.about(self.path):
            self.names |= {kind: self._name_tables(raw, kind) for kind in ("server", "repository")}
        self._note_origins(raw, "", str(self.path))
        toml, problems = validate(MaintToml, raw)
        for key, what in problems:
            self.problems.add(self.path, key, what)
        return toml or MaintToml()

    def _name_tables(self, raw: dict[str, Any], kind: str) -> list[str]:
        """Put the name of each table ``[kind.NAME]`` into it; return the names."""
        tables = raw.get(kind, {})
        named = {n: t for n, t in tables.items() if isinstance(t, dict)} if isinstance(tables, dict) else {}
        for name, table in named.items():
            if "name" in table:
                self.problems.add(
                    self.path, f"{kind}.{name}.name", f"unknown key: its name is {name} already"
                )
            table["name"] = name
        return list(named)

    def _note_origins(self, raw: Mapping[str, Any], prefix: str, origin: str) -> None:
        for key, value in raw.items():
            self.origins[f"{prefix}{key}"] = origin
            if isinstance(value, dict):
                self._note_origins(value, f"{prefix}{key}.", origin)

    # -- jobs --

    def _jobs(self, zone: str) -> dict[str, Job]:
        ours = _job_files(shipped.folder("jobs"))
        theirs = _job_files(self.path.parent / "jobs")
        self.names["job"] = [*{**ours, **theirs}]
        jobs = {name: self._job(name, ours.get(name), theirs.get(name), zone) for name in {**ours, **theirs}}
        return {name: job for name, job in jobs.items() if job}

    def _job(self, name: str, ours: Path | None, theirs: Path | None, zone: str) -> Job | None:
        base = self._read(ours) if ours else {}
        own = self._read(theirs) if theirs else {}
        raw = _overridden(base, own)
        files = _files(raw, ours, own, theirs)
        prefix = f"jobs.{name}."
        for key, file in files.items():
            self.origins[prefix + key] = "shipped" if file == ours else str(file)
        if not raw:
            return None
        if "timezone" not in raw and "timezone" in self.origins:
            self.origins[f"{prefix}timezone"] = self.origins["timezone"]
        job, problems = validate(Job, {"timezone": zone, **_without(raw, "options"), "name": name})
        if "name" in raw:
            problems.append(("name", f"unknown key: its name is {name} already (the file's)"))
        options, more = self._options(raw)
        main = theirs or ours
        for key, what in (*problems, *more):
            self.problems.add(_file_of(key, files, main), key, what)
        return job.model_copy(update={"options": options}) if job and options else None

    def _options(self, raw: Mapping[str, Any]) -> tuple[BaseModel | None, list[tuple[str, str]]]:
        """Validate the options of a job with the model of its task."""
        task = raw.get("task")
        if not isinstance(task, str):
            return Table(), []  # told already
        if task not in self.options:
            return None, [("task", f"there is no task {task!r}{suggestion(task, self.options)}")]
        given = raw.get("options", {})
        if not isinstance(given, dict):
            return None, [("options", "must be a table: [options]")]
        options, problems = validate(self.options[task], given)
        return options, [(f"options.{key}".rstrip("."), what) for key, what in problems]

    # -- references between files --

    def _check_references(self, toml: MaintToml, jobs: Mapping[str, Job]) -> None:
        for index, channel in enumerate(toml.alerts.channel):
            place = f"alerts.channel[{index}]"
            self._check_names(self.path, f"{place}.servers", channel.servers, "server")
            self._check_names(self.path, f"{place}.jobs", channel.jobs, "job")
        for name, job in jobs.items():
            self._check_job(name, job, jobs)

    def _check_job(self, name: str, job: Job, jobs: Mapping[str, Job]) -> None:
        self._check_names(self._origin(name, "servers"), "servers", job.servers, "server")
        repositories = getattr(job.options, "repositories", ())
        file = self._origin(name, "options.repositories")
        self._check_names(file, "options.repositories", repositories, "repository")
        if job.after is not None:
            self._check_names(self._origin(name, "after"), "after", [job.after], "job")
            if cycle := _cycle(name, jobs):
                self.problems.add(
                    self._origin(name, "after"), "after", f"goes in a circle: {' -> '.join(cycle)}"
                )

    def _check_names(self, file: object, key: str, given: Iterable[str], kind: str) -> None:
        known = self.names[kind]
        for name in given if known is not None else ():
            if not is_pattern(name) and name not in known:
                self.problems.add(file, key, f"there is no {kind} {name!r}{suggestion(name, known)}")

    def _origin(self, job: str, key: str) -> str:
        return self.origins.get(f"jobs.{job}.{key}", str(self.path))


def _job_files(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in sorted(folder.glob("*.toml")) if not path.name.startswith(".")}


def _overridden(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return a shipped job with the operator's keys put over it, and those inside [options]."""
    kept = dict(base)
    if {"schedule", "after"} & set(own):  # they exclude each other
        kept = _without(kept, "schedule", "after")
    if own.get("task", base.get("task")) != base.get("task"):  # another task has other options
        kept = _without(kept, "options")
    merged = {**kept, **own}
    if isinstance(kept.get("options"), dict) and isinstance(own.get("options"), dict):
        merged["options"] = {**kept["options"], **own["options"]}
    return merged


def _files(
    raw: Mapping[str, Any], ours: Path | None, own: Mapping[str, Any], theirs: Path | None
) -> dict[str, Path]:
    """Return which file each effective key comes from, those of the options as "options.KEY"."""
    files = {key: theirs if key in own else ours for key in raw}
    if isinstance(raw.get("options"), dict):
        mine = own.get("options")
        for key in raw["options"]:
            files[f"options.{key}"] = theirs if isinstance(mine, dict) and key in mine else ours
    return {key: file for key, file in files.items() if file}


def _file_of(key: str, files: Mapping[str, Path], otherwise: Path | None) -> Path | None:
    """Return the file in which the value of `key` ("options.keep.daily") was set."""
    fitting = [known for known in files if key == known or key.startswith((f"{known}.", f"{known}["))]
    return files[max(fitting, key=len)] if fitting else otherwise


def _without(table: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in table.items() if key not in keys}


def _cycle(name: str, jobs: Mapping[str, Job]) -> list[str]:
    """Return the chain of `after` from `name` back to it; empty if it ends."""
    chain = [name]
    while (job := jobs.get(chain[-1])) is not None and job.after is not None:
        if job.after in chain:
            return [*chain, job.after] if job.after == name else []
        chain.append(job.after)
    return []


def _secrets_of(toml: MaintToml) -> Iterator[str]:
    for server in toml.server.values():
        yield from dsn_secrets(server.dsn.get_secret_value())
    tables: list[BaseModel] = [toml.history, *toml.repository.values(), *toml.alerts.channel]
    for table in tables:
        yield from (
            v.get_secret_value() for _, v in table if isinstance(v, SecretStr) and v.get_secret_value()
        )
