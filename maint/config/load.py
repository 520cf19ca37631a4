"""Finds and reads ``maint.toml`` and the job files, and tells everything that is wrong with them at once."""

import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr

from maint import shipped
from maint.config.interpolate import Interpolation
from maint.config.model import Config, Job, MaintToml, Table
from maint.config.problems import Problems, suggestion, validate
from maint.config.values import dsn_secrets, is_pattern
from maint.errors import ConfigError, UsageError
from maint.log import names_secret

NAME = "maint.toml"
_INIT = "maint init looks around and writes one"


def find(explicit: Path | None) -> Path | None:
    """Return the maint.toml to use; None if there is none. A named one may be missing: `load` tells."""
    if named := explicit or os.environ.get("MAINT_CONFIG"):
        return Path(named)
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    places = (Path(NAME), home / "maint" / NAME, Path("/etc/maint") / NAME)
    # a file in the present folder is used only if nobody else can have written it: it names programs to run
    return next((p.absolute() for p in places if _is_there(p) and (p != Path(NAME) or _is_ours(p))), None)


def _is_there(path: Path) -> bool:
    """Tell whether there is such a file, also where this user may not look."""
    try:
        return path.is_file()
    except PermissionError:
        return True


def _is_ours(path: Path) -> bool:
    status = path.stat()
    return status.st_uid in (os.geteuid(), 0) and not status.st_mode & 0o022


def load(path: Path | None, *, options: Mapping[str, type[BaseModel]]) -> Config:
    """Return the whole configuration. `options`: task -> the model of its options.

    Raises `ConfigError` with every problem of every file, `UsageError` if there is no such file.
    """
    if path is None:
        ignored = f"./{NAME} is not used: others own it or can write it" if Path(NAME).is_file() else None
        raise UsageError(ignored or "no configuration found", hint=f"{_INIT}; --config names one")
    if not _is_there(path):
        raise UsageError(f"there is no configuration {path}", hint=_INIT)
    return _Loader(path, options).load()


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
        #: what was read, of maint.toml and of each job
        self.raw: dict[str, Any] = {}
        self.raw_jobs: dict[str, dict[str, Any]] = {}
        #: of what may be named elsewhere; None where a file that cannot be read would say it
        self.names: dict[str, list[str] | None] = {"server": None, "repository": None, "job": None}

    def load(self) -> Config:
        toml = self._toml()
        jobs = self._jobs(toml.timezone)
        self._check_references()
        if lines := self.problems.lines():
            raise ConfigError(lines)
        return Config.model_construct(  # of parts that are validated
            **dict(toml) | {"state_dir": toml.state_dir or state_dir().absolute()},
            jobs=jobs,
            path=self.path,
            origins=self.origins,
            secrets=tuple(dict.fromkeys([*self.secrets, *_secrets_of(toml, jobs)])),
        )

    # -- files --

    def _read(self, file: Path) -> dict[str, Any]:
        """Return a file's contents with every reference replaced; empty after a problem."""
        try:
            raw = tomllib.loads(file.read_text(encoding="utf-8"))
        except OSError as error:
            self.problems.add(file, "", f"cannot be read: {error.strerror} (as the service: sudo -u maint maint …)")
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
        raw = self.raw = self._read(self.path)
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
                self.problems.add(self.path, f"{kind}.{name}.name", f"unknown key: its name is {name} already")
            table["name"] = name
        return list(named)

    def _note_origins(self, raw: Mapping[str, Any], prefix: str, origin: str) -> None:
        for key, value in raw.items():
            self.origins[f"{prefix}{key}"] = origin
            if isinstance(value, dict):
                self._note_origins(value, f"{prefix}{key}.", origin)

    # -- jobs --

    def _jobs(self, zone: str) -> dict[str, Job]:
        ours = self._job_files(shipped.folder("jobs"))
        theirs = self._job_files(self.path.parent / "jobs")
        self.names["job"] = [*{**ours, **theirs}]
        jobs = {name: self._job(name, ours.get(name), theirs.get(name), zone) for name in {**ours, **theirs}}
        return {name: job for name, job in jobs.items() if job}

    def _job_files(self, folder: Path) -> dict[str, Path]:
        try:
            files = sorted(folder.iterdir())
        except FileNotFoundError:
            return {}
        except OSError as error:
            self.problems.add(folder, "", f"cannot be read: {error.strerror}")
            return {}
        return {path.stem: path for path in files if path.suffix == ".toml" and path.name[0] != "."}

    def _job(self, name: str, ours: Path | None, theirs: Path | None, zone: str) -> Job | None:
        base = self._read(ours) if ours else {}
        own = self._read(theirs) if theirs else {}
        raw = self.raw_jobs[name] = _overridden(base, own)
        files = _files(raw, ours, own, theirs)
        prefix = f"jobs.{name}."
        for key, file in files.items():
            self.origins[prefix + key] = "shipped" if file == ours else str(file)
        if any(self.problems.about(file) for file in (ours, theirs)):
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

    # -- references between files: read from what is written, so that other errors hide none --

    def _check_references(self) -> None:
        for index, channel in enumerate(_tables(_table(self.raw, "alerts").get("channel"))):
            for kind in ("server", "job"):
                self._check_names(self.path, f"alerts.channel[{index}].{kind}s", channel.get(f"{kind}s"), kind)
        for name, job in self.raw_jobs.items():
            origin = self._origin
            self._check_names(origin(name, "servers"), "servers", job.get("servers"), "server")
            repositories = _table(job, "options").get("repositories")
            file = origin(name, "options.repositories")
            self._check_names(file, "options.repositories", repositories, "repository")
            self._check_names(origin(name, "after"), "after", [job.get("after")], "job")
            if cycle := _cycle(name, self.raw_jobs):
                self.problems.add(origin(name, "after"), "after", f"goes in a circle: {' -> '.join(cycle)}")

    def _check_names(self, file: object, key: str, given: Any, kind: str) -> None:
        known = self.names[kind]
        if known is None or not isinstance(given, list):
            return
        for name in given:
            if isinstance(name, str) and not is_pattern(name) and name not in known:
                self.problems.add(file, key, f"there is no {kind} {name!r}{suggestion(name, known)}")

    def _origin(self, job: str, key: str) -> str:
        """Return the file in which `key` of a job is set, one that an operator can mend if possible."""
        origin = self.origins.get(f"jobs.{job}.{key}", str(self.path))
        return str(shipped.folder("jobs") / f"{job}.toml") if origin == "shipped" else origin


def _table(table: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = table.get(key)
    return value if isinstance(value, dict) else {}


def _tables(value: Any) -> list[dict[str, Any]]:
    return [item if isinstance(item, dict) else {} for item in value] if isinstance(value, list) else []


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


def _files(raw: Mapping[str, Any], ours: Path | None, own: Mapping[str, Any], theirs: Path | None) -> dict[str, Path]:
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


def _cycle(name: str, jobs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the chain of `after` from `name` back to it; empty if it ends, or circles elsewhere."""
    chain = [name]
    while isinstance(after := jobs.get(chain[-1], {}).get("after"), str):
        if after in chain:
            return [*chain, after] if after == name else []
        chain.append(after)
    return []


def _secrets_of(toml: MaintToml, jobs: Mapping[str, Job]) -> Iterator[str]:
    for server in toml.server.values():
        yield from dsn_secrets(server.dsn.get_secret_value())
    tables: list[BaseModel] = [toml.history, *toml.repository.values(), *toml.alerts.channel]
    tables += [job.options for job in jobs.values()]
    for table in tables:
        for _, value in table:
            # of a table of any names, an environment, only those are secret that are called so: not MODE = "nightly"
            named = [v for k, v in value.items() if names_secret(str(k))] if isinstance(value, Mapping) else [value]
            yield from (v.get_secret_value() for v in named if isinstance(v, SecretStr) and v.get_secret_value())
