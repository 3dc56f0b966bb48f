"""Samplers of other packages for `sampling.py`: asked over a pipe, in a Python that has them.

    pip install pymoo syne-tune==0.16.0 ax-platform

The first line says which, its seed, and the choices of every hole; then each line is the point of
the network proposed before it, to be minimised. What goes out is the next network, as the places of
its choices, and the CPU seconds that asking and telling took.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

Proposals = Iterator[list[int]]


def pymoo(start: dict[str, Any], told: list[list[float]]) -> Proposals:
    """NSGA-II on integers, duplicates eliminated, a population of 20."""
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.evaluator import Evaluator
    from pymoo.core.problem import Problem
    from pymoo.operators.crossover.sbx import SBX
    from pymoo.operators.mutation.pm import PM
    from pymoo.operators.repair.rounding import RoundingRepair
    from pymoo.operators.sampling.rnd import IntegerRandomSampling
    from pymoo.problems.static import StaticProblem

    sizes = np.array([len(choices) for choices in start["choices"]])
    problem = Problem(
        n_var=len(sizes), n_obj=start["objectives"], xl=0 * sizes, xu=sizes - 1, vtype=int
    )
    algorithm = NSGA2(
        pop_size=20,
        sampling=IntegerRandomSampling(),
        crossover=SBX(prob=1.0, eta=3.0, vtype=float, repair=RoundingRepair()),
        mutation=PM(prob=1.0, eta=3.0, vtype=float, repair=RoundingRepair()),
        eliminate_duplicates=True,
    )
    algorithm.setup(problem, termination=("n_gen", 10**6), seed=start["seed"], verbose=False)
    while True:
        asked = algorithm.ask()
        first = len(told)
        for row in asked.get("X"):
            yield [int(place) for place in row]
        Evaluator().eval(StaticProblem(problem, F=np.array(told[first:])), asked)
        algorithm.tell(infills=asked)


def syne_tune(start: dict[str, Any], told: list[list[float]]) -> Proposals:
    """Multi-objective regularized evolution, with its defaults."""
    from syne_tune.config_space import choice
    from syne_tune.optimizer.schedulers.multiobjective import MultiObjectiveRegularizedEvolution

    space = {f"h{n}": choice(list(range(len(c)))) for n, c in enumerate(start["choices"])}
    searcher = MultiObjectiveRegularizedEvolution(space, random_seed=start["seed"])
    for trial in range(start["trials"]):
        config = searcher.suggest()
        yield [int(config[name]) for name in space]
        searcher.on_trial_complete(trial, config, told[-1])


def ax(start: dict[str, Any], told: list[list[float]]) -> Proposals:
    """Its default for several objectives (qLogNEHVI on a Gaussian process)."""
    from ax.api.client import Client
    from ax.api.configs import ChoiceParameterConfig

    client = Client(random_seed=start["seed"])
    client.configure_experiment(
        parameters=[
            ChoiceParameterConfig(
                name=f"h{n}", values=list(range(len(c))), parameter_type="int", is_ordered=False
            )
            for n, c in enumerate(start["choices"])
        ]
    )
    names = [f"m{n}" for n in range(start["objectives"])]
    client.configure_optimization(objective=", ".join(f"-{name}" for name in names))
    while True:
        for number, values in client.get_next_trials(max_trials=1).items():
            yield [int(values[f"h{n}"]) for n in range(len(start["choices"]))]
            client.complete_trial(number, raw_data=dict(zip(names, told[-1], strict=True)))


PEERS = {"pymoo NSGA-II": pymoo, "Syne Tune MO-REA": syne_tune, "Ax": ax}


def main() -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    answers, sys.stdout = sys.stdout, sys.stderr  # what a package prints is no answer
    start = json.loads(sys.stdin.readline())
    told: list[list[float]] = []
    proposals = PEERS[start["sampler"]](start, told)
    for _ in range(start["trials"]):
        begun = time.process_time()
        places = next(proposals)
        seconds = time.process_time() - begun
        answers.write(json.dumps({"places": places, "seconds": seconds}) + "\n")
        answers.flush()
        line = sys.stdin.readline()
        if not line:
            return
        told.append(json.loads(line))


if __name__ == "__main__":
    main()
