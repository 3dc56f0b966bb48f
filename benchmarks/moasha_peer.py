"""Syne Tune's own MOASHA behind a pipe: run by a Python that has syne-tune, asked by stopping.py.

One JSON object a line comes in, one line goes out: `{"begin": {"epochs": n, "metrics": [...],
"seed": s}}` starts anew, `{"trial": i, "epoch": e, "values": {...}}` is answered by STOP or
CONTINUE. All metrics are to be minimised; everything else is MOASHA's default.
"""

from __future__ import annotations

import json
import sys
from datetime import datetime
from importlib.metadata import version
from typing import Any

import numpy as np
from syne_tune.backend.trial_status import Trial
from syne_tune.config_space import uniform
from syne_tune.optimizer.schedulers.multiobjective.moasha import MOASHA


def main() -> None:
    scheduler: Any = None
    trials: dict[int, Trial] = {}
    for line in sys.stdin:
        asked = json.loads(line)
        if "version" in asked:
            answer = version("syne-tune")
        elif "begin" in asked:
            given = asked["begin"]
            np.random.seed(given["seed"])
            trials = {}
            scheduler = MOASHA(
                {"x": uniform(0, 1)},
                metrics=given["metrics"],
                time_attr="epoch",
                max_t=given["epochs"],
                random_seed=given["seed"],
            )
            answer = "BEGUN"
        else:
            number = asked["trial"]
            if number not in trials:
                trials[number] = Trial(number, {"x": 0.5}, datetime.now())
                scheduler.on_trial_add(trials[number])
            report = {"epoch": asked["epoch"], **asked["values"]}
            answer = scheduler.on_trial_result(trials[number], report)
        print(answer, flush=True)


if __name__ == "__main__":
    main()
