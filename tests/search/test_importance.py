"""What a result depends on, where the truth is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import search
import spaces
import trainers
from search.front.canvas import image
from search.front.importance import features, importance
from search.report.importance import figure
from search.trial import Attempt, Replicate, Trial

SPACE = """\
name: known
dataset: {name: digits}
backbone: {name: resnet, depth: 8, width: {choice: [0.5, 1.0]}}
attention:
  choice:
    - {name: none}
    - name: eca
      mapping:
        name: per_stage
        kernel_sizes: [{choice: [1, 3, 5]}, {choice: [1, 3, 5]}, {choice: [1, 3, 5]}]
training: {epochs: 1, batch_size: 64, optimizer: {name: sgd, lr: 0.1}}
search: {trials: 56}
"""


def studied(folder: Path, worth: Any, seeds: int = 1, noise: float = 0.0) -> Any:
    """A study of every setting, each worth what is said, with so many seeds."""
    (folder / "known.yaml").write_text(SPACE)
    space = spaces.load(folder / "known.yaml")
    source = np.random.default_rng(0)
    trials = []
    for number, values in enumerate(space.settings()):
        config = space.at(values)
        kernels = trainers.kernels(config)
        finals = worth(config, kernels) + noise * source.standard_normal(seeds)
        replicates = tuple(
            Replicate(n, n, "", ({"val_accuracy": float(v)},), (Attempt(1, 0.0, 1.0),), "finished")
            for n, v in enumerate(finals)
        )
        trials.append(
            Trial(
                number=number,
                values=values,
                config=config.model_dump(mode="json"),
                label="",
                identity=str(number),
                key=str(number),
                costs={"params": 1.0, "macs": 1.0},
                kernels=kernels,
                placement="everywhere" if kernels else "none",
                replicates=replicates,
                outcome="finished",
                objectives={"val_accuracy": float(finals.mean())},
            )
        )
    objectives = space.search.objectives
    return SimpleNamespace(trials=tuple(trials), judged="val_accuracy", objectives=objectives)


def test_the_kernel_that_matters_comes_first(tmp_path: Path) -> None:
    """Accuracy depends on the third stage's kernel alone: both evaluators say so."""
    study = studied(tmp_path, lambda config, kernels: 0.5 + 0.02 * kernels.get("stage3.block1", 0))
    found = importance(study)
    assert found is not None
    assert found.trials == 56
    assert next(iter(found.fanova)) == "kernel stage3"
    assert found.fanova["kernel stage3"] > 0.8
    assert next(iter(found.ped_anova)) == "kernel stage3"
    assert found.noise is None
    assert sum(found.fanova.values()) == pytest.approx(1)  # shares of one variance, in doubles


def test_noise_has_its_share(tmp_path: Path) -> None:
    """Where nothing matters but the seed, the seeds' share is nearly all."""
    study = studied(tmp_path, lambda config, kernels: 0.5, seeds=3, noise=0.01)
    found = importance(study)
    assert found is not None
    assert found.noise is not None
    assert found.noise > 0.9
    assert sum(found.fanova.values()) == pytest.approx(1 - found.noise)  # the rest, in doubles


def test_features_are_what_was_built(tmp_path: Path) -> None:
    """Kernels by stage, kind and width; not gamma and b, and nothing that never differs."""
    study = studied(tmp_path, lambda config, kernels: 0.5)
    kernels = {"kernel stage1", "kernel stage2", "kernel stage3"}
    assert set(features(study.trials)) == {*kernels, "attention", "backbone.width"}


def test_what_always_differs_together_is_one_feature(tmp_path: Path) -> None:
    """Where the width settles the kernel, nobody can say which of the two it was."""
    study = studied(tmp_path, lambda config, kernels: 0.5)
    trials = [
        trial
        for trial in study.trials
        if set(trial.kernels.values()) == {3 if trial.config["backbone"]["width"] == 0.5 else 5}
    ]
    assert [len({*column}) for column in features(trials).values()] == [2]
    assert list(features(trials)) == ["kernel stage1 stage2 stage3 = backbone.width"]


def test_placement_has_its_part(tmp_path: Path) -> None:
    """Where only attention as such counts, kernels matter by placement alone; where only its kernel
    does, placement has no part in it. Rows say by what evaluator.
    """
    study = studied(tmp_path, lambda config, kernels: 0.5 + 0.1 * bool(kernels), seeds=2)
    found = importance(study)
    assert found is not None
    assert found.noise == 0.0
    assert found.placement.keys() == {f"placement stage{stage}" for stage in (1, 2, 3)}
    for name, share in found.placement.items():  # a ratio of sums of squares, in doubles
        assert share == pytest.approx(found.fanova[name.replace("placement", "kernel")])
    rows = found.rows()
    assert rows[0] == ("seed noise", 0.0, "replicates")
    assert {evaluator for *_, evaluator in rows[1:]} == {"fanova", "ped_anova", "placement"}
    by_kernel = importance(studied(tmp_path, lambda c, k: 0.5 + 0.02 * k.get("stage3.block1", 3)))
    assert by_kernel is not None
    assert by_kernel.fanova["kernel stage3"] > 0.95
    # kernels 1, 3, 5 are on average 3, which is what no attention is worth here
    assert by_kernel.placement["placement stage3"] == pytest.approx(0, abs=1e-9)


def test_results_that_are_all_alike_depend_on_nothing(tmp_path: Path) -> None:
    """No variance has no shares; a report of such a study is written all the same."""
    assert importance(studied(tmp_path, lambda config, kernels: 0.5)) is None


@pytest.mark.slow
def test_a_real_study_with_seeds(tmp_path: Path, write_space: Callable[..., Path]) -> None:
    """Twelve digits networks of two seeds: the shares of features and seeds are all there is."""
    mapping = "{name: constant, kernel_size: {choice: [1, 3, 5]}}"
    told = f"{{choice: [{{name: none}}, {{name: eca, mapping: {mapping}}}]}}"
    path = write_space(trials=12, epochs=1, attention=told, width="{choice: [0.25, 0.5, 1.0]}")
    study = search.run(
        path, out=tmp_path / "runs", overrides=["search.replicates=2"], executor="inprocess"
    )
    found = importance(study)
    assert found is not None
    assert found.trials == 12
    assert found.noise is not None
    assert 0 < found.noise < 1
    assert found.noise + sum(found.fanova.values()) == pytest.approx(1)  # in doubles
    assert next(iter(found.fanova)) == "backbone.width"
    assert image(figure(found), "png").startswith(b"\x89PNG")


def test_few_trials_tell_nothing(tmp_path: Path) -> None:
    """Eleven are too few; a real study of seventeen is not, and width leads there."""
    study = studied(tmp_path, lambda config, kernels: config.backbone.width)
    assert importance(study) is not None
    few = SimpleNamespace(**{**vars(study), "trials": study.trials[:11]})
    assert importance(few) is None
    laptop = Path(__file__).parents[2] / "benchmarks" / "results" / "cifar10-laptop"
    found = importance(search.load(laptop))
    assert found is not None
    assert next(iter(found.fanova)) == "backbone.width"
