"""Checkpoints: whole or absent, noticed when damaged, in a folder or behind a URI."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from trainers import checkpoint

STATE = {"weights": torch.arange(1000.0), "epoch": 3, "history": [{"val_accuracy": 0.5}]}


@pytest.fixture(params=["folder", "file", "memory"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A new place of every kind there is."""
    return {
        "folder": str(tmp_path / "new" / "odd name # ü"),
        "file": f"file://{tmp_path}/new",
        "memory": f"memory://{uuid.uuid4()}/new",
    }[request.param]


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two states hold the same."""
    return torch.equal(one["weights"], other["weights"]) and {
        k: v for k, v in one.items() if k != "weights"
    } == {k: v for k, v in other.items() if k != "weights"}


def test_what_was_put_is_got(location: str) -> None:
    """A state comes back equal, under its key and no other."""
    checkpoint.put(location, "epoch-00001", STATE)
    assert checkpoint.keys(location) == ["epoch-00001"]
    assert same(checkpoint.get(location, "epoch-00001"), STATE)
    with pytest.raises(checkpoint.CheckpointError, match="epoch-00002 is damaged or absent"):
        checkpoint.get(location, "epoch-00002")


def test_a_place_without_checkpoints_is_empty(location: str) -> None:
    """Nothing there is no error."""
    assert checkpoint.keys(location) == []
    assert checkpoint.newest(location) is None


def test_newest_is_the_last_key(location: str) -> None:
    """Keys decide the order, whenever they were written."""
    for number in (10, 2, 9):
        checkpoint.put(location, f"epoch-{number:05d}", {"epoch": number})
    assert checkpoint.newest(location) == {"epoch": 10}
    checkpoint.keep(location, 2)
    assert checkpoint.keys(location) == ["epoch-00009", "epoch-00010"]
    checkpoint.remove(location, "epoch-00010")
    assert checkpoint.newest(location) == {"epoch": 9}


def test_a_key_put_again_is_replaced(location: str) -> None:
    """The later state is the one found, and it is the only file."""
    checkpoint.put(location, "k", {"a": 1})
    checkpoint.put(location, "k", {"a": 2})
    checkpoint.put(location, "k", {"a": 2})
    assert checkpoint.get(location, "k") == {"a": 2}
    checkpoint.remove(location, "k")
    assert checkpoint.keys(location) == []


@pytest.mark.parametrize("key", ["", "../k", "a/b", "A", "k.pt", "a\n"])
def test_keys_cannot_leave_the_place(tmp_path: Path, key: str) -> None:
    """A key is no path."""
    with pytest.raises(ValueError, match="made of a-z"):
        checkpoint.put(tmp_path, key, {})
    assert list(tmp_path.iterdir()) == []


def test_the_file_is_torchs_own(tmp_path: Path) -> None:
    """Anyone can open a checkpoint with torch.load, without pickled code."""
    checkpoint.put(tmp_path, "k", STATE)
    (file,) = tmp_path.iterdir()
    assert same(torch.load(file, weights_only=True), STATE)


def flip(data: bytes) -> bytes:
    """One bit of a number in the tensor's data changed."""
    where = data.index(torch.tensor([500.0, 501.0]).numpy().tobytes())
    return data[:where] + bytes([data[where] ^ 1]) + data[where + 1 :]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda data: data[: len(data) // 2],
    "without its last byte": lambda data: data[:-1],
    "garbage": lambda data: os.urandom(len(data)),
    "a bit flipped in a tensor": flip,
    "empty": lambda data: b"",
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_damage_is_noticed(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    """A damaged newest checkpoint gives a warning and the one before."""
    checkpoint.put(tmp_path, "epoch-00001", {"weights": torch.zeros(3)})
    checkpoint.put(tmp_path, "epoch-00002", STATE)
    (file,) = tmp_path.glob("epoch-00002.*")
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(checkpoint.CheckpointError):
        checkpoint.get(tmp_path, "epoch-00002")
    with pytest.warns(RuntimeWarning, match="epoch-00002 is damaged"):
        state = checkpoint.newest(tmp_path)
    assert state is not None
    assert torch.equal(state["weights"], torch.zeros(3))


def test_torch_alone_does_not_notice_a_flipped_bit(tmp_path: Path) -> None:
    """Why there is a digest: torch.load takes a changed weight without a word."""
    file = tmp_path / "plain.pt"
    torch.save(STATE, file)
    file.write_bytes(flip(file.read_bytes()))
    loaded = torch.load(file, weights_only=True)["weights"]
    assert not torch.equal(loaded, STATE["weights"])


def test_all_damaged_is_none(tmp_path: Path) -> None:
    """With no whole one left there is no newest, and each was warned of."""
    for key in ("a", "b"):
        checkpoint.put(tmp_path, key, STATE)
    for file in tmp_path.iterdir():
        file.write_bytes(b"")
    with pytest.warns(RuntimeWarning) as warned:
        assert checkpoint.newest(tmp_path) is None
    assert len(warned) == 2


def test_foreign_files_are_ignored(tmp_path: Path) -> None:
    """Files that are no checkpoints are neither listed nor removed."""
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "model.pt").write_bytes(b"")
    checkpoint.put(tmp_path, "k", {"a": 1})
    checkpoint.keep(tmp_path, 1)
    assert checkpoint.keys(tmp_path) == ["k"]
    assert (tmp_path / "notes.txt").exists()


def test_a_pickle_is_never_run(tmp_path: Path) -> None:
    """A checkpoint that carries code raises instead of running it, digest or not."""
    trap = {"x": Path("/tmp")}  # no tensor, number or text: an object made by a call
    checkpoint.put(tmp_path, "k", trap)
    with pytest.raises(checkpoint.CheckpointError, match="holds more than tensors"):
        checkpoint.get(tmp_path, "k")


@pytest.mark.parametrize("call", ["os.fsync", "os.replace"])
def test_a_failing_write_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """When the disk fails before the rename, the old checkpoint is there and no litter is."""
    checkpoint.put(tmp_path, "k", {"a": 1})

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(call, fail)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.put(tmp_path, "k", {"a": 2})
    monkeypatch.undo()
    assert checkpoint.get(tmp_path, "k") == {"a": 1}
    assert len(list(tmp_path.iterdir())) == 1


KILLED = """
import os, sys
from trainers import checkpoint
checkpoint.put(sys.argv[1], "k", {"a": 1})
os.replace = lambda *_: os.kill(os.getpid(), 9)
checkpoint.put(sys.argv[1], "k", {"a": 2})
"""


def test_killed_before_the_rename(tmp_path: Path) -> None:
    """SIGKILL between temporary file and rename leaves the old one; the litter is swept later."""
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert killed.returncode == -9
    assert checkpoint.get(tmp_path, "k") == {"a": 1}
    (leftover,) = tmp_path.glob(".*.tmp")
    checkpoint.keep(tmp_path, 2)
    assert leftover.exists()  # it may be another writer's, at work
    os.utime(leftover, (0, 0))
    checkpoint.keep(tmp_path, 2)
    assert not leftover.exists()


def test_disk_full_for_real(tmp_path: Path) -> None:
    """Under a file-size limit of the kernel the put raises OSError and the old one stays."""
    checkpoint.put(tmp_path, "k", {"a": 1})
    code = (
        "import resource, signal, sys, torch\n"
        "from trainers import checkpoint\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n"
        "try:\n"
        "    checkpoint.put(sys.argv[1], 'k', {'w': torch.zeros(100_000)})\n"
        "except OSError as error:\n"
        "    sys.exit(7)\n"
    )
    limited = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert limited.returncode == 7
    assert checkpoint.get(tmp_path, "k") == {"a": 1}
    assert len(list(tmp_path.iterdir())) == 1
