"""What a person asks of a study that another terminal, or another machine, is driving.

A request is an empty file in the study's `control/` folder: `stop.000003` asks driver 3 (by its
fencing number) to stop, `stop-0017.000003` to end trial 17, `at-most-0004.000003` to run at most
four trials at a time. Its name is all it says, so that there is nothing to be half written. It is
meant for one driver, and what an earlier one left undone stops no later one.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from search.errors import Stopped
from search.study import drivers

if TYPE_CHECKING:
    from search.study.drivers import Holder
    from search.study.study import Study

FOLDER = "control"
EVERY = 1.0
"""Seconds between two looks of the driver."""
_NAME = re.compile(r"(?P<verb>stop|at-most(?=-))(?:-(?P<number>\d{4,9}))?\.(?P<fence>\d{6,12})")


class Wish(NamedTuple):
    """To `stop` the study, or one trial by its number; or that `at-most` so many run at a time."""

    verb: Literal["stop", "at-most"] = "stop"
    number: int | None = None


STOP = Wish()


def ask(folder: Path, wish: Wish = STOP) -> Holder | None:
    """Ask something of the study's driver; returns who was asked.

    None where nobody drives the study: nothing is asked then. Raises OSError for a folder that
    cannot be written.
    """
    driver = drivers.driver(folder)
    if driver is not None:
        (folder / FOLDER).mkdir(mode=0o700, exist_ok=True)
        _path(folder, wish, driver.fence).touch(mode=0o600)
    return driver


def waits(folder: Path, driver: Holder, wish: Wish) -> bool:
    """Whether the driver has yet to obey."""
    return _path(folder, wish, driver.fence).exists()


def withdraw(folder: Path, driver: Holder, wish: Wish = STOP) -> None:
    """Take a request back, if it is still there."""
    _path(folder, wish, driver.fence).unlink(missing_ok=True)


def wishes(folder: Path, fence: int) -> list[Wish]:
    """What is asked of the driver of that number: all else first, to stop the study last."""
    return sorted(
        (wish for wish, meant in _requests(folder) if meant == fence),
        key=lambda wish: (wish == STOP, *map(str, wish)),
    )


class Requests:
    """The driver's side: made once it holds the study, called often, looking now and then."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._looked = 0.0

    def obey(self, study: Study) -> None:
        """Do what is asked; raises Stopped where the study is to stop."""
        now = time.monotonic()
        if now - self._looked < EVERY:
            return
        self._looked = now
        own = study.fence  # not the folder's newest, which may be another driver's by now
        for wish, fence in _requests(self._folder):
            if fence < own:
                _path(self._folder, wish, fence).unlink(missing_ok=True)
        for wish in wishes(self._folder, own):
            if wish == STOP:
                raise Stopped("stopped by hand")
            if wish.verb == "at-most":
                study.narrow(wish.number or 1)
            elif wish.number in study.history.trials:
                study.stop(wish.number)
            study.commit()
            _path(self._folder, wish, own).unlink(missing_ok=True)


def _requests(folder: Path) -> list[tuple[Wish, int]]:
    """Every request with the fencing number it is meant for; an unreadable folder has none."""
    try:
        names = os.listdir(folder / FOLDER)
    except OSError:
        return []
    found = [match for name in names if (match := _NAME.fullmatch(name))]
    return [
        (
            Wish(
                "stop" if m["verb"] == "stop" else "at-most",
                int(m["number"]) if m["number"] else None,
            ),
            int(m["fence"]),
        )
        for m in found
    ]


def _path(folder: Path, wish: Wish, fence: int) -> Path:
    what = wish.verb if wish.number is None else f"{wish.verb}-{wish.number:04d}"
    return folder / FOLDER / f"{what}.{fence:06d}"
