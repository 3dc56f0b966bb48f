"""The study as a real Optuna journal, for optuna-dashboard and whatever else reads one.

It is a copy of what the journal says, written anew each time, and nothing reads it back.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.front import tables
from spaces.durable import write_whole

if TYPE_CHECKING:
    from search.study.study import Study

FILE = "optuna.log"


def write(study: Study, file: Path) -> int:
    """Write every proposal that is over to `file`, whole or not at all; returns how many.

    Optuna's trials are proposals: what was refused is PRUNED there, a duplicate has the values of
    the trial that answered it. User attributes say which network each is.
    """
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    from search.study.main_study import name_objectives

    known = {
        _key(values): trial
        for trial in study.trials
        for values in (trial.values, *(alias["values"] for alias in trial.aliases))
    }
    over = [trial for trial in study.optuna.get_trials(deepcopy=True) if trial.state.is_finished()]
    for proposal in over:
        if (trial := known.get(_key(proposal.params))) is not None:
            proposal.user_attrs |= {
                "trial": trial.number,
                "network": trial.label,
                "kernels": tables.kernels(trial.kernels),
                "identity": trial.identity,
                "outcome": trial.outcome,
            }
    with tempfile.TemporaryDirectory(prefix="eca-search-") as scratch:
        path = Path(scratch) / FILE
        copy = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(path))),
            study_name=study.name,
            directions=study.optuna.directions,
        )
        name_objectives(copy, study.objectives)
        copy.add_trials(over)
        write_whole(file, path.read_bytes())
    return len(over)


def _key(values: dict[str, Any]) -> str:
    return json.dumps(values, sort_keys=True)
