"""Processes that meet: one that prepares is waited for, one that is gone is not."""

from __future__ import annotations

import os
import subprocess
import sys

from search.execution.meeting import called

MEMBER = """
import sys, time, torch.distributed
from datetime import timedelta
from search.execution import meeting
from search.execution.meeting import Meeting, joined
port, rank, takes, listening = map(int, sys.argv[1:])
meeting.BEAT, meeting.PATIENCE = 0.1, timedelta(seconds=3)
place = Meeting("127.0.0.1", port, rank, 2, "127.0.0.1", None if listening < 0 else listening)
print("here", flush=True)
input()  # importing takes how long it takes
try:
    with joined(place, gpu=False, prepare=lambda: time.sleep(takes)) as group:
        print(group.size())
except TimeoutError as error:
    print(error)
"""


def meet(*takes: int) -> list[str]:
    """What each process says that prepares for so many seconds, of two."""
    place = called("127.0.0.1", 2)
    assert place.listening is not None
    members = [
        subprocess.Popen(
            [
                *(sys.executable, "-c", MEMBER, str(place.port), str(rank), str(seconds)),
                str(-1 if rank else place.listening),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=() if rank else (place.listening,),
        )
        for rank, seconds in enumerate(takes)
    ]
    os.close(place.listening)
    for member in members:
        assert member.stdout is not None
        assert member.stdout.readline() == "here\n"
    for member in members:
        assert member.stdin is not None
        member.stdin.write("\n")
        member.stdin.flush()
    return [member.communicate(timeout=120)[0].strip() for member in members]


def test_one_that_prepares_is_waited_for() -> None:
    """For longer than the patience of an exchange: it gives signs of life."""
    assert meet(0, 6) == ["2", "2"]
    assert meet(6, 0) == ["2", "2"]


def test_one_that_never_comes_is_not() -> None:
    """The first says who is missing."""
    assert meet(0) == ["process 1 of 2 has not come"]
