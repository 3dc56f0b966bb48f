"""Optuna's samplers and pruners by class name, with their plain keyword arguments."""

from __future__ import annotations

import difflib
import inspect
import warnings
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import optuna
from optuna.exceptions import ExperimentalWarning

T = TypeVar("T")

optuna.logging.set_verbosity(optuna.logging.WARNING)  # of studies and trials our journal tells

# What a space file can write; an argument of any other type (a callable, a sampler) takes Python.
_PLAIN = {"int": int, "float": float, "str": str, "bool": bool, "None": None}


class SpecError(ValueError):
    """A sampler or pruner that cannot be built as asked.

    `key` is the dotted key inside the mapping that is to blame ("name", "wrapped.patience").
    """

    def __init__(self, key: str, message: str) -> None:
        super().__init__(f"{key}: {message}")
        self.key = key
        self.message = message

    def below(self, key: str) -> SpecError:
        """The same fault, seen from a mapping that holds this one under `key`."""
        return SpecError(f"{key}.{self.key}", self.message)


def find(kind: str, classes: Mapping[str, type[T]], name: object) -> type[T]:
    """The class of that name; raises `SpecError` naming the nearest when there is none."""
    if isinstance(name, str) and name in classes:
        return classes[name]
    raise SpecError("name", f"no {kind} of that name{_meant(name, classes)}{_got(name, classes)}")


def build(cls: type[T], given: Mapping[str, Any], *, besides: Iterable[str] = (), **ours: Any) -> T:
    """`cls(**given, **ours)`, where `given` was written by a person and `ours` by us.

    `besides` are keys that a person may write there too, which somebody else has read. Raises
    `SpecError` for an argument that does not exist, is missing, has the wrong type or is refused by
    the class itself. Strict about types: a bool is no int, 2.0 is no int, 2 is a float.
    """
    hints = plain_arguments(cls, ours)
    for key, value in given.items():
        if key not in hints:
            known = [*hints, *besides]
            raise SpecError(
                key, f"{cls.__name__} takes no such argument{_meant(key, known)}{_got(key, known)}"
            )
        if not _fits(value, hints[key]):
            raise SpecError(key, f"wrong type (got {value!r}; allowed {_words(hints[key])})")
    for key, parameter in inspect.signature(cls).parameters.items():
        if parameter.default is parameter.empty and key not in given and key not in ours:
            how = "is required" if key in hints else "is a Python object: no space file can say it"
            raise SpecError(key, f"{how} (by {cls.__name__})")
    with warnings.catch_warnings():
        # Who names an experimental class has chosen it.
        warnings.simplefilter("ignore", ExperimentalWarning)
        try:
            return cls(**given, **ours)
        except (TypeError, ValueError) as error:
            key = next((key for key in given if key in str(error)), "name")
            raise SpecError(key, f"{cls.__name__} refuses it: {error}") from None


def plain_arguments(cls: type, hidden: Iterable[str] = ()) -> dict[str, Any]:
    """The arguments of a class that a space file can write, with their types."""
    hints = {
        key: _hint(parameter.annotation)
        for key, parameter in inspect.signature(cls).parameters.items()
        if key not in set(hidden)
    }
    return {key: hint for key, hint in hints.items() if hint is not inspect.Parameter.empty}


def setting(cls: type, given: Mapping[str, Any], key: str) -> Any:
    """The value that argument `key` has when the class is built from `given`."""
    return given.get(key, inspect.signature(cls).parameters[key].default)


def _hint(annotation: object) -> Any:
    text = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    names = [part.strip() for part in text.split("|")]
    if any(name not in _PLAIN for name in names):
        return inspect.Parameter.empty
    return tuple(_PLAIN[name] for name in names)


def _fits(value: object, kinds: tuple[type | None, ...]) -> bool:
    if value is None or isinstance(value, bool):
        return (None if value is None else bool) in kinds
    return type(value) in kinds or (type(value) is int and float in kinds)


def _words(kinds: tuple[type | None, ...]) -> str:
    return " or ".join("null" if kind is None else kind.__name__ for kind in kinds)


def _meant(name: object, names: Iterable[str]) -> str:
    """The nearest name as a question; `tpe` is near to `TPESampler`."""
    short = {known.lower(): known for known in names}
    short |= {key.removesuffix("sampler").removesuffix("pruner"): n for key, n in short.items()}
    near = difflib.get_close_matches(str(name).lower(), short, n=1, cutoff=0.5)
    return f", did you mean {short[near[0]]}?" if near else ""


def _got(name: object, allowed: Iterable[str]) -> str:
    return f" (got {name!r}; allowed {', '.join(allowed) or 'none'})"
