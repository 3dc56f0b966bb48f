"""Pydantic's findings in the words of this program: what was wrong (got ...; allowed ...)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from spaces.errors import VariantError, listed, nearest, shown

Path = tuple[str | int, ...]
UNKNOWN = "unknown key"

WANTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "text",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "none_required": "null",
}
TAGS = ("union_tag_invalid", "union_tag_not_found")
HOLES = ("choice", "int", "float", "subset")
BOUNDS = {
    "greater_than": ("gt", "more than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}


def problems(
    error: ValidationError, data: Any, model: type[BaseModel], beside: Sequence[str] = ()
) -> Iterator[tuple[Path, str]]:
    """Each finding as (path into ``data``, message); alternatives of a union become one.

    ``beside`` are keys that stand beside the model's own in the file, and are looked at elsewhere.
    """
    found: dict[Path, list[dict[str, Any]]] = {}
    for details in error.errors(include_url=False):
        path = _path(details["loc"], data, details["type"] == "missing")
        inner = details.get("ctx", {}).get("error")
        if isinstance(inner, VariantError):
            for key, message in inner.problems:
                yield (*path, *_steps(key)), message
        else:
            found.setdefault(path, []).append(dict(details))
    for path, several in found.items():
        deeper = any(len(other) > len(path) and other[: len(path)] == path for other in found)
        if not deeper:  # else only a union member that was not meant
            keys = [*_keys(model, path[:-1], data), *(beside if len(path) == 1 else ())]
            message = _message(path, several, keys)
            tag = next((d["ctx"]["discriminator"] for d in several if d["type"] in TAGS), "")
            yield (*path, tag.strip("'")) if tag else path, message


def _path(loc: Sequence[str | int], data: Any, missing: bool) -> Path:
    """``loc`` without the names of union members that pydantic puts between."""
    path: list[str | int] = []
    here: Any = data
    for number, part in enumerate(loc):
        inside = dict(enumerate(here)) if isinstance(here, list | tuple) else here
        if isinstance(inside, Mapping) and part in inside:
            path.append(part)
            here = inside[part]
        elif missing and number == len(loc) - 1:
            path.append(part)
    return tuple(path)


def _steps(key: str) -> Path:
    return tuple(int(step) if step.isdigit() else step for step in key.split(".") if step)


def _message(path: Path, several: list[dict[str, Any]], keys: list[str]) -> str:
    got = several[0]["input"]
    types = {details["type"] for details in several}
    if types == {"missing"}:
        return "required key is missing"
    if types == {"extra_forbidden"}:
        return f"{UNKNOWN}{nearest(path[-1], keys)} (allowed: {listed(keys)})"
    if types & set(TAGS):
        return _tag(several[0], got)
    allowed = list(dict.fromkeys(_wanted(details) for details in several))
    literals = {str(w) for details in several for w in _words(details)}
    suggestion = nearest(got, sorted(literals)) if isinstance(got, str) else ""
    if isinstance(got, Mapping):
        suggestion = next(filter(None, (nearest(key, HOLES) for key in got)), "")
    wrong = "out of range" if types <= set(BOUNDS) else "not allowed here"
    return f"{wrong}{suggestion} (got {shown(got)}; allowed: {' or '.join(allowed)})"


def _tag(details: dict[str, Any], got: Any) -> str:
    key = details["ctx"]["discriminator"].strip("'")
    if not isinstance(got, Mapping) or key not in got:
        return "required key is missing"
    names = [word.strip("' ") for word in details["ctx"]["expected_tags"].split(",")]
    return (
        f"unknown {key}{nearest(got[key], names)} (got {shown(got[key])}; allowed: {listed(names)})"
    )


def _wanted(details: dict[str, Any]) -> str:
    kind, context = details["type"], details.get("ctx", {})
    if kind in BOUNDS:
        name, words = BOUNDS[kind]
        return f"{words} {context[name]}"
    if kind == "literal_error":
        return listed(_words(details), most=16)
    if kind == "string_pattern_mismatch":
        return f"text like {context['pattern']}"
    if kind in {"too_short", "too_long"}:
        few = kind == "too_short"
        count = context["min_length" if few else "max_length"]
        return f"{'at least' if few else 'at most'} {count} {'entry' if count == 1 else 'entries'}"
    if kind == "value_error":
        return str(context["error"])
    return WANTED.get(kind, str(details["msg"]).lower())


def _words(details: dict[str, Any]) -> list[str]:
    if details["type"] != "literal_error":
        return []
    text = str(details["ctx"]["expected"]).replace(" or ", ", ")
    return [word.strip("'") for word in text.split(", ")]


def _keys(model: type[BaseModel], path: Path, data: Any) -> Iterator[str]:
    """The keys that ``model`` knows at ``path``; of a union's members, those of the one named."""
    candidates = [model]
    for part in path:
        data = data[part]
        found = [m.model_fields[str(part)] for m in candidates if str(part) in m.model_fields]
        if found:
            candidates = [inner for field in found for inner in _models(field.annotation)]
    named = data.get("name") if isinstance(data, Mapping) else None
    for candidate in candidates:
        name = candidate.model_fields.get("name")
        if len(candidates) == 1 or (name and named in get_args(name.annotation)):
            yield from candidate.model_fields


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)
