"""The effective configuration in the words of its files: each value, where it is from, and no secret."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic.json_schema import models_json_schema

from maint.config.model import S3_ONLY, Config, Job, MaintToml, RepositoryConfig, ServerConfig
from maint.config.values import format_duration, format_size, parse_size

_MASK = "***"


@dataclass(frozen=True, slots=True)
class Setting:
    """One effective value."""

    key: str  #: "server.main.dsn", "jobs.backup.options.keep"
    value: Any  #: as TOML or JSON would hold it, secrets masked
    origin: str  #: a file, "shipped" or "default"


def settings(config: Config) -> list[Setting]:
    """Return every value that is set, by the operator, a shipped file or a default."""
    found: list[Setting] = []
    for key in ("timezone", "installation", "state_dir"):
        found += _of_value(config, key, getattr(config, key), MaintToml.model_fields[key])
    for key in ("server", "repository"):
        for name, table in getattr(config, key).items():
            found += [s for s in _of_table(config, f"{key}.{name}", table) if not _is_idle(table, s)]
    for key in ("history", "objectives", "mail", "http", "alerts"):
        if (table := getattr(config, key)) is not None:
            found += _of_table(config, key, table)
    return found + [setting for job in config.jobs.values() for setting in job_settings(config, job)]


def _is_idle(table: BaseModel, setting: Setting) -> bool:
    """Tell whether this is a default that means nothing here: S3's in a directory."""
    is_directory = isinstance(table, RepositoryConfig) and table.url.startswith("file:")
    return is_directory and setting.key.rpartition(".")[2] in S3_ONLY


def job_settings(config: Config, job: Job) -> list[Setting]:
    """Return every value of a job that is set."""
    keys = _of_table(config, f"jobs.{job.name}", job)
    return [*keys, *_of_table(config, f"jobs.{job.name}.options", job.options)]


def _of_table(config: Config, prefix: str, table: BaseModel) -> Iterator[Setting]:
    for name, field in type(table).model_fields.items():
        if name in ("name", "options"):
            continue
        value = getattr(table, name)
        if isinstance(table, ServerConfig) and name == "dsn":
            value = table.shown_dsn
        yield from _of_value(config, f"{prefix}.{field.alias or name}", value, field)


def _of_value(config: Config, key: str, value: Any, field: FieldInfo) -> Iterator[Setting]:
    if value is not None:
        yield Setting(key, _without_secrets(plain(value, field), config.secrets), config.origin(key))


def plain(value: Any, field: FieldInfo | None = None) -> Any:
    """Return a value of the configuration as it would be written there."""
    if isinstance(value, SecretStr):
        return _MASK
    if isinstance(value, timedelta):
        return format_duration(value)
    if isinstance(value, BaseModel):
        items = ((f.alias or n, getattr(value, n), f) for n, f in type(value).model_fields.items())
        written = value.model_fields_set
        return {
            key: plain(item, f)
            for (key, item, f), n in zip(items, type(value).model_fields, strict=True)
            if n in written
        }
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if field is not None and _is_size(field):
        return format_size(value)
    return str(value) if isinstance(value, Path) else value


def _is_size(field: FieldInfo) -> bool:
    return any(getattr(item, "func", None) is parse_size for item in field.metadata)


def _without_secrets(value: Any, secrets: tuple[str, ...]) -> Any:
    """Mask what was interpolated, wherever it stands."""
    if isinstance(value, str):
        for secret in secrets:
            # a short one is masked only where it is all there is: "a" is in every word
            value = _MASK if value == secret else value.replace(secret, _MASK) if len(secret) > 3 else value
        return value
    if isinstance(value, list):
        return [_without_secrets(item, secrets) for item in value]
    if isinstance(value, dict):
        return {key: _without_secrets(item, secrets) for key, item in value.items()}
    return value


def toml(value: Any) -> str:
    """Write one plain value as TOML does, on one line."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(key)} = {toml(item)}" for key, item in value.items()) + " }" if value else "{}"
    if isinstance(value, list):
        return "[" + ", ".join(toml(item) for item in value) + "]"
    # a basic string of TOML is a string of JSON, except that DEL is escaped
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else toml(key)


def options_of(model: type[BaseModel]) -> Iterator[dict[str, Any]]:
    """Yield key, type, default and description of everything that may be written in a table."""
    for name, field in model.model_fields.items():
        default = field.get_default(call_default_factory=True) if not field.is_required() else None
        yield {
            "option": field.alias or name,
            "type": "size" if _is_size(field) else type_in_words(field.annotation),
            "required": field.is_required(),
            "default": plain(default, field) if default is not None else None,
            "description": field.description or "",
        }


_TYPES = {str: "text", int: "number", float: "number", bool: "true or false", timedelta: "duration", Path: "path"}


def type_in_words(annotation: Any) -> str:
    """Name a type as an operator would."""
    arguments = [a for a in get_args(annotation) if a not in (NoneType, ...)]
    if get_origin(annotation) is Literal:
        return " | ".join(json.dumps(choice) for choice in arguments)
    if get_origin(annotation) in (tuple, list):
        return f"list of {type_in_words(arguments[0])}s"
    if get_origin(annotation) in (dict, Mapping):
        return "table"
    if arguments:  # Annotated[x, …], x | None
        return type_in_words(arguments[0])
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "table { " + ", ".join(f.alias or name for name, f in annotation.model_fields.items()) + " }"
    return _TYPES.get(annotation, "text")


def schema_of_maint_toml() -> dict[str, Any]:
    """Return the JSON schema of maint.toml, for editors."""
    schema = MaintToml.model_json_schema()
    for table in ("ServerConfig", "RepositoryConfig"):
        _without_name(schema["$defs"][table])
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "maint.toml"}


def schema_of_jobs(options: Mapping[str, type[BaseModel]]) -> dict[str, Any]:
    """Return the JSON schema of a job file: its [options] depend on its task."""
    models: list[type[BaseModel]] = [Job, *options.values()]
    references, schema = models_json_schema([(model, "validation") for model in models])
    job = schema["$defs"]["Job"]
    _without_name(job)
    job["required"] = []  # a file that overrides a shipped job need not repeat the task
    job["properties"]["task"]["enum"] = list(options)
    job["properties"]["options"] = {"type": "object"}
    cases = [
        {
            "if": {"properties": {"task": {"const": task}}, "required": ["task"]},
            "then": {"properties": {"options": references[model, "validation"]}},
        }
        for task, model in options.items()
    ]
    schema.pop("title", None)
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "jobs/*.toml", "$ref": "#/$defs/Job"}
    return {**head, "allOf": cases, **schema}


def _without_name(schema: dict[str, Any]) -> None:
    schema["properties"].pop("name")
    schema["required"] = [key for key in schema.get("required", ()) if key != "name"]
