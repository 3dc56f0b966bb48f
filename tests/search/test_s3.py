"""Checkpoints and a mirrored journal in a bucket, over S3's own protocol (moto's server)."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

import search
from search.cli import main
from search.study.mirror import Place

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """`s3://studies`, empty, as s3fs finds it by the environment."""
    import s3fs

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    where = f"http://127.0.0.1:{port}"
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    facts = {"ACCESS_KEY_ID": "key", "SECRET_ACCESS_KEY": "secret", "DEFAULT_REGION": "us-east-1"}
    for name, value in {**facts, "ENDPOINT_URL": where}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("MOTO_ALLOW_NONEXISTENT_REGION", "1")
    try:
        until = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"{where}/moto-api/", timeout=5).close()
                break
            except OSError:
                assert time.monotonic() < until, "moto's server did not come up"
                time.sleep(0.2)
        s3fs.S3FileSystem.clear_instance_cache()
        s3fs.S3FileSystem().mkdir("studies")
        yield "s3://studies"
    finally:
        s3fs.S3FileSystem.clear_instance_cache()
        server.terminate()
        server.wait(timeout=30)


def test_a_study_goes_on_from_a_bucket_on_another_machine(bucket: str, tmp_path: Path) -> None:
    """Its journal's mirror and its checkpoints are all that the second machine knows: no network is
    trained again, and the numbers are those that they were.
    """
    import s3fs

    asked = [f"search.checkpoints.uri={bucket}/checkpoints", f"search.mirror={bucket}/mirror"]
    small = ["search.trials=2", "training.epochs=2", "search.pruner=null", *asked]
    first = search.run("digits", out=tmp_path / "here", overrides=small, executor="inprocess")
    kept = s3fs.S3FileSystem().find("studies")
    assert any(name.startswith("studies/mirror/digits/segment-") for name in kept)
    assert any(name.startswith("studies/checkpoints/") for name in kept)

    again = ["resume", f"{bucket}/mirror/digits", "--out", str(tmp_path / "there"), "--trials", "3"]
    assert main(again) == 0
    second = search.load(tmp_path / "there" / "digits")
    assert len(second.trials) == 3
    for before, after in zip(first.trials, second.trials[:2], strict=True):
        assert after.replicates == before.replicates


def test_a_bucket_that_is_full_of_another_study_is_refused(
    bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A second study of the name would mix two journals: it exits 2 and names the mirror."""
    small = ["digits", "search.trials=1", "training.epochs=1", f"search.mirror={bucket}/mirror"]
    run = ["run", *small, "--executor", "inprocess", "--out"]
    assert main([*run, str(tmp_path / "one")]) == 0
    capsys.readouterr()
    assert main([*run, str(tmp_path / "two")]) == 2
    said = capsys.readouterr().err
    assert f"{bucket}/mirror" in said
    assert len(said.strip().splitlines()) <= 6


def test_one_of_two_creates_a_file_in_a_bucket(bucket: str) -> None:
    """The other one is told so, by a conditional write; what the first wrote stays."""
    place = Place(f"{bucket}/mirror/small")
    place.create("lease-000001.json", b"first")

    with pytest.raises(FileExistsError):
        place.create("lease-000001.json", b"second")
    assert place.get("lease-000001.json") == b"first"
