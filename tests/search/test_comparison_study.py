"""A space with arms as a study: what is trained, in which order, and how it goes on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import search
from search import text
from search.comparison import comparing
from search.errors import StudyExists
from search.study import journal
from search.study.study import Study
from spaces import arms

SPACE = """\
name: rules
dataset: {name: digits, subset: 300, val: 0.2}
backbone: {name: resnet, depth: 8, width: {choice: [0.25, 0.5], default: 0.5}}
attention: {name: eca}
training: {epochs: 1, batch_size: 64, optimizer: {name: sgd, lr: 0.1}}
search: {replicates: 2, executor: inprocess}
arms:
  published: {attention.mapping: {name: log2}}
  k3: {attention.mapping: {name: constant, kernel_size: 3}}
  none: {attention: {name: none}}
blocks: [backbone.width]
"""


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Three arms at two widths with two seeds, trained for real."""
    folder = tmp_path_factory.mktemp("comparison")
    path = folder / "rules.yaml"
    path.write_text(SPACE)
    return search.run(path, out=folder / "runs", executor="inprocess")


def starts(study: Study) -> list[tuple[int, int]]:
    """(trial, replicate) in the order they were trained."""
    records = journal.read(study.folder)
    return [(r["trial"], r["replicate"]) for r in records if r["kind"] == "start"]


def test_an_arm_that_builds_the_same_network_is_not_trained_twice(compared: Study) -> None:
    """At width 0.5 gamma=2, b=1 is k=3 everywhere: one trial answers for both arms."""
    told = {arms.of(t.values): [] for t in compared.trials}  # type: ignore[var-annotated]
    for trial in compared.trials:
        told[arms.of(trial.values)].append(dict(arms.block(trial.values))["backbone.width"])
    assert told == {"published": [0.25, 0.5], "k3": [0.25], "none": [0.25, 0.5]}
    answered = [alias["values"] for trial in compared.trials for alias in trial.aliases]
    assert answered == [{"arm": "k3", "arm.k3.backbone.width": 0.5}]
    assert compared.history.ended == "every arm is asked: 5 networks"
    assert text.tally(compared) == "5 of 5 trials: 5 finished; 1 duplicate"
    assert not list(text.over(compared))


def test_seeds_are_trained_block_by_block(compared: Study) -> None:
    """All arms have their first seed before one has its second: cut short, blocks are complete."""
    assert starts(compared) == [(trial, seed) for seed in (0, 1) for trial in range(5)]


def test_trials_are_named_by_their_arm(compared: Study) -> None:
    """A person reading MLflow's table knows which arm a run is."""
    assert compared.trials[0].name == "#000 published: w0.25 eca k1-3-3"


def test_an_alias_of_the_arm_that_was_planned_is_no_other_choice(tmp_path: Path) -> None:
    """Compared with another name of it nothing was chosen afterwards; with another arm it was."""
    path = tmp_path / "rules.yaml"
    arms_ = "arms: {a: {}, b: {attention.mapping: {name: log2}}, none: {attention: {name: none}}}\n"
    written = SPACE[: SPACE.index("arms:")].replace(
        "{replicates: 2,", "{replicates: 2, compare: {against: a},"
    )
    path.write_text(written + arms_)
    study = search.run(path, out=tmp_path / "runs", executor="inprocess")
    for arm, said in (
        ("a", ()),
        ("b", ()),
        (
            "none",
            ("compared with none alone, as was chosen afterwards: fewer pairs are corrected for",),
        ),
    ):
        told = comparing.told(study, against=arm)
        assert told is not None
        assert told.caveats == said


def test_a_comparison_shows_no_front(compared: Study) -> None:
    """Its arms were given: the summary has how to go on, and neither front nor hypervolume."""
    said = text.summary(compared)
    assert "front" not in said
    assert "hypervolume" not in text.worth(compared)
    assert said.splitlines()[-1] == f"report   eca-search report {compared.folder}"


def test_more_seeds_may_be_asked_for_and_fewer_may_not(compared: Study, tmp_path: Path) -> None:
    """A resume with more replicates trains what is lacking and nothing again."""
    before = starts(compared)
    with pytest.raises(StudyExists, match=r"search\.replicates: 2 -> 1"):
        search.resume(compared.folder, overrides=["search.replicates=1"], executor="inprocess")
    more: dict[str, Any] = {"overrides": ["search.replicates=3"], "executor": "inprocess"}
    study = search.resume(compared.folder, **more)
    assert starts(study) == [*before, *((trial, 2) for trial in range(5))]
    assert [trial.n for trial in study.trials] == [3] * 5
    finals = [r.curve[-1]["val_accuracy"] for r in study.trials[0].replicates]
    objectives = study.trials[0].objectives
    assert objectives is not None
    assert objectives["val_accuracy"] == pytest.approx(sum(finals) / 3)  # a mean of three doubles
    assert study.history.ended


def test_images_that_only_a_worker_can_count_are_counted(tmp_path: Path) -> None:
    """Of a folder of 40 images 8 judge: no difference is taken to be surer than counting makes it,
    though all seeds agree.
    """
    for number in range(40):
        folder = tmp_path / "images" / "train" / f"kind{number % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), (number * 6, 0, 0)).save(folder / f"{number}.png")
    path = tmp_path / "folder.yaml"
    images = (
        f"{{name: image_folder, root: {tmp_path}/images, image_size: 16, val: 0.2, workers: 0}}"
    )
    path.write_text(
        SPACE.replace("{name: digits, subset: 300, val: 0.2}", images)
        .replace("{choice: [0.25, 0.5], default: 0.5}", "0.25")
        .replace("blocks: [backbone.width]\n", "")
        .replace("batch_size: 64", "batch_size: 8")
    )
    study = search.run(path, out=tmp_path / "runs", executor="inprocess")

    assert {trial.images for trial in study.trials} == {(32, 8)}
    assert comparing.resolution(study) == 1 / 8
    told = comparing.told(search.load(study.folder))
    assert told is not None
    assert all(pair.low < pair.high for pair in told.comparison.pairs)


def test_of_a_journal_without_their_number_images_are_foreseen(compared: Study) -> None:
    """Earlier releases kept no number: what the dataset says of itself stands in."""
    trial = compared.trials[0]
    assert trial.images == (240, 60)
    assert comparing.images(replace(trial, images=None)) == (240, 60)
