"""An attempt whose checkpoints were damaged: the newest whole one is used, and the log says so."""

from __future__ import annotations

import errno
import hashlib
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fsspec.implementations.local import LocalFileSystem

import spaces
from search.execution import worker
from search.execution.worker import Workplace
from search.study import logs
from search.trial import Assignment, Ending
from spaces import Config

EPOCHS = 4
SPACE = f"""\
name: one
task: {{name: classification}}
dataset: {{name: digits, subset: 200, val: 0.2}}
backbone: {{name: resnet, depth: 8, width: 0.25}}
attention: {{name: none}}
training: {{epochs: {EPOCHS}, batch_size: 50, optimizer: {{name: sgd, lr: 0.1}}}}
"""


def flipped(data: bytes) -> bytes:
    """One bit in the middle, where the weights are."""
    place = len(data) // 2
    return data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "cut in half": lambda data: data[: len(data) // 2],
    "without its last byte": lambda data: data[:-1],
    "random bytes": lambda data: os.urandom(len(data)),
    "a bit flipped in a tensor": flipped,
    "empty": lambda data: b"",
    "with a byte more": lambda data: data + b"\0",
    "another's": lambda data: pickle.dumps({"epoch": 1}),
}


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    """A network that trains in moments."""
    space = spaces.load(Path("one.yaml"), text=SPACE)
    config: Config = space.at({})
    return dict(config.model_dump(mode="json"))


def train(folder: Path, config: dict[str, Any], *, number: int = 1) -> tuple[list[Any], Ending]:
    """One attempt with the checkpoints in a study's folder: its epochs without times and without
    what the first report says of the attempt, its end.
    """
    place = Workplace(str(folder / "checkpoints"), keep=2, threads=1, logs=str(folder / "logs"))
    assignment = Assignment(0, 0, number, 7, "key-r0", config, known=0)
    *epochs, ending = worker.attempt(assignment, place)
    else_told = ("seconds", "images_per_second", "device", "images")
    kept = [{k: v for k, v in epoch.items() if k not in else_told} for epoch in epochs]
    return kept, ending


@pytest.fixture(scope="module")
def straight(config: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """The epochs of an attempt that nothing happens to."""
    return train(tmp_path_factory.mktemp("straight"), config)[0]


@pytest.fixture
def trained(config: dict[str, Any], straight: list[Any], tmp_path: Path) -> list[Path]:
    """The checkpoints of an attempt that has just ended, the oldest first."""
    train(tmp_path, config)
    files = sorted((tmp_path / "checkpoints" / "key-r0").glob("*.pt"))
    assert [file.name[:11] for file in files] == ["epoch-00003", "epoch-00004"]
    return files


@pytest.mark.parametrize("many", [1, 2], ids=["the newest", "all"])
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_damage_costs_epochs_and_no_more(
    damage: Callable[[bytes], bytes],
    many: int,
    trained: list[Path],
    straight: list[Any],
    config: dict[str, Any],
    tmp_path: Path,
) -> None:
    """From the one before, or from the start: a warning, the same numbers, an end in order."""
    for file in trained[-many:]:
        file.write_bytes(damage(file.read_bytes()))
    with pytest.warns(RuntimeWarning, match="is damaged or absent; falling back to the one before"):
        epochs, ending = train(tmp_path, config, number=2)

    assert ending == Ending("finished", "")
    assert epochs == straight
    assert "Traceback" not in logs.read(tmp_path, 0, 0, 2)
    for file in (tmp_path / "checkpoints" / "key-r0").glob("*.pt"):
        assert hashlib.sha256(file.read_bytes()).hexdigest() == file.name.split(".")[1]


def test_a_sector_that_cannot_be_read(
    trained: list[Path],
    straight: list[Any],
    config: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """EIO is damage too: the one before is used."""
    cat = LocalFileSystem.cat_file

    def broken(self: Any, path: str, *args: Any, **kwargs: Any) -> bytes:
        if "epoch-00004" in path:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return bytes(cat(self, path, *args, **kwargs))

    monkeypatch.setattr(LocalFileSystem, "cat_file", broken)
    with pytest.warns(RuntimeWarning, match="epoch-00004 cannot be read"):
        epochs, ending = train(tmp_path, config, number=2)

    assert ending == Ending("finished", "")
    assert epochs == straight


def test_another_runs_checkpoint_is_passed_over(
    trained: list[Path], config: dict[str, Any], tmp_path: Path
) -> None:
    """What was trained on other data is neither told nor gone on from: the trial starts over."""
    other = {**config, "dataset": {**config["dataset"], "split_seed": 1}}
    straight, _ = train(tmp_path / "straight", other)
    with pytest.warns(RuntimeWarning, match="another run's .* passed over"):
        epochs, ending = train(tmp_path, other, number=2)

    assert ending == Ending("finished", "")
    assert epochs == straight
    assert not any(file.exists() for file in trained)
    again, ending = train(tmp_path, other, number=3)
    assert (again, ending) == (straight, Ending("finished", ""))


def test_a_checkpoint_is_never_unpickled(
    trained: list[Path], straight: list[Any], config: dict[str, Any], tmp_path: Path
) -> None:
    """One that carries code, its digest right: that is not run, and the one before is used."""

    class Evil:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "ran",)

    trained[-1].unlink()
    torch.save({"key": Evil()}, tmp_path / "evil")
    data = (tmp_path / "evil").read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    (trained[-1].parent / f"epoch-00004.{digest}.pt").write_bytes(data)
    with pytest.warns(RuntimeWarning, match="holds more than tensors"):
        epochs, ending = train(tmp_path, config, number=2)

    assert ending == Ending("finished", "")
    assert epochs == straight
    assert not (tmp_path / "ran").exists()
