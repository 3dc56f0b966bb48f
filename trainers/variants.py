"""The folder is the registry: a variant's name is its file's, its function is its kind's.

`names` and `check` read the files as text (`spaces.catalogue`); `module` and `load` import them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from spaces import catalogue
from spaces.catalogue import check, names

__all__ = ["check", "load", "module", "names"]

PACKAGES = {
    "mapping": "spaces.mappings",
    "placement": "spaces.placements",
    "attention": "trainers.attention",
    "backbone": "trainers.backbones",
    "dataset": "trainers.datasets",
    "task": "trainers.tasks",
}


def load(kind: str, name: str) -> Callable[..., Any]:
    """The function of a variant: `load("attention", "eca")` is `trainers.attention.eca.attention`.

    Raises VariantError (a ValueError) for a name that no file has.
    """
    function: Callable[..., Any] = getattr(module(kind, name), kind)
    return function


def module(kind: str, name: str) -> ModuleType:
    """The file of a variant, imported once; a plugin's from where it lies."""
    return _module(kind, name, catalogue.plugins())


@cache
def _module(kind: str, name: str, plugins: tuple[Path, ...]) -> ModuleType:
    path = catalogue.path(kind, name)
    return _from_file(path) if path in plugins else import_module(f"{PACKAGES[kind]}.{name}")


@cache
def _from_file(path: Path) -> ModuleType:
    """A file that lies in no package, as a module."""
    spec = spec_from_file_location(f"eca_search_plugin_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    loaded = module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded
