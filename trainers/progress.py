"""How far a run has come, in its checkpoints: named by epoch and step, told apart, swept.

`epoch-00003` is the state after three epochs, `epoch-00003-step-0000120` that after 120 steps of
the fourth: in the order of their names, which is that of the training.
"""

from __future__ import annotations

import warnings
from pathlib import Path

from spaces.config import Config
from trainers import checkpoint as checkpoints
from trainers.data import Judge, content, sources
from trainers.keys import run_key
from trainers.run import Metrics, Run, State


def begun(
    checkpoint: str | Path, config: Config, *, seed: int = 0, judge: Judge = "val"
) -> list[Metrics] | None:
    """The metrics of every whole epoch that `train(resume=True)` would go on after.

    None where it would start over: there is no whole checkpoint, or it is another run's, of other
    data, another recipe or another seed, of which is warned. Raises DatasetError for data that is
    not there.
    """
    state = checkpoints.newest(checkpoint)
    if state is None:
        return None
    key = run_key(config, content(sources(config.dataset, judge)), judge)
    if said := foreign(state, key, seed):
        warnings.warn(f"{checkpoint}: {said}; it is passed over", RuntimeWarning, stacklevel=2)
        return None
    return list(state["history"])


def history(
    checkpoint: str | Path,
    config: Config | None = None,
    *,
    seed: int = 0,
    judge: Judge = "val",
) -> list[Metrics]:
    """The metrics of every epoch up to the newest whole checkpoint; empty without one.

    With `config` its own, trained with `seed` on the data that is there now and judged by `judge`:
    of another run's checkpoint nothing, as `begun` says.
    """
    if config is not None:
        return begun(checkpoint, config, seed=seed, judge=judge) or []
    state = checkpoints.newest(checkpoint)
    return [] if state is None else list(state["history"])


def foreign(state: State, key: str, seed: int) -> str:
    """What makes a checkpoint another run's; empty where it is the run's own."""
    if (state["key"], state["seed"]) == (key, seed):
        return ""
    return (
        f"this checkpoint is another run's (got run key {state['key']} with seed "
        f"{state['seed']}; allowed {key} with seed {seed})"
    )


class Stored:
    """A run's checkpoints in one place, while it trains; the last `keep` of them stay.

    Of a team the first process writes them, and every one calls.
    """

    def __init__(self, location: str | Path, run: Run, key: str, keep: int) -> None:
        self._location = location
        self._run = run
        self._key = key
        self._keep = keep
        self._stale = self._later()

    def put(self) -> None:
        """Store the run as it is, drop older states and, once, what was stale when it began.

        Later ones that came since are left alone: a successor of ours, who was given the run while
        we were out of reach, is further than we are. A store that fails costs a warning.
        """
        name, state = _name(self._run), self._run.state(self._key)
        if self._run.team.rank:
            return
        try:
            checkpoints.put(self._location, name, state)
            self._stale.discard(name)
            for key in sorted(self._stale):
                checkpoints.remove(self._location, key)
                self._stale.discard(key)
            checkpoints.keep(self._location, self._keep)
        except MemoryError:
            raise
        except Exception as error:  # every file system has errors of its own; none is the run's
            where = f"epoch {self._run.epoch - 1}" + f", step {self._run.done}" * bool(
                self._run.done
            )
            warnings.warn(f"{self._location}: no checkpoint of {where} ({error})", stacklevel=2)

    def _later(self) -> set[str]:
        """Checkpoints beyond where the run begins: damaged ones, or another run's."""
        try:
            return {key for key in checkpoints.keys(self._location) if key > _name(self._run)}
        except Exception:  # it is away: `put` says so
            return set()


def _name(run: Run) -> str:
    whole = f"epoch-{run.epoch - 1:05d}"
    return f"{whole}-step-{run.done:07d}" if run.done else whole
