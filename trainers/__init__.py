"""What a choice costs and how well it does: networks, their complexity, training.

Names are imported on first use, so that `import trainers.variants` does not import torch.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainers.build import active, build, kernels, sites
    from trainers.complexity import Complexity, identity, measure
    from trainers.keys import run_key
    from trainers.latency import Latency, latency
    from trainers.progress import begun, history
    from trainers.run import Diverged
    from trainers.suits import fits, foresee
    from trainers.train import Left, chance, check_device, train

__all__ = [
    "Complexity",
    "Diverged",
    "Latency",
    "Left",
    "active",
    "begun",
    "build",
    "chance",
    "check_device",
    "fits",
    "foresee",
    "history",
    "identity",
    "kernels",
    "latency",
    "measure",
    "run_key",
    "sites",
    "train",
]

_HOMES = {
    "Complexity": "complexity",
    "Diverged": "run",
    "Latency": "latency",
    "Left": "train",
    "active": "build",
    "begun": "progress",
    "build": "build",
    "chance": "train",
    "check_device": "train",
    "fits": "suits",
    "foresee": "suits",
    "history": "progress",
    "identity": "complexity",
    "kernels": "build",
    "latency": "latency",
    "measure": "complexity",
    "run_key": "keys",
    "sites": "build",
    "train": "train",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'trainers' has no attribute {name!r}")
    return getattr(importlib.import_module(f"trainers.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """Keeps `trainers.build` and `trainers.train` the functions.

    Python hangs every imported file of a package on it under the file's name, which would hide the
    function of the same name as soon as anything imports the file.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled by its name, as any module is: a function that uses it may go to a worker."""
        return importlib.import_module, (self.__name__,)


sys.modules[__name__].__class__ = _Package
