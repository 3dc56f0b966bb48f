"""The front as a picture: what is drawn, that names are data, and that no network is needed."""

from __future__ import annotations

import io
import re
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from search.front import pareto, picture, plots
from search.front.picture import Picture
from search.trial import Attempt, Replicate, Trial
from spaces.settings import Objective

COST = Objective(goal="min", tolerance=0.01)
OBJECTIVES = {"val_accuracy": Objective(goal="max"), "params": COST, "macs": COST}


def trial(
    number: int,
    accuracy: float,
    macs: float,
    *,
    kind: str = "eca",
    outcome: str = "finished",
    n: int = 1,
    params: float | None = None,
    label: str = "w0.5",
) -> Trial:
    costs = {"params": params or macs / 100, "macs": macs}
    attempt = Attempt(1, 0.0, 1.0, outcome)
    curve = ({"epoch": 1.0, "val_accuracy": accuracy},)
    return Trial(
        number=number,
        values={},
        config={"attention": {"name": kind}},
        label=label,
        identity=f"net{number}",
        key=f"key{number}",
        costs=costs,
        kernels={"stage1.block1": 3, "stage1.block2": 3, "stage2.block1": 5}
        if kind == "eca"
        else {},
        placement="everywhere",
        replicates=tuple(Replicate(i, i, f"r{i}", curve, (attempt,), outcome) for i in range(n)),
        outcome=outcome,
        objectives={"val_accuracy": accuracy, **costs} if outcome == "finished" else None,
        spread={"val_accuracy": 0.01} if n > 1 else {},
    )


def study(*trials: Trial, name: str = "digits") -> Any:
    reference = {"params": 1e7, "macs": 1e9}
    return SimpleNamespace(
        name=name,
        trials=trials,
        objectives=OBJECTIVES,
        judged="val_accuracy",
        updated=1_760_000_000.0,
        pareto=lambda: pareto.front(trials, OBJECTIVES),
        hypervolume=lambda: pareto.study_hypervolume(trials, OBJECTIVES, 0.1, reference),
    )


FULL = study(
    trial(0, 0.80, 1e6, kind="none"),
    trial(1, 0.90, 2e6, n=3),
    trial(2, 0.85, 3e6, params=10.0),
    trial(3, 0.70, 2.5e6),
    trial(4, 0.30, 2e6, outcome="pruned"),
    trial(5, 0.0, 2e6, outcome="crashed"),
)
STUDIES = {
    "full": FULL,
    "one trial": study(trial(0, 0.9, 1e6)),
    "nothing yet": study(),
    "only pruned": study(trial(0, 0.5, 1e6, outcome="pruned")),
    "equal costs": study(trial(0, 0.5, 1e6), trial(1, 0.5, 1e6)),
    "a large front": study(*(trial(i, 0.3 + i / 100, 1e6 * 1.1**i) for i in range(40))),
}


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_has_a_png(name: str) -> None:
    """Also a study of one trial, or with an empty front, gives a picture of the promised size."""
    image = Image.open(io.BytesIO(plots.png(STUDIES[name])))
    assert image.size == (1200, 750)
    colours = image.convert("L").getcolors(1 << 16)
    assert colours is not None
    assert len(colours) > 10, "an empty canvas"


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_has_a_page(name: str) -> None:
    """The page holds its plot and its caption, and loads nothing from elsewhere."""
    page = plots.html(STUDIES[name])
    assert "Plotly.newPlot" in page
    assert "hypervolume" in page
    assert not re.search(r"""<(script|link|img)[^>]+(src|href)\s*=\s*["']?(https?:)?//""", page)


def test_what_is_drawn() -> None:
    """Finished and pruned trials, failed ones not; members of the front, the line over them."""
    seen = Picture.of(FULL)
    assert [dot.trial.number for dot in seen.finished] == [0, 1, 2, 3]
    assert [dot.trial.number for dot in seen.pruned] == [4]
    assert [dot.trial.number for dot in seen.front] == [0, 1, 2]  # 2 is the smallest in params
    assert seen.steps == [(1e6, 0.80), (2e6, 0.90)]
    assert (seen.cost, seen.metric) == ("macs", "val_accuracy")
    assert list(seen.kinds) == ["none", "eca"]
    assert seen.caption.startswith("4 finished, 1 pruned, 1 failed · hypervolume ")


def test_members_are_labelled_by_number_and_kernels() -> None:
    """`#1 3-5` says which trial, and its kernel sizes by stage."""
    assert {text for _, text, _ in Picture.of(FULL).labels()} == {"#0", "#1 3-5", "#2 3-5"}


def test_labels_do_not_cover_each_other() -> None:
    """Members at one place get different places for their labels, or none."""
    crowd = study(*(trial(i, 0.9, 1e6) for i in range(12)), trial(12, 0.95, 9e6))
    places = [(dot.x, place) for dot, _, place in Picture.of(crowd).labels()]
    assert len(places) == len(set(places)) <= 5


def test_a_pruned_trial_far_below_does_not_squeeze_the_front() -> None:
    """It is left out of the axes, and the legend counts it."""
    far = study(trial(0, 0.95, 1e6), trial(1, 0.97, 2e6), trial(2, 0.1, 1e6, outcome="pruned"))
    seen = Picture.of(far)
    assert seen.y_range[0] > 0.9
    assert seen.pruned_name == "pruned (1 not shown)"


def test_names_are_data() -> None:
    """A name with markup is shown, not run; `$` starts no mathematics."""
    bad = "<script>alert(1)</script><img src=x onerror=alert(2)>$\\frac"
    page = plots.html(study(trial(0, 0.9, 1e6, kind=bad, label=bad), name=bad))
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert plots.png(study(trial(0, 0.9, 1e6, kind=bad, label=bad), name=bad))


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0.9e6, 6e6, ["1M", "2M", "5M"]),
        (1.1e6, 2.4e6, ["1.5M", "2M"]),
        (9.0e6, 1.1e7, ["9M", "10M"]),
        (800, 120_000, ["1k", "2k", "5k", "10k", "20k", "50k", "100k"]),
    ],
)
def test_the_cost_axis_has_round_labels(low: float, high: float, labels: list[str]) -> None:
    """1, 2, 5 times powers of ten where they suffice; never fewer than three labels."""
    found = [picture.short(place) for place in picture.ticks(low, high)]
    assert len(found) >= 3
    assert set(labels) <= set(found) or len(found) == 3


def test_nothing_is_left_open_in_matplotlib() -> None:
    """The figure is made without pyplot, so no global state is touched and threads may draw."""
    import matplotlib.pyplot as plt

    plots.png(FULL)
    assert plt.get_fignums() == []
