"""ParetoSampler through the study: nothing twice, within limits, the same after a resume."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import search
import spaces
from search.execution.replay import Unwritten
from search.front.pareto import study_hypervolume
from search.sampling import pareto_sampler
from search.sampling.pareto_sampler import Choosing
from search.study.history import History
from search.study.study import Study
from search.trial import Candidate, Ending
from spaces import Space

SPACE = """\
name: synthetic
task: {name: classification}
dataset: {name: digits}
backbone: {name: resnet, depth: 8, width: {float: [0.25, 2.0], step: 0.25}}
attention:
  choice:
    - {name: none}
    - name: eca
      placement: {name: stages, stages: {subset: [1, 2, 3]}}
      mapping: {name: log2, gamma: {float: [1, 4], step: 0.5}, b: {float: [-1, 3], step: 1}}
training: {epochs: 4, batch_size: 32, optimizer: {name: sgd, lr: 0.1}}
"""
ENDLESS = SPACE.replace("lr: 0.1", "lr: {float: [0.01, 1.0], log: true}")
CHANNELS = (16, 32, 64)
EPOCHS = 4


@pytest.fixture
def space(tmp_path: Path) -> Callable[..., Space]:
    """The space of 8 widths and of kernels in three stages, with a search section of one's own."""

    def make(text: str = SPACE, **section: Any) -> Space:
        path = tmp_path / "synthetic.yaml"
        given = {"trials": 24, "seed": 5, "sampler": {"name": "ParetoSampler"}, **section}
        path.write_text(f"{text}search: {json.dumps(given)}\n")
        return spaces.load(path)

    return make


def kernels(values: dict[str, Any]) -> dict[str, int]:
    """Kernels by the paper's mapping at 16, 32 and 64 channels."""
    if values["attention"] == "none":
        return {}
    gamma, b = values["attention.eca.mapping.gamma"], values["attention.eca.mapping.b"]
    found = {}
    for stage, channels in enumerate(CHANNELS, start=1):
        if values.get(f"attention.eca.placement.stages.{stage}"):
            size = int(abs((math.log2(channels) + b) / gamma))
            found[f"stage{stage}.block1"] = size if size % 2 else size + 1
    return found


def examine(values: dict[str, Any]) -> Candidate:
    """A network is its width and its kernels; the learning rate makes it another run."""
    found, width = kernels(values), values["backbone.width"]
    lr = values.get("training.optimizer.lr")
    identity = hashlib.sha256(f"{width} {found}".encode()).hexdigest()[:16]
    key = hashlib.sha256(f"{identity} {lr}".encode()).hexdigest()[:16]
    macs = 1e6 * width**2 + 1000 * sum(found.values())
    config = {"training": {"epochs": EPOCHS, "batch_size": 32}, "attention": {"name": "eca"}}
    where = "stages" if found else "none"
    return Candidate(config, identity, key, {"params": macs / 8, "macs": macs}, found, where, key)


def accuracy(candidate: Candidate, epoch: int) -> float:
    """Rises with width, and with kernels of 5 in the last stages; the same for the same network."""
    attention = sum(
        int(site[5]) * math.exp(-abs(kernel - 5) / 2) for site, kernel in candidate.kernels.items()
    )
    width = math.sqrt(candidate.costs["macs"] / 1e6)
    return float(0.5 + 0.3 * (1 - 2.0**-width) + 0.03 * attention - 0.2 * 2.0**-epoch)


def begun(space: Space, look: Callable[[dict[str, Any]], Candidate] = examine) -> Study:
    """A study whose journal stays in memory."""
    journal = Unwritten(lambda: 0.0)
    reference = {"params": 0.6e6, "macs": 5e6}
    journal.append(
        "study", version=1, uuid="", name="x", trials=space.search.trials, reference=reference,
        chance=0.1,
    )  # fmt: skip
    records = list(journal.records)
    return Study(Path("x"), space, records, journal=journal, examine=look, clock=lambda: 0.0)


def run(
    study: Study, *, workers: int = 1, endings: Sequence[str] = ("finished",), most: int = 10_000
) -> Study:
    """Train what is proposed with workers in turn; trial n ends as `endings` says of it."""
    going: list[Any] = []
    for _ in range(most):
        while len(going) < workers and (assignment := study.next()) is not None:
            study.start(assignment, "virtual")
            going.append(assignment)
        if not going:
            break
        assignment = going.pop(0)
        trial = study.history.trials[assignment.trial]
        candidate = examine(trial.values)
        outcome = endings[trial.number % len(endings)]
        last = EPOCHS if outcome == "finished" else 2
        for epoch in range(1, last + 1):
            metrics = {"epoch": epoch, "val_accuracy": accuracy(candidate, epoch)}
            study.report(trial.number, assignment.replicate, metrics)
        study.end(trial.number, assignment.replicate, Ending(outcome, "said the test"))
    return study


def proposed(study: Study) -> list[dict[str, Any]]:
    return [trial.values for trial in study.trials]


@pytest.mark.parametrize("workers", [1, 4])
def test_no_network_is_proposed_twice_and_none_over_a_limit(
    space: Callable[..., Space], workers: int
) -> None:
    """Of 1,384 settings that are far fewer networks: no duplicate, no refusal, ever."""
    study = run(begun(space(trials=40, limits={"macs": 2.3e6})), workers=workers)

    assert len({trial.key for trial in study.trials}) == 40
    assert study.counts()["duplicate"] == study.counts()["infeasible"] == 0
    assert all(trial.costs["macs"] <= 2.3e6 for trial in study.trials)


def test_a_small_space_is_tried_whole_and_says_how_much_of_it(space: Callable[..., Space]) -> None:
    """Every network within the limits once; the end counts those beyond them as well."""
    few = SPACE.replace("float: [0.25, 2.0], step: 0.25", "choice: [0.5, 1.0]").replace(
        "subset: [1, 2, 3]", "subset: [3]"
    )
    every = {c.identity: c for c in map(examine, space(few).settings())}
    within = {i for i, c in every.items() if c.costs["macs"] <= 0.5e6}
    study = run(begun(space(few, trials=200, limits={"macs": 0.5e6})))

    assert 1 < len(within) < len(every)
    assert {trial.identity for trial in study.trials} == within
    said = f"{len(within)} of {len(every)} networks seen: the others are over a limit"
    assert study.why_done == said
    assert study.done


@pytest.fixture(params=["few", "many"])
def amount(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few trials, all of which are read, and more than are read: the limits are lowered."""
    if request.param == "many":
        monkeypatch.setattr(pareto_sampler, "KNOWN", 9)
        monkeypatch.setattr(pareto_sampler, "SKETCH", 5)


@pytest.mark.usefixtures("amount")
@pytest.mark.parametrize("endings", [("finished",), ("finished", "pruned", "finished", "oom")])
def test_the_same_seed_proposes_the_same(
    space: Callable[..., Space], endings: Sequence[str]
) -> None:
    """Run again, or rebuilt from its records half way, a search goes the same way."""
    straight = run(begun(space()), endings=endings)
    half = run(begun(space()), endings=endings, most=13)
    records = half._journal.records  # type: ignore[union-attr]
    again = Study(
        half.folder, half.space, records, journal=half._journal, examine=examine, clock=lambda: 0.0
    )

    assert proposed(run(again, endings=endings)) == proposed(straight)
    assert proposed(run(begun(space(seed=6)), endings=endings)) != proposed(straight)


def test_values_that_are_one_network_do_not_change_a_resumed_search(
    space: Callable[..., Space],
) -> None:
    """Widths are rounded, so what a network was first met at is another value after a resume."""
    fine = SPACE.replace("step: 0.25}", "step: 0.05}", 1)

    def look(values: dict[str, Any]) -> Candidate:
        return examine({**values, "backbone.width": round(4 * values["backbone.width"]) / 4})

    for seed in (0, 1):
        straight = run(begun(space(fine, trials=40, seed=seed), look))
        for cut in (12, 22):
            half = run(begun(space(fine, trials=40, seed=seed), look), most=cut)
            records = half._journal.records  # type: ignore[union-attr]
            again = Study(
                half.folder, half.space, records, journal=half._journal, examine=look,
                clock=lambda: 0.0,
            )  # fmt: skip
            assert proposed(run(again)) == proposed(straight)


@pytest.mark.usefixtures("amount")
def test_the_order_in_which_trials_ended_changes_nothing(space: Callable[..., Space]) -> None:
    """The next network follows from the trials as a set."""
    study = run(begun(space(trials=14)))
    tried = {trial.key for trial in study.trials}

    def choice(order: Sequence[int]) -> Any:
        history = History()
        history.study, history.asks = study.history.study, study.history.asks
        history.trials = {number: study.history.trials[number] for number in order}
        return Choosing(study.space, examine).choose(history, tried)

    numbers = list(study.history.trials)
    assert choice(numbers) is not None
    assert choice(numbers[::-1]) == choice(numbers)
    assert choice(numbers[7:] + numbers[:7]) == choice(numbers)


def test_a_large_space_has_no_duplicates_either(space: Callable[..., Space]) -> None:
    """With a free learning rate: every proposal is another run, conditional holes included."""
    study = run(begun(space(ENDLESS, trials=30)), workers=3)

    assert len({trial.key for trial in study.trials}) == 30
    assert {trial.values["attention"] for trial in study.trials} == {"none", "eca"}


def test_with_replicates_the_front_is_trained_again_when_all_is_seen(
    space: Callable[..., Space],
) -> None:
    """`duplicates: replicate` gives further seeds to the front, once nothing is unseen."""
    few = SPACE.replace("float: [0.25, 2.0], step: 0.25", "choice: [0.5, 1.0]").replace(
        "subset: [1, 2, 3]", "subset: [3]"
    )
    study = run(begun(space(few, trials=30, duplicates="replicate")), workers=2)
    again = [trial for trial in study.trials if len(trial.replicates) > 1]

    assert again
    assert {trial.number for trial in again} <= {trial.number for trial in study.pareto()}
    assert study.done


def test_who_asks_before_a_seed_has_begun_is_told_to_wait(space: Callable[..., Space]) -> None:
    """On a cluster workers take their time: the search is not over for that, and has as many seeds
    as with workers that begin at once.
    """
    few = SPACE.replace("float: [0.25, 2.0], step: 0.25", "choice: [0.5, 1.0]").replace(
        "subset: [1, 2, 3]", "subset: [3]"
    )
    seeds = []
    for late in (False, True):
        study = begun(
            space(
                few,
                trials=30,
                duplicates="replicate",
                objectives={"val_accuracy": "max"},
            )
        )
        while True:
            asked = []
            while len(asked) < 2 and (given := study.next()) is not None:
                asked.append(given)
                if not late:
                    study.start(given, "virtual")
            if not asked:
                break
            for given in asked:
                if late:
                    study.start(given, "virtual")
                candidate = examine(study.history.trials[given.trial].values)
                for epoch in range(1, EPOCHS + 1):
                    metrics = {"epoch": epoch, "val_accuracy": accuracy(candidate, epoch)}
                    study.report(given.trial, given.replicate, metrics)
                study.end(given.trial, given.replicate, Ending("finished", ""))
        assert study.done
        seeds.append(sum(len(trial.replicates) for trial in study.trials))
    assert seeds[0] == seeds[1] > len(study.trials)


@pytest.mark.parametrize(
    "objectives",
    [
        {"val_accuracy": "max"},
        {"params": "min", "macs": "min"},
        {"val_accuracy": "max", "macs": "min", "params": "min"},
    ],
    ids=lambda objectives: "-".join(objectives),
)
def test_any_objectives_will_do(space: Callable[..., Space], objectives: dict[str, str]) -> None:
    """One objective, costs alone, accuracy and both costs: 45 of 400 networks give nearly all."""
    study = run(begun(space(trials=45, objectives=objectives)))
    every = [
        replace(
            study.trials[0],
            identity=candidate.identity,
            costs=candidate.costs,
            objectives={**candidate.costs, "val_accuracy": accuracy(candidate, EPOCHS)},
        )
        for candidate in map(examine, study.space.settings())
    ]
    of_all = study_hypervolume(
        every, study.objectives, chance=study.chance, reference=study.reference
    )
    assert len({trial.identity for trial in every}) == 400
    assert study.hypervolume() > 0.9 * of_all


def test_it_is_better_than_chance(space: Callable[..., Space]) -> None:
    """After 24 networks its hypervolume is above that of random search with each of three seeds."""
    for seed in range(3):
        ours = run(begun(space(seed=seed)))
        chance = run(begun(space(seed=seed, sampler={"name": "RandomSampler"})))
        assert ours.hypervolume() > chance.hypervolume()


@pytest.mark.parametrize("argument", ["startup: 1", "startup: soon", "patience: 3"])
def test_its_arguments_are_checked(
    write_space: Callable[..., Path], tmp_path: Path, argument: str
) -> None:
    """A wrong argument is refused before there is a study, at its place."""
    path = write_space(search=f"sampler: {{name: ParetoSampler, {argument}}}")
    with pytest.raises(spaces.SpaceError, match=argument.partition(":")[0]):
        search.run(path, out=tmp_path / "runs", executor="inprocess")
    assert not (tmp_path / "runs").exists()
