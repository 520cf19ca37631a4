"""What is wrong with the configuration, in words: key, what, and how to mend it."""

import json
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

M = TypeVar("M", bound=BaseModel)

#: pydantic's kind of error -> our words; its own begin with "Input should", and are for programmers
_WORDS = {
    "string_type": "must be a text, in quotes",
    "int_type": "must be a whole number, without quotes",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number, without quotes",
    "bool_type": "must be true or false, without quotes",
    "tuple_type": 'must be a list: ["…"]',
    "list_type": 'must be a list: ["…"]',
    "model_type": "must be a table",
    "dict_type": "must be a table",
    "too_short": "must not be empty",
}
_NAME = "not a name: letters, digits, _ and - only"


class Problems:
    """Collects what is wrong; of one value only the first is told, the rest would follow from it."""

    def __init__(self) -> None:
        self._lines: dict[tuple[str, str], str] = {}

    def add(self, file: object, key: str, what: str) -> None:
        parents = (key[:end] for end, character in enumerate(f"{key}.") if character in ".[")
        if not any((str(file), parent) in self._lines for parent in parents):
            self._lines[str(file), key] = f"{file}: {key}: {what}" if key else f"{file}: {what}"

    def about(self, file: object) -> bool:
        """Tell whether `file` as a whole could not be read."""
        return (str(file), "") in self._lines

    def lines(self) -> list[str]:
        return list(self._lines.values())


def validate(model: type[M], raw: Mapping[str, Any]) -> tuple[M | None, list[tuple[str, str]]]:
    """Return the model made from a parsed TOML table, or None and its problems as pairs of key and words.

    Strict as JSON is: a number in quotes is not a number, while a list may become a tuple.
    """
    try:
        return model.model_validate_json(json.dumps(raw, default=str), strict=True), []
    except ValidationError as error:
        return None, list(_told(model, error.errors(include_url=False, include_input=False)))


def _told(model: type[BaseModel], errors: Iterable[ErrorDetails]) -> Iterator[tuple[str, str]]:
    for error in errors:
        yield _key(error["loc"]), _words(model, error)


def _key(loc: tuple[int | str, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).lstrip(".")


def _words(model: type[BaseModel], error: ErrorDetails) -> str:
    kind = error["type"]
    if kind == "extra_forbidden":
        return "unknown key" + suggestion(str(error["loc"][-1]), keys_of(_model_at(model, error["loc"][:-1])))
    if kind == "missing":
        return "is missing"
    if kind == "string_pattern_mismatch":
        pattern = error.get("ctx", {}).get("pattern")
        return _NAME if error["loc"][-1] in ("name", "installation") else f"not of the form {pattern}"
    said = error["msg"].removeprefix("Value error, ").replace("Input should", "must")
    return _WORDS.get(kind, said[:1].lower() + said[1:] if kind != "value_error" else said)


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean x?", or what there is to choose from."""
    names = sorted(known)
    if near := get_close_matches(name, names, n=1):
        return f"; did you mean {near[0]}?"
    return f" (there {'is' if len(names) == 1 else 'are'}: {', '.join(names)})" if names else " (there is none)"


def keys_of(model: type[BaseModel]) -> list[str]:
    """Return the keys that may be written in a table: `name` is the table's own."""
    return [field.alias or name for name, field in model.model_fields.items() if name != "name"]


def _model_at(model: type[BaseModel], loc: tuple[int | str, ...]) -> type[BaseModel]:
    """Return the model of the table in which an error lies."""
    for part in loc:
        for name, field in model.model_fields.items():
            if part in (name, field.alias):
                model = next(_models_in(field.annotation), model)
    return model


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)
