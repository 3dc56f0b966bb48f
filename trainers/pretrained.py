"""Weights to start from: a file that someone else may have made, so nothing but numbers is read.

A file is PyTorch's or safetensors', told by its content, and holds a state dict, alone or under
`state_dict`. Names are ours, or what the backbone's `renamed` knows: torchvision's and those of
the authors of ECA-Net; a `module.` before each of them is no part of the name. The file is a
classifier's, for a detector too: it takes the backbone from there and leaves the rest.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from spaces.config import Backbone, Component, Config
from spaces.errors import VariantError
from spaces.site import POSITIONS
from trainers import variants
from trainers.datasets import Description
from trainers.detectors import detects
from trainers.network import assemble, describe

LARGEST = 4 * 2**30
"""Bytes that a file may have, and may unpack to: 16 times a ResNet-152."""
KEY = "backbone.pretrained"
HEAD = ("fc.weight", "fc.bias")
TOP = "backbone.top."
"""What some backbones have for classifiers alone, and detectors leave out."""
SEEN = "num_batches_tracked"
"""What a norm has counted: files older than 2018 do not have it, and no result needs it."""


@dataclass(frozen=True, slots=True)
class Form:
    """The shape of a tensor, and whether it holds fractions."""

    shape: tuple[int, ...]
    floating: bool

    def __str__(self) -> str:
        return f"{self.shape}{'' if self.floating else ' of whole numbers'}"


@dataclass(frozen=True)
class File:
    """What a file holds: the sha256 of its bytes, and the form of each tensor by its name there."""

    digest: str
    forms: dict[str, Form]


def digest(path: str) -> str:
    """The sha256 of the file in hex. Raises VariantError as `check` does."""
    return _file(path).digest


def check(config: Config) -> list[str]:
    """What a person should know of the weights that a config starts from; empty without any.

    Raises VariantError at `backbone.pretrained` for a file that is not there, is damaged, holds
    more than tensors or fits another network than the config's. Attention is left out of account.
    """
    backbone = config.backbone
    if backbone.pretrained is None:
        return []
    params = json.dumps(backbone.params, sort_keys=True)
    there = _renamed(backbone, _file(backbone.pretrained).forms)
    task = config.task.name, json.dumps(config.task.params, sort_keys=True)
    return _fitting(there, _bare(backbone.name, params, describe(config), *task))


def load(network: nn.Module, backbone: Backbone) -> set[str]:
    """Put the file's weights into a network whose first weights are drawn; the names of those put.

    What the file does not have stays as it was drawn: a classifier of other classes, attention
    that is not there or has another shape; either is said in a warning. Raises as `check` does.
    The names are those of a classifier's entries, `backbone.stem.0.weight`.
    """
    assert backbone.pretrained is not None
    tensors = _renamed(backbone, _tensors(backbone.pretrained))
    own = _entries(network)
    bare = {name: _form(tensor) for name, tensor in own.items() if not _attention(name)}
    said = _fitting({name: _form(tensor) for name, tensor in tensors.items()}, bare)
    fresh, put = set(), set()
    for name, tensor in own.items():
        given = tensors.get(name)
        if given is not None and _form(given) == _form(tensor):
            tensor.copy_(given)
            put.add(name)
        elif _attention(name):
            fresh.add(name.rpartition(".")[0])
    if fresh:
        first = f"{min(fresh)}{f' and {len(fresh) - 1} more' * (len(fresh) > 1)}"
        said.append(f"attention is not in the file, or of another shape, and starts anew: {first}")
    for line in said:
        warnings.warn(f"{backbone.pretrained}: {line}", stacklevel=3)
    return put


def _entries(network: nn.Module) -> dict[str, Tensor]:
    """What of a network may be in the file, by its name in a classifier."""
    if not detects(network):
        return network.state_dict()
    return network.body.state_dict(prefix="backbone.")


def _fitting(there: Mapping[str, Form], here: Mapping[str, Form]) -> list[str]:
    """Remarks on a file's tensors for a network without attention; raises VariantError."""
    wrong = list(_misfits(there, here))
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise VariantError((KEY, f"weights of another network: {wrong[0]}{more}"))
    if any(there.get(name) != here[name] for name in HEAD if name in here):
        found = there.get(HEAD[0])
        had = f"of {found.shape[0]} classes" if found else "not in the file"
        return [f"its classifier is {had}: this one of {here[HEAD[0]].shape[0]} starts anew"]
    return []


def _misfits(there: Mapping[str, Form], here: Mapping[str, Form]) -> Iterator[str]:
    """What is missing, of another shape or too much, in the network's order."""
    for name, form in here.items():
        found = there.get(name)
        if name.endswith(SEEN):
            continue
        if found is None:
            if name not in HEAD:
                yield f"{name} is not in the file"
        elif name in HEAD:
            if found.shape[1:] != form.shape[1:] or len(found.shape) != len(form.shape):
                yield f"{name} is {found} in the file, {form} here"
        elif found != form:
            yield f"{name} is {found} in the file, {form} here"
    whole = any(name in HEAD for name in here)
    for name in there:
        if not whole and name.startswith((*HEAD, TOP)):
            continue
        if name not in here and not _attention(name):
            yield f"the file has {name}, this network has not"


def _attention(name: str) -> bool:
    """Whether a parameter is attention's: below a position of a block, or `posts` of timm's."""
    return any(part in (*POSITIONS, "posts") for part in name.split(".")[:-1])


@lru_cache(maxsize=256)
def _bare(
    name: str, params: str, data: Description, task: str = "classification", own: str = "{}"
) -> dict[str, Form]:
    """The forms of a network without attention."""
    with variants.blamed("backbone"), torch.device("meta"):
        backbone = Component(name=name, **json.loads(params))
        aim = Component(name=task, **json.loads(own))
        network = assemble(backbone, data, lambda site: nn.Identity(), aim)
    return {name: _form(tensor) for name, tensor in _entries(network).items()}


def _form(tensor: Tensor) -> Form:
    return Form(tuple(tensor.shape), tensor.is_floating_point())


def _renamed(backbone: Backbone, found: Mapping[str, Any]) -> dict[str, Any]:
    """The same under our names; what has no other name keeps its own."""
    rename = getattr(variants.module("backbone", backbone.name), "renamed", str)
    before = "module." if all(name.startswith("module.") for name in found) else ""
    return {rename(name.removeprefix(before)): value for name, value in found.items()}


def _file(path: str) -> File:
    """What the file holds, read once for as long as it is not written to."""
    about = _about(path)
    return _read(path, about.st_size, about.st_mtime_ns)


@lru_cache(maxsize=64)
def _read(path: str, size: int, changed: int) -> File:
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    return File(found, {name: _form(tensor) for name, tensor in _tensors(path).items()})


def _about(path: str) -> os.stat_result:
    """What the disk says of the file. Raises VariantError where it is none, or too large."""
    try:
        about = os.stat(path)
        if not stat.S_ISREG(about.st_mode):
            raise VariantError((KEY, f"not a file (got {path})"))
        with open(path, "rb"):
            pass
    except OSError as error:
        raise VariantError((KEY, f"{error.strerror or error} (got {path})")) from None
    if about.st_size > LARGEST:
        said = f"too large (got {about.st_size:,} bytes; allowed: {LARGEST:,})"
        raise VariantError((KEY, said))
    return about


def _tensors(path: str) -> dict[str, Tensor]:
    """The state dict in a file, on the CPU. Nothing is unpickled but tensors, numbers and texts."""
    _about(path)
    try:
        with open(path, "rb") as file:
            head = file.read(9)
        if head[8:] == b"{":  # safetensors: a length of 8 bytes, then JSON
            return dict(safetensors.torch.load_file(path))
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                unpacked = sum(member.file_size for member in archive.infolist())
            if unpacked > LARGEST:
                said = f"too large (unpacks to {unpacked:,} bytes; allowed: {LARGEST:,})"
                raise VariantError((KEY, said))
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (VariantError, MemoryError):
        raise
    except Exception as error:  # a file made to do harm may raise anything
        said = "damaged, or no file of weights alone; nothing of it was run"
        raise VariantError((KEY, f"{said} (got {path}: {type(error).__name__})")) from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not state or not all(map(_dense, state.items())):
        said = "no state dict: names with a tensor each, alone or under `state_dict`"
        raise VariantError((KEY, f"{said} (got {path})"))
    return dict(state)


def _dense(entry: tuple[object, object]) -> bool:
    name, value = entry
    return isinstance(name, str) and isinstance(value, Tensor) and value.layout == torch.strided
