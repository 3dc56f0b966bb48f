"""What is seen of a study while it runs: a block that is kept current, or one line an event.

Both are watchers: `launch` calls them after commits, so that what they print is on the disk. They
write to stderr and never stop a search: a stream that is closed is written to no more.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol, TextIO

from search import text
from search.front import tables

if TYPE_CHECKING:
    from rich.live import Live
    from rich.text import Text

    from search.study.study import Study
    from search.trial import Trial

PAUSE = 0.2
"""Seconds between two looks at the study."""
QUIET = 60.0
"""Seconds without an event after which a log gets a line on how things stand."""
SHOWN = 8
"""Running trials listed in the block."""
COLOURS = {"finished": 32, "pruned": 33, "preempted": 33, "interrupted": 33}
"""ANSI colours of outcomes; all others are red."""


class Progress(Protocol):
    """Called with the study after commits; `say` prints a line that is not about a trial."""

    def __call__(self, study: Study) -> None:
        """Look, if it is time to."""

    def say(self, line: str) -> None:
        """Print one line."""


@contextmanager
def shown(*, color: bool | None = None, as_json: bool = False) -> Iterator[Progress]:
    """Progress on stderr: the block on a terminal that can show it, lines anywhere else.

    With `as_json` each of them is a JSON object, also on a terminal.
    """
    stream = sys.stderr
    if as_json:
        yield JsonLines(stream)
        return
    terminal = stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"
    colored = terminal and color is not False and not os.environ.get("NO_COLOR")
    progress = Block(stream, colored) if terminal else Lines(stream)
    try:
        yield progress
    finally:
        progress.close()


class _Events:
    """What has happened to trials since the last look, as lines."""

    def __init__(self, colored: bool) -> None:
        self._colored = colored
        self._began = time.time()
        self._ended: set[int] = set()
        self._promoted: set[int] = set()
        self._seeds: set[tuple[int, int]] = set()
        self._attempts: dict[int, int] = {}

    def news(self, study: Study) -> Iterator[tuple[str, Trial, str]]:
        """One line for every trial that ended (a `trial`), was promoted, or has an attempt that
        goes again (an `attempt`).
        """
        for trial in study.trials:
            new = trial.outcome is None or (trial.ended or 0) >= self._began - 1e-3
            if trial.promoted is not None and trial.number not in self._promoted:
                self._promoted.add(trial.number)
                self._ended.discard(trial.number)
                if new and not self._told_before(trial):
                    yield "attempt", trial, f"{text.clean(trial.name)} {text.promoted(trial)}"
            if trial.number in self._ended:
                continue
            if trial.outcome is not None:
                self._ended.add(trial.number)
                if new:
                    yield "trial", trial, self._end(study, trial)
                continue
            tried = [attempt for r in trial.replicates for attempt in r.attempts]
            for attempt in tried[self._attempts.get(trial.number, 0) :]:
                if attempt.outcome is None:
                    break
                self._attempts[trial.number] = self._attempts.get(trial.number, 0) + 1
                again = attempt.outcome not in ("finished", "interrupted", "pruned")
                if again and (attempt.ended or 0) >= self._began - 1e-3:
                    reason = text.clean(attempt.reason)
                    ended = f"{text.clean(trial.name)} {self._word(attempt.outcome)}"
                    yield "attempt", trial, f"{ended}, goes again: {reason}"

    def _told_before(self, trial: Trial) -> bool:
        """Whether an earlier driver has begun with what a promoted trial lacks."""
        attempts = trial.replicates[0].attempts
        stopped = max((n for n, a in enumerate(attempts) if a.outcome == "pruned"), default=-1)
        return any(attempt.started < self._began - 1e-3 for attempt in attempts[stopped + 1 :])

    def seeds(self, study: Study) -> Iterator[str]:
        """One line for every seed that has finished of a trial that has more to come, and for every
        one that a trial which was over has been given since.
        """
        planned = study.space.search.replicates
        for trial in study.trials:
            if trial.outcome not in (None, "finished"):
                continue
            told = trial.outcome is None or trial.number in self._ended  # else its own line does
            for replicate in trial.replicates:
                place, further = (trial.number, replicate.number), replicate.number >= planned
                if replicate.outcome != "finished" or place in self._seeds:
                    continue
                self._seeds.add(place)
                if not told or not (further or planned > 1):
                    continue
                if (replicate.attempts[-1].ended or 0) >= self._began - 1e-3:
                    which = "further seed" if further else "seed"
                    said = f"{text.clean(trial.name)} {which} {replicate.number + 1}"
                    said += "" if further else f" of {planned}"
                    if study.judged is not None:
                        value = tables.share(replicate.curve[-1][study.judged])
                        said += f" {study.judged} {value}"
                    yield said

    def _end(self, study: Study, trial: Trial) -> str:
        assert trial.outcome is not None
        words = [text.clean(trial.name), self._word(trial.outcome)]
        if trial.reason:
            words.append(f"({text.clean(trial.reason)})")
        if trial.objectives is not None:
            words.append(text.values(study, trial))
        return f"{' '.join(words)} ({len(self._ended)} of {study.expected})"

    def _word(self, outcome: str) -> str:
        return f"\033[{COLOURS.get(outcome, 31)}m{outcome}\033[0m" if self._colored else outcome


class _Pace:
    """How much of the study's work is done, and when the rest will be, going on as until now."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self._before: float | None = None

    def left(self, study: Study) -> float | None:
        """Seconds until the study's trials have all ended; None where nothing is known yet."""
        done = sum(_share(trial, study.space.search.replicates) for trial in study.trials)
        if self._before is None:
            self._before = done
        fresh, elapsed = done - self._before, time.monotonic() - self.began
        if fresh <= 0:
            return None
        return max(0.0, study.expected - done) * elapsed / fresh


def _share(trial: Trial, replicates: int) -> float:
    """Which share of a trial's own work, so many seeds, is done."""
    if trial.outcome is not None:
        return 1.0
    epochs: int = trial.config["training"]["epochs"]
    return min(1.0, trial.epochs / epochs / max(replicates, len(trial.replicates)))


class Lines:
    """One line an event, for logs: `#007 w0.5 eca s2,3 k3-3 finished val_accuracy 0.9312 ...`."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self._events = _Events(colored=False)
        self._pace = _Pace()
        self._looked = 0.0
        self._spoke = time.monotonic()

    def __call__(self, study: Study) -> None:
        """Print what has happened, or, after a quiet minute, how things stand."""
        now = time.monotonic()
        if now - self._looked < PAUSE and study.history.ended is None:
            return
        self._looked = now
        left = self._pace.left(study)
        for line in self._events.seeds(study):
            self.tell(line, "seed", study)
        for event, trial, line in self._events.news(study):
            self.tell(line, event, study, trial)
        if now - self._spoke > QUIET:
            eta = "" if left is None else f"; ETA {text.duration(left)}"
            line = f"{text.tally(study)}{eta}; {'; '.join(_running(study, SHOWN))}"
            self.tell(line, "state", study)

    def tell(self, line: str, event: str, study: Study, trial: Trial | None = None) -> None:
        """Print what has happened; the line says it all."""
        self.say(line)

    def say(self, line: str) -> None:
        """Print one line, unless nobody reads any more."""
        self._spoke = time.monotonic()
        try:
            if self._stream is not None:
                print(line, file=self._stream, flush=True)
        except (OSError, ValueError):
            self._stream = None

    def close(self) -> None:
        """Nothing is left open."""


class JsonLines(Lines):
    """The same events as JSON objects, one a line, for what collects logs.

    Each has `time` (UTC, ISO 8601), `event` and `message`, the line that is printed otherwise. An
    event is a `trial` that ended, an `attempt` that goes again, a `seed`, the `state` of things
    after a quiet minute, or a `note`; what is about a trial has `study`, `trial`, `name` and
    `outcome`, its objectives as `values` where it has them, and as `promoted` the probability to be
    on the front that has given it a second chance.
    """

    def tell(self, line: str, event: str, study: Study, trial: Trial | None = None) -> None:
        """One event as an object."""
        facts: dict[str, object] = {"study": study.name}
        if trial is not None:
            facts |= {"trial": trial.number, "name": text.clean(trial.name)}
            facts |= {"outcome": trial.outcome, "values": trial.objectives}
            facts |= {} if trial.promoted is None else {"promoted": trial.promoted}
        self._object(line, event, **facts)

    def say(self, line: str) -> None:
        """A line that is not about a trial, as an object."""
        self._object(line, "note")

    def _object(self, message: str, event: str, **facts: object) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        told = {"time": now, "event": event, "message": message, **facts}
        super().say(json.dumps(told, ensure_ascii=False))


class Block:
    """A block at the bottom of a terminal; endings that a person should know of stay above it."""

    def __init__(self, stream: TextIO, colored: bool) -> None:
        from rich.console import Console

        self._console = Console(file=stream, no_color=not colored, highlight=False, soft_wrap=False)
        self._events = _Events(colored)
        self._pace = _Pace()
        self._gpus = _Gpus()
        self._live: Live | None = None
        self._looked = 0.0
        self._lines: list[str] = []
        self._left: float | None = None
        self._worth: tuple[int, str] = (-1, "")

    def __call__(self, study: Study) -> None:
        """Bring the block up to date."""
        now = time.monotonic()
        if now - self._looked < PAUSE and study.history.ended is None:
            return
        self._looked = now
        self._left = self._pace.left(study)
        for event, trial, line in self._events.news(study):
            if event == "attempt" or trial.outcome not in ("finished", "pruned"):
                self.say(line)
        self._lines = list(self._about(study))
        if self._live is None:
            from rich.live import Live

            self._live = Live(self, console=self._console, refresh_per_second=2, transient=True)
            self._live.start()

    def say(self, line: str) -> None:
        """Print one line above the block."""
        from rich.text import Text

        self._console.print(Text.from_ansi(line))

    def close(self) -> None:
        """Take the block away."""
        self._gpus.close()
        if self._live is not None:
            self._live.stop()

    def __rich__(self) -> Text:
        """The block, with the time as it is now."""
        from rich.text import Text

        times = [f"elapsed {text.duration(time.monotonic() - self._pace.began)}"]
        if self._left is not None:
            passed = time.monotonic() - self._looked
            times.append(f"ETA {text.duration(max(0.0, self._left - passed))}")
        times += self._gpus.lines
        head, *rest = self._lines
        return Text("\n".join([head, "   ".join(times), *rest]), no_wrap=True, overflow="ellipsis")

    def _about(self, study: Study) -> Iterator[str]:
        yield f"{study.name}   {text.tally(study)}"
        ended = sum(study.outcomes().values())
        if self._worth[0] != ended and study.pareto():
            self._worth = (ended, text.worth(study).partition(" (")[0])
        best = text.best(study)
        if best is not None:
            yield f"best    {text.clean(best.name)}  {text.values(study, best)}"
            yield f"front   {self._worth[1]}"
        yield from _running(study, SHOWN)


def _running(study: Study, most: int) -> Iterator[str]:
    """One line for each running trial: how far it is, and its newest value."""
    judged = study.judged
    running = [t for t in study.trials if t.outcome is None and t.replicates]
    for trial in running[:most]:
        replicate = trial.replicates[-1]
        epochs = trial.config["training"]["epochs"]
        line = f"{text.clean(trial.name)}  epoch {len(replicate.curve)}/{epochs}"
        if len(trial.replicates) > 1:
            line += f" of replicate {replicate.number + 1}"
        if replicate.curve and judged in replicate.curve[-1]:
            line += f"  {judged} {tables.share(replicate.curve[-1][judged])}"
        yield line
    if len(running) > most:
        yield f"... and {len(running) - most} more running"


class _Gpus:
    """What this machine's GPUs do, read now and then from `nvidia-smi` where there is one."""

    QUERY = "--query-gpu=index,utilization.gpu,memory.used,memory.total"

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._over = threading.Event()
        if shutil.which("nvidia-smi"):
            threading.Thread(target=self._follow, daemon=True).start()

    def close(self) -> None:
        self._over.set()

    def _follow(self) -> None:
        while not self._over.is_set():
            try:
                told = subprocess.run(
                    ["nvidia-smi", self.QUERY, "--format=csv,noheader,nounits"],
                    capture_output=True,
                    text=True,
                    timeout=10,
                    check=True,
                ).stdout
            except (OSError, subprocess.SubprocessError):
                return
            self.lines = [gpu(line) for line in told.splitlines()]
            self._over.wait(2)


def gpu(line: str) -> str:
    """One line of `nvidia-smi` as `GPU 0 97 % 12.3/80.0 GiB`; what it does not know is left out."""
    index, busy, used, total = (part.strip() for part in line.split(","))
    words = [f"GPU {index}"]
    if busy.isdigit():
        words.append(f"{busy} %")
    if used.isdigit() and total.isdigit():
        words.append(f"{int(used) / 1024:.1f}/{int(total) / 1024:.1f} GiB")
    return " ".join(words)
