"""The folder is the registry: a variant's name is its file's, its function is its kind's.

`names` and `check` read the files as text (`spaces.catalogue`); `module` and `load` import them.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from spaces import catalogue, installed
from spaces.catalogue import check, names
from spaces.errors import Place, Problem, SpaceError, VariantError

__all__ = ["blamed", "check", "load", "module", "names"]

PACKAGES = {
    "mapping": "spaces.mappings",
    "placement": "spaces.placements",
    "attention": "trainers.attention",
    "backbone": "trainers.backbones",
    "dataset": "trainers.datasets",
    "task": "trainers.tasks",
    "detector": "trainers.detectors",
}


def load(kind: str, name: str) -> Callable[..., Any]:
    """The function of a variant: `load("attention", "eca")` is `trainers.attention.eca.attention`.

    Raises VariantError (a ValueError) for a name that no file has.
    """
    function: Callable[..., Any] = getattr(module(kind, name), kind)
    return function


def module(kind: str, name: str) -> ModuleType:
    """The file of a variant, imported once; a plugin's from where it lies, an installed one's as
    part of its package.
    """
    return _module(kind, name, catalogue.plugins())


@cache
def _module(kind: str, name: str, plugins: tuple[Path, ...]) -> ModuleType:
    path = catalogue.path(kind, name)
    if path in plugins:
        return _from_file(path)
    if path.parent == catalogue.FOLDERS[kind]:
        return import_module(f"{PACKAGES[kind]}.{name}")
    return _installed(path, installed.modules(kind)[name])


@contextmanager
def blamed(key: str) -> Iterator[None]:
    """Whatever a variant raises, which may be a person's own, as a VariantError at its `key`."""
    try:
        yield
    except VariantError as error:
        raise VariantError(*((f"{key}.{at}", said) for at, said in error.problems)) from error
    except MemoryError:
        raise
    except Exception as error:
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        raise VariantError((key, f"{kind}{error}")) from error


@cache
def _from_file(path: Path) -> ModuleType:
    """A file that lies in no package, as a module; raises SpaceError where it cannot be one."""
    spec = spec_from_file_location(f"eca_search_plugin_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    loaded = module_from_spec(spec)
    with _told(path):
        spec.loader.exec_module(loaded)
    return loaded


def _installed(path: Path, name: str) -> ModuleType:
    """A module of an installed package; raises SpaceError where it cannot be imported."""
    with _told(path):
        return import_module(name)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Whatever a person's file raises when it is run, as a SpaceError at its line."""
    try:
        yield
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        line = next((frame.lineno for frame in frames if frame.filename == str(path)), 1)
        said = f"cannot be imported: {type(error).__name__}: {error}"
        raise SpaceError([Problem(Place(str(path), line, 1), "", said)]) from error
