"""What a person asks of a study that another terminal, or another machine, is driving.

A request is an empty file in the study's `control/` folder: `stop.000003` asks driver 3 (by its
fencing number) to stop, `stop-0017.000003` to end trial 17. Its name is all it says, so that there
is nothing to be half written. It is meant for one driver, and what an earlier one left undone stops
no later one.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

from search import drivers
from search.errors import Stopped

if TYPE_CHECKING:
    from search.drivers import Holder
    from search.study import Study

FOLDER = "control"
EVERY = 1.0
"""Seconds between two looks of the driver."""
_NAME = re.compile(r"stop(?:-(?P<trial>\d{4,9}))?\.(?P<fence>\d{6,12})")


def ask(folder: Path, trial: int | None = None) -> Holder | None:
    """Ask the study's driver to stop, or to end one trial; returns who was asked.

    None where nobody drives the study: nothing is asked then. Raises OSError for a folder that
    cannot be written.
    """
    driver = drivers.driver(folder)
    if driver is not None:
        (folder / FOLDER).mkdir(mode=0o700, exist_ok=True)
        _path(folder, trial, driver.fence).touch(mode=0o600)
    return driver


def withdraw(folder: Path, driver: Holder, trial: int | None = None) -> None:
    """Take a request back, if it is still there."""
    _path(folder, trial, driver.fence).unlink(missing_ok=True)


def wishes(folder: Path, fence: int) -> list[int | None]:
    """What is asked of the driver of that number: trials to end, then None to stop the study."""
    return sorted(
        (trial for trial, meant in _requests(folder) if meant == fence),
        key=lambda trial: (trial is None, trial),
    )


class Requests:
    """The driver's side: made once it holds the study, called often, looking now and then."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._looked = 0.0

    def obey(self, study: Study) -> None:
        """End the trials that somebody wants ended; raises Stopped where the study is to stop."""
        now = time.monotonic()
        if now - self._looked < EVERY:
            return
        self._looked = now
        own = study.fence  # not the folder's newest, which may be another driver's by now
        for trial, fence in _requests(self._folder):
            if fence < own:
                _path(self._folder, trial, fence).unlink(missing_ok=True)
        for trial in wishes(self._folder, own):
            if trial is None:
                raise Stopped("stopped by hand")
            if trial in study.history.trials:
                study.stop(trial)
                study.commit()
            _path(self._folder, trial, own).unlink(missing_ok=True)


def _requests(folder: Path) -> list[tuple[int | None, int]]:
    """Every request as (trial or None, fencing number); a folder that cannot be read has none."""
    try:
        names = os.listdir(folder / FOLDER)
    except OSError:
        return []
    found = [match for name in names if (match := _NAME.fullmatch(name))]
    return [(int(m["trial"]) if m["trial"] else None, int(m["fence"])) for m in found]


def _path(folder: Path, trial: int | None, fence: int) -> Path:
    what = "stop" if trial is None else f"stop-{trial:04d}"
    return folder / FOLDER / f"{what}.{fence:06d}"
