"""Two networks on this machine, for tests that need two real nodes."""

from __future__ import annotations

import importlib.util
import os
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def two_nodes() -> ModuleType:
    """benchmarks/two_nodes.py, which makes the networks and starts Ray there."""
    if os.geteuid() or subprocess.run(["unshare", "--net", "true"], capture_output=True).returncode:
        pytest.skip("networks of its own can be made by root alone")
    spec = importlib.util.spec_from_file_location("two_nodes", ROOT / "benchmarks/two_nodes.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
