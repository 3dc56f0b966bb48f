"""Why a pruner stopped a trial, in words, with its rivals where they are known.

Optuna's pruners answer yes or no. Here the comparison is made once more from the same trials, for
people to read; nothing is decided by it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from search.pruning.pareto_pruner import ParetoPruner
from search.sampling.by_name import setting
from spaces.errors import counted


def words(
    spec: Mapping[str, Any], costs: Mapping[str, float], study: optuna.Study, trial: FrozenTrial
) -> str:
    """Why the pruner of `spec` stopped `trial` at its last step: its name, the epoch and the value,
    and what it was compared with. `study` shows the same trials as it showed the pruner.
    """
    step = max(trial.intermediate_values)
    value = trial.intermediate_values[step]
    name = spec["name"]
    arguments = {key: spec[key] for key in spec if key not in ("name", "among", "wrapped")}
    if math.isnan(value):
        return f"{name}: nan at epoch {step}"
    match name:
        case "ParetoPruner":
            asked = study.pruner  # it remembers those that are over, unless another one wraps it
            if not isinstance(asked, ParetoPruner):
                asked = ParetoPruner(costs=costs, **arguments)
            return f"{name}: {asked.judge(study, trial)}"
        case "PatientPruner":
            patience = counted(spec["patience"], "epoch")
            text = f"{name}: no gain for {patience} at epoch {step} ({value:.4g})"
            wrapped = spec.get("wrapped")
            return f"{text}; {words(wrapped, costs, study, trial)}" if wrapped else text
        case "MedianPruner":
            return f"{name}: {_behind(50.0, study, trial, step)}"
        case "PercentilePruner":
            return f"{name}: {_behind(spec['percentile'], study, trial, step)}"
        case "SuccessiveHalvingPruner" | "HyperbandPruner":
            quota = setting(getattr(optuna.pruners, name), arguments, "reduction_factor")
            among = _rung(study, trial) if name == "SuccessiveHalvingPruner" else "of its bracket"
            return f"{name}: not in the best 1/{quota} {among} at epoch {step} ({value:.4g})"
        case "ThresholdPruner":
            low, high = spec.get("lower"), spec.get("upper")
            side = f"below {low}" if low is not None and value < low else f"above {high}"
            return f"{name}: {side} at epoch {step} ({value:.4g})"
        case _:
            return f"{name} at epoch {step} ({value:.4g})"


def _behind(percentile: float, study: optuna.Study, trial: FrozenTrial, step: int) -> str:
    """The comparison of Optuna's percentile rule: own best so far against complete peers' values
    at the same step.
    """
    peers = {
        peer.number: peer.intermediate_values[step]
        for peer in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if step in peer.intermediate_values
    }
    maximize = study.direction == StudyDirection.MAXIMIZE
    bound = np.nanpercentile(list(peers.values()), 100 - percentile if maximize else percentile)
    own = (np.nanmax if maximize else np.nanmin)(list(trial.intermediate_values.values()))
    which = "median" if percentile == 50 else f"best {percentile:g} %"
    text = f"behind the {which} of {len(peers)} peers at epoch {step}"
    return f"{text} ({own:.4g} {'<' if maximize else '>'} {bound:.4g}); {_best(peers, maximize)}"


def _rung(study: optuna.Study, trial: FrozenTrial) -> str:
    """The rivals of successive halving: who has noted a value at the trial's highest rung."""
    rungs = [key for key in trial.system_attrs if key.startswith("completed_rung_")]
    if not rungs:
        return "of its rung"
    rung = max(rungs, key=lambda key: int(key.rpartition("_")[2]))
    rivals = {
        rival.number: rival.system_attrs[rung]
        for rival in study.get_trials(deepcopy=False)
        if rung in rival.system_attrs
    }
    maximize = study.direction == StudyDirection.MAXIMIZE
    many, place = counted(len(rivals), "trial"), rung.rpartition("_")[2]
    return f"of {many} in rung {place}, {_best(rivals, maximize)},"


def _best(values: Mapping[int, float], maximize: bool) -> str:
    """The three best, such as `best #3 0.611 #7 0.59`."""
    known = [number for number in values if not math.isnan(values[number])]
    known.sort(key=lambda number: (-values[number] if maximize else values[number], number))
    return "best " + " ".join(f"#{number} {values[number]:.4g}" for number in known[:3])
