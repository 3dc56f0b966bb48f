"""What cost bands do to a noisy front, by simulation.

    python benchmarks/bands.py [--repeats 1000]

A search of 96 trainings: ResNet-20 for CIFAR at three widths, each plain or with ECA at some of its
nine places, which adds 3 to 5 parameters a place and changes nothing else. Accuracy is the width's,
plus what ECA is worth, plus a seed's noise. There are three things to know, the widths. How many
members does the front of (accuracy, params) have, with exact costs and with bands of 1 %, and how
much better does its member at a width look than it is (the best of many is lucky)? Written to
benchmarks/results/bands-<date>.json.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from kept import RESULTS, circumstances, keep

from search.front.pareto import band, nondominated

WIDTHS = {0.5: (68_786, 0.888), 0.75: (153_766, 0.906), 1.0: (272_474, 0.916)}
"""Parameters, counted; accuracies, made up, of the size that such networks have."""
TRIALS = 96
BANDS = 0.01
NOISES = (0.0005, 0.002, 0.005)
GAINS = (0.0, 0.004)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    about = circumstances()
    rows = [simulated(sd, gain, given.repeats) for gain in GAINS for sd in NOISES]
    result = {
        **about,
        "note": "simulated: the figures do not depend on the machine",
        "repeats": given.repeats,
        "trials": TRIALS,
        "rows": rows,
    }
    print("\n".join(table(rows)))
    print(f"written: {keep('bands', result, given.out)}")


def simulated(sd: float, gain: float, repeats: int) -> dict[str, Any]:
    """The mean front over searches whose seeds have noise `sd` and whose ECA is worth `gain`."""
    source = np.random.default_rng(0)
    members: dict[str, list[int]] = {"exact": [], "bands": []}
    lucky: dict[str, list[float]] = {"exact": [], "bands": []}
    for _ in range(repeats):
        width = source.choice(list(WIDTHS), TRIALS)
        base = np.array([WIDTHS[one] for one in width.tolist()])
        places = source.integers(0, 10, TRIALS)  # none of the nine, up to all
        taps = source.choice([3, 5], TRIALS)
        costs = base[:, 0] + places * taps
        truth = base[:, 1] + gain * (places > 0)
        seen = truth + sd * source.standard_normal(TRIALS)
        for name, tolerance in (("exact", 0.0), ("bands", BANDS)):
            level = [band(cost, tolerance) for cost in costs.tolist()]
            front = nondominated(np.column_stack([-seen, level]))
            members[name].append(int(front.sum()))
            lucky[name].append(float((seen - truth)[front].mean()))
    return {
        "noise": sd,
        "gain": gain,
        **{f"members_{name}": float(np.mean(counts)) for name, counts in members.items()},
        **{f"lucky_{name}": float(np.mean(more)) for name, more in lucky.items()},
    }


def table(rows: list[dict[str, Any]]) -> list[str]:
    """The rows as docs/stopping.md shows them, in Markdown."""
    shown = [
        "| ECA is worth | noise (sd) | members, exact | members, bands |",
        "|---:|---:|---:|---:|",
    ]
    return shown + [
        f"| {100 * row['gain']:.1f} points | {100 * row['noise']:.2f} | "
        f"{row['members_exact']:.1f} | {row['members_bands']:.1f} |"
        for row in rows
    ]


if __name__ == "__main__":
    main()
