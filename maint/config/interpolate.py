"""``${env:NAME}`` and ``${credential:NAME}`` in the strings of the configuration; ``$$`` is a dollar."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

_REFERENCE = re.compile(r"\$\$|\$\{([^}]*)\}?")


class Interpolation:
    """Replaces references, and remembers what they stood for: those values are secrets."""

    def __init__(self, problem: Callable[[str, str], None]) -> None:
        self._problem = problem  #: told the key and what is wrong there
        self.secrets: list[str] = []

    def apply(self, value: Any, key: str = "") -> Any:
        """Return `value`, a string or anything made of strings, with every reference replaced."""
        if isinstance(value, dict):
            return {name: self.apply(item, f"{key}.{name}".lstrip(".")) for name, item in value.items()}
        if isinstance(value, list):
            return [self.apply(item, f"{key}[{index}]") for index, item in enumerate(value)]
        return self._replace(value, key) if isinstance(value, str) else value

    def _replace(self, text: str, key: str) -> str:
        def resolve(match: re.Match[str]) -> str:
            if match[0] == "$$":
                return "$"
            try:
                value = _look_up(match[0])
            except ValueError as error:
                self._problem(key, str(error))
                return match[0]
            if match[0].startswith("${credential:") or not _IS_PUBLIC.fullmatch(value):
                self.secrets.append(value)
            return value

        return _REFERENCE.sub(resolve, text)


#: of the environment: a port or a path is no secret, and starring it would make logs unreadable
_IS_PUBLIC = re.compile(r"\d{1,5}|/[^\s:@]*")


def _look_up(reference: str) -> str:
    match = re.fullmatch(r"\$\{(env|credential):([A-Za-z0-9_.-]+)\}", reference)
    if match is None:
        raise ValueError(f"{reference!r}: write ${{env:NAME}} or ${{credential:NAME}}; $$ is a dollar")
    kind, name = match.groups()
    return _environment(name) if kind == "env" else _credential(name)


def _environment(name: str) -> str:
    try:
        return os.environ[name]
    except KeyError:
        raise ValueError(f"the environment variable {name} is not set") from None


def _credential(name: str) -> str:
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        raise ValueError(f"no credentials here: start maint by systemd, with LoadCredential={name}:/a/file")
    try:
        return (Path(folder) / name).read_text(encoding="utf-8").removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise ValueError(f"the credential {name} cannot be read: {reason} (LoadCredential=)") from None
