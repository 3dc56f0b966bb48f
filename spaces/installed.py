"""Variants that installed packages bring, by entry points: found by name, not imported.

A package says in its pyproject.toml ::

    [project.entry-points."eca_search.attention"]
    my_gate = "my_package.my_gate"

and `attention: {name: my_gate}` is the file of that module, wherever the package is installed: on
every node of a cluster, for a search over Ray.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

from spaces.errors import VariantError

GROUP = "eca_search"


@cache
def modules(kind: str) -> dict[str, str]:
    """Name of a variant -> name of its module, for the entry points of the kind's group."""
    return {entry.name: entry.value for entry in entry_points(group=f"{GROUP}.{kind}")}


def source(kind: str, name: str) -> Path:
    """The file of an installed variant. Packages around it are imported, the module is not.

    Raises VariantError for an entry point that leads to no file of the variant's name.
    """
    module = modules(kind)[name]
    try:
        spec = find_spec(module)
    except Exception as error:  # the package around it may raise anything
        said, spec = f"{type(error).__name__}: {error}", None
    else:
        said = "no such module"
    if spec is None or spec.origin is None:
        raise VariantError(("name", f"{_shown(kind, name)} cannot be found ({said})"))
    file = Path(spec.origin)
    if file.name != f"{name}.py":
        wanted = f"a module named {name}"
        raise VariantError(("name", f"{_shown(kind, name)} leads to {file} (allowed: {wanted})"))
    return file


def _shown(kind: str, name: str) -> str:
    return f'the entry point {GROUP}.{kind}: {name} = "{modules(kind)[name]}"'
