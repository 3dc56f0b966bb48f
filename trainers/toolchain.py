"""What `training.compile` needs beside PyTorch, looked for without importing it."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path

REMEDY = "apt-get install g++ python3-dev, or name a compiler in {}"
OFF = ("TORCH_COMPILE_DISABLE", "TORCHDYNAMO_DISABLE")
"""Where either is 1 PyTorch compiles nothing and says nothing: training would be eager."""


def lacking(device: str) -> str:
    """What is not here that code for a `device`, "cpu" or "cuda", is compiled with; else empty.

    PyTorch writes C++ for a CPU, which $CXX or g++ (on macOS clang++) makes a library of, and for a
    GPU Triton, which builds its launcher with $CC, gcc or clang. Both include Python.h.
    """
    for variable in OFF:
        if os.environ.get(variable) == "1":
            return f"${variable} is 1 here: unset it"
    if device == "cuda" and find_spec("triton") is None:
        return "Triton is not installed: pip install triton, on every node"
    variable = "CC" if device == "cuda" else "CXX"
    if compiler(device) is None:
        language = "C" if device == "cuda" else "C++"
        named = os.environ.get(variable)
        where = "" if named is None else f" (${variable} is {named or 'empty'})"
        alone = ", without flags" if device == "cuda" else ""
        return f"no {language} compiler here{where}: {REMEDY.format(variable)}{alone}"
    headers = sysconfig.get_path("include")
    if sys.platform == "linux" and not Path(headers, "Python.h").is_file():
        return f"no Python.h in {headers}: {REMEDY.format(variable)}"
    return ""


def compiler(device: str) -> str | None:
    """The path of the compiler that would be called, None where there is none.

    In $CXX flags may follow it; $CC is all a name to Triton.
    """
    if device == "cuda":
        named, names = os.environ.get("CC"), ["gcc", "clang"]
    else:
        named, names = os.environ.get("CXX"), ["clang++" if sys.platform == "darwin" else "g++"]
    if named is not None:
        names = [named] if device == "cuda" else shlex.split(named)[:1]
    return next(filter(None, map(shutil.which, names)), None)
