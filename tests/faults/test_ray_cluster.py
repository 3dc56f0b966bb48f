"""How a Ray cluster is looked at from outside, and how one of our own is closed to others."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from search.errors import Unfit
from search.execution import cluster
from search.execution.cluster import HeadGone, Pulse, environment, knock, own, refusal


@pytest.fixture
def head() -> socket.socket:
    """Something that listens as a head does."""
    return socket.create_server(("127.0.0.1", 0))


def address(head: socket.socket) -> str:
    return f"127.0.0.1:{head.getsockname()[1]}"


def test_a_head_that_answers_is_not_waited_for(head: socket.socket) -> None:
    """While somebody listens `check` returns."""
    with head, Pulse(address(head)) as pulse:
        pulse.check()

        assert not refusal(address(head), timeout=5)


def test_a_head_that_has_gone_ends_the_search(
    head: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When it stays silent `check` raises, past every `except Exception` of Tune's."""
    monkeypatch.setattr(cluster, "PATIENCE", 0.2)
    with Pulse(where := address(head)) as pulse:
        head.close()
        with pytest.raises(HeadGone, match=where):  # noqa: PT012 - until a knock is refused
            for _ in range(600):
                pulse.check()
                threading.Event().wait(0.05)

    assert not issubclass(HeadGone, Exception)


def test_a_head_that_was_out_of_reach_at_first_is_left_alone(head: socket.socket) -> None:
    """A client's head is behind a proxy: where nobody answers from the start, nobody knocks."""
    where = address(head)
    head.close()
    threads = set(threading.enumerate())
    with Pulse(where) as pulse:
        pulse.check()

        assert set(threading.enumerate()) <= threads  # those of tests before may end meanwhile


def test_a_search_that_hangs_in_ray_is_paused_truthfully() -> None:
    """Ray would end a process whose head is gone with exit code 1: ours says 75, and what to do."""
    hang = """
import socket, time
from search.execution import cluster
cluster.LAST = 1
head = socket.create_server(("127.0.0.1", 0))
with cluster.Pulse(f"127.0.0.1:{head.getsockname()[1]}", "paused; go on with: resume"):
    head.close()
    time.sleep(300)
"""
    ended = subprocess.run([sys.executable, "-c", hang], capture_output=True, text=True)

    assert ended.returncode == 75
    assert ended.stderr.endswith("answers no more\npaused; go on with: resume\n")


def test_where_nobody_listens_is_said_at_once(head: socket.socket) -> None:
    """A wrong address is told with what to do; names that Ray resolves itself are left to it."""
    where = address(head)
    head.close()
    knock("local", "local")
    knock("auto", "auto")

    with pytest.raises(Unfit, match=f"no Ray cluster at {where} .*\n.*ray start --head"):
        knock(where, where)


def test_rays_switches_last_as_long_as_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment is afterwards as before, also what Ray has put there meanwhile."""
    monkeypatch.setenv("TUNE_RESULT_BUFFER_LENGTH", "7")
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    before = dict(os.environ)
    with environment({"RAY_AUTH_TOKEN": "abc"}):
        os.environ["RAY_AUTH_MODE"] = "token"
        inside = dict(os.environ)

    assert inside["TUNE_RESULT_BUFFER_LENGTH"] == "1"
    assert inside["RAY_AUTH_TOKEN"] == "abc"
    assert dict(os.environ) == before


def test_our_own_cluster_has_a_token_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a person's token there is one of this process; a person's own is left alone."""
    monkeypatch.setenv("HOME", str(tmp_path))
    ours = own({})["RAY_AUTH_TOKEN"]
    given = own({"RAY_AUTH_TOKEN": "theirs"})
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("theirs")

    assert len(ours) == 64
    assert ours == cluster._token()
    assert "RAY_AUTH_TOKEN" not in given
    assert "RAY_AUTH_TOKEN" not in own({})
