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


def lacking(device: str) -> str:
    """What is not here that code for a `device`, "cpu" or "cuda", is compiled with; else empty.

    PyTorch writes C++ for a CPU, which $CXX or g++ (on macOS clang++) makes a library of, and for a
    GPU Triton, which builds its launcher with $CC, gcc or clang. Both include Python.h.
    """
    if device == "cuda" and find_spec("triton") is None:
        return "Triton is not installed: pip install triton, on every node"
    variable = "CC" if device == "cuda" else "CXX"
    if compiler(device) is None:
        language = "C" if device == "cuda" else "C++"
        named = os.environ.get(variable)
        where = f" (${variable} is {named})" if named else ""
        return f"no {language} compiler here{where}: {REMEDY.format(variable)}"
    headers = sysconfig.get_path("include")
    if sys.platform == "linux" and not Path(headers, "Python.h").is_file():
        return f"no Python.h in {headers}: {REMEDY.format(variable)}"
    return ""


def compiler(device: str) -> str | None:
    """The path of the compiler that would be called, None where there is none."""
    if device == "cuda":
        names = ["gcc", "clang"]
    else:
        names = ["clang++" if sys.platform == "darwin" else "g++"]
    if named := os.environ.get("CC" if device == "cuda" else "CXX"):
        names = shlex.split(named)[:1]  # flags may follow
    return next(filter(None, map(shutil.which, names)), None)
