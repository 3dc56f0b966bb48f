"""The doctor on two machines that have a folder of the same name, each its own."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.ray
@pytest.mark.slow
def test_a_folder_that_each_node_has_for_itself_is_found(
    two_nodes: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 3, the node and the folder named; the other node is fit, and no marker is left."""
    out = tmp_path / "runs"
    out.mkdir()
    environment = {name: text for name, text in os.environ.items() if not name.startswith("RAY_")}
    environment |= {
        "PYTHONPATH": str(ROOT),
        "HOME": str(tmp_path),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
    }
    on, head = two_nodes.on, next(iter(two_nodes.HOSTS))

    def apart(host: str, *command: str) -> list[str]:
        """The second node starts with an empty folder of its own in the place of that one."""
        if host == head:
            return list(on(host, *command))
        own = f'mount -t tmpfs none "{out}" && exec "$@"'
        return ["unshare", "--mount", "sh", "-c", own, "sh", *on(host, *command)]

    monkeypatch.setattr(two_nodes, "on", apart)
    scratch = Path(tempfile.mkdtemp(prefix="eca-doc-"))  # short: Ray's sockets allow 107 characters
    address = f"{two_nodes.HOSTS[head]}:{two_nodes.PORT}"
    doctor = [sys.executable, "-m", "search", "doctor", "--cluster", "--address", address]
    try:
        with two_nodes.network():
            for host in two_nodes.HOSTS:
                two_nodes.start(host, scratch, environment)
            done = subprocess.run(
                on(head, *doctor, "--json", "--out", str(out)),
                env=environment,
                capture_output=True,
                text=True,
            )
    finally:
        shutil.rmtree(scratch, ignore_errors=True)

    checks = [check for check in json.loads(done.stdout)["checks"] if check["node"]]
    failed = [check for check in checks if check["state"] == "fail"]
    assert done.returncode == 3
    assert [check["name"] for check in failed] == [f"folder {out}"]
    assert failed[0]["node"].startswith("eca-second (10.213.77.2)")
    assert failed[0]["found"] == "not the same folder"
    assert [check["node"].split()[0] for check in checks if check["name"] == "node"] == [head]
    assert not list(out.iterdir())
