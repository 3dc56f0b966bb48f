"""What MLflow should show of a study: runs as plain facts. Imports no MLflow.

A `Run` is a function of the journal's facts alone, so two writings of it can be seen to be the
same: its digest is stored with the run, and an equal digest means that nothing is to be done.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from search.comparison import confirming
from search.front import pareto, tables
from search.redaction import redacted
from search.tracking import failure, points
from search.tracking.points import Point, key, milliseconds
from search.trial import FAILED, Trial

if TYPE_CHECKING:
    from search.study.study import Study

PARAM_LENGTH = 6000
TAG_LENGTH = 8000
FRONT_ROWS = 30
"""So many rows of the front fit into a run's description; `front.md` has them all."""


@dataclass(frozen=True, slots=True)
class DatasetInput:
    """The data a run was trained on; `digest` changes with every setting that changes the data."""

    name: str
    digest: str
    source: str
    profile: str


@dataclass(frozen=True, slots=True)
class Run:
    """One MLflow run as it should be; times in unix milliseconds, `status` in MLflow's words.

    `once` are tags written when the run is made and never compared. `files` are rendered when they
    are written, which is as often as their names or what they are made of (`depends`) change.
    """

    name: str
    status: str
    started: int
    ended: int | None
    tags: dict[str, str]
    params: dict[str, str] = field(default_factory=dict)
    points: tuple[Point, ...] = ()
    files: dict[str, Callable[[], str | bytes]] = field(default_factory=dict)
    dataset: DatasetInput | None = None
    once: dict[str, str] = field(default_factory=dict)
    depends: str = ""

    @property
    def digest(self) -> str:
        """A short hash of all of the above but `once`."""
        points = [(point.key, point.value, point.time, point.step) for point in self.points]
        facts = [self.name, self.status, self.started, self.ended, self.tags, self.params, points]
        return sha(json.dumps([*facts, self.filed, repr(self.dataset)]))

    @property
    def filed(self) -> str:
        """A short hash of what the files are made of."""
        return sha(json.dumps([list(self.files), self.depends]))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A study at one moment.

    `live`: a driver is at work; without one, what is unfinished was interrupted. `complete`: there
    is nothing left to do. `counts` are those of `Study.counts`.
    """

    study: Study
    trials: tuple[Trial, ...]
    live: bool
    complete: bool = False
    counts: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, study: Study, *, live: bool) -> Snapshot:
        """The study as it is now."""
        trials = study.trials
        over = bool(study.history.ended) or study.done
        complete = over and all(trial.outcome is not None for trial in trials)
        return cls(study, trials, live, complete, study.counts())

    @property
    def shown(self) -> list[Trial]:
        """The trials that have a run of their own: all but those that still wait."""
        return [trial for trial in self.trials if trial.replicates or trial.outcome is not None]


def trial_run(trial: Trial, snapshot: Snapshot, parent: str) -> Run:
    """A trial's run, below the run `parent`; what its metrics are says `points.of_trial`."""
    study = snapshot.study
    outcome = trial.outcome or ("running" if snapshot.live else "interrupted")
    started = trial.started if trial.started is not None else trial.ended or 0.0
    ended = None if outcome == "running" else max(_stopped(trial), started)
    files: dict[str, Callable[[], str | bytes]] = {"config.yaml": partial(config_text, trial)}
    depends = json.dumps(trial.config, sort_keys=True)
    if trial.failed:
        files["failure.txt"] = partial(failure.told, study.folder, trial)
    if len(trial.replicates) > 1:
        # While it is driven, written as often as a replicate ends.
        over = [seed for seed in trial.replicates if seed.outcome or not snapshot.live]
        files["replicates.csv"] = partial(tables.curves_csv, over)
        depends += json.dumps([[seed.key, len(seed.curve), seed.outcome] for seed in over])
    return Run(
        name=trial.name,
        status=status(outcome),
        started=milliseconds(started),
        ended=None if ended is None else milliseconds(ended),
        tags={"mlflow.parentRunId": parent, **_tags(trial, study, outcome)},
        params={
            key(name): cut(_plain(value), PARAM_LENGTH) for name, value in trial.values.items()
        },
        points=tuple(points.of_trial(trial, study, started, ended)),
        files=files,
        dataset=dataset_input(trial),
        once={**_source(), "eca.version": versions(study).get("eca-search", "")},
        depends=depends,
    )


def _tags(trial: Trial, study: Study, outcome: str) -> dict[str, str]:
    tags = {
        "eca.study": study.uuid,
        "eca.trial": str(trial.number),
        "eca.outcome": outcome,
        "eca.identity": trial.identity,
        "eca.kernels": tables.kernels(trial.kernels),
        "eca.placement": trial.placement or "none",
    }
    if trial.aliases:
        tags["eca.aliases"] = str(len(trial.aliases))
    if trial.accumulate > 1:  # after `oom: halve_batch`: not the recipe that was proposed
        tags["eca.accumulate"] = str(trial.accumulate)
    if trial.promoted is not None:
        tags["eca.promoted"] = f"{trial.promoted:.2f}"
    if trial.reason:  # on one line: it is a column of the table of failures
        tags["eca.reason"] = " ".join(redacted(trial.reason).split())
    if confirms := study.space.search.confirms:
        known = confirming.searched(study, trial)
        tags["eca.confirms"] = " ".join([confirms.study, *(f"#{number:03d}" for number in known)])
    return {name: cut(value, TAG_LENGTH) for name, value in tags.items()}


def study_run(
    snapshot: Snapshot,
    *,
    links: Mapping[int, str],
    pages: Mapping[str, str],
    files: Mapping[str, Callable[[], str | bytes]] | None = None,
    depends: str = "",
) -> Run:
    """The parent run: hypervolume over finished trials, counts at the end, the study in words.

    `links` lead from trial numbers to their runs, `pages` to the experiment's views; `files` are
    written beside it, and again when `depends`, which stands for what they show, has changed.
    """
    study, trials = snapshot.study, snapshot.trials
    confirms = study.space.search.confirms
    last = max([study.started, *(_stopped(trial) for trial in trials)])
    history = pareto.history(trials, study.objectives, study.chance, study.origins)
    told = [
        Point("hypervolume", volume, milliseconds(trial.ended or last), step)
        for step, (trial, volume) in enumerate(history, start=1)
    ]
    if not snapshot.live:
        counts = tables.outcomes(trials)
        told += [
            Point(f"trials_{name}", float(count), milliseconds(last), sum(counts.values()))
            for name, count in counts.items()
        ]
    return Run(
        name=study.name,
        status="RUNNING" if snapshot.live else "FINISHED" if snapshot.complete else "KILLED",
        started=milliseconds(study.started),
        ended=None if snapshot.live else milliseconds(last),
        tags={
            "eca.study": study.uuid,
            **({"eca.confirms": confirms.study} if confirms else {}),
            "mlflow.note.content": cut(description(snapshot, links, pages), TAG_LENGTH),
        },
        points=tuple(told),
        files={"space.yaml": partial(space_text, study), **(files or {})},
        once={
            **_source(),
            **{f"eca.env.{name}": version for name, version in versions(study).items()},
        },
        depends=depends,
    )


def description(snapshot: Snapshot, links: Mapping[int, str], pages: Mapping[str, str]) -> str:
    """The study in Markdown; MLflow folds it after a few lines, so what counts comes first."""
    study, trials = snapshot.study, snapshot.trials
    counts = {**tables.outcomes(trials), **snapshot.counts}
    said = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    volume = pareto.study_hypervolume(trials, study.objectives, study.chance, study.origins)
    front = tables.front_markdown(trials, study.objectives, links=links, most=FRONT_ROWS)
    asked = question(study)
    paragraphs = [
        *([f"**{tables.escape(asked)}**"] if asked else []),
        f"Trials: {said or 'none yet'}. Hypervolume {volume:.6g}. [Table and charts]"
        f"({pages['trials']}), the front in orange; [the front alone]({pages['front']}), "
        f"[by network]({pages['networks']}), [by kernels]({pages['kernels']}), "
        f"[failures]({pages['failures']}). `pareto.html` among the artifacts is the front to "
        "explore, `report.html` the whole study.",
        *([] if snapshot.live else _told(study)),
        f"### Front\n\n{front}",
        "1 MAC = 2 FLOPs. A stopped trial has no `final_` metrics. To see the front alone, filter "
        "the runs by ``tags.`eca.front` = '1'``.",
        "### Again\n\n`space.yaml` among the artifacts is the whole study: "
        f"`eca-search run space.yaml`. This one lies in `{study.folder}`.",
    ]
    return "\n\n".join(paragraphs)


def _told(study: Study) -> Iterator[str]:
    """What a comparison or a confirmation has told, a paragraph; nothing of a search."""
    from search.comparison import comparing, statistics

    if study.space.search.confirms is not None:
        lines = list(confirming.lines(confirming.confirmation(study)))
    elif study.space.arms is not None and (told := comparing.told(study)) is not None:
        found = told.comparison
        lines = [statistics.sentence(pair, found.margin) for pair in found.pairs]
        lines += told.caveats
    else:
        return
    if lines:
        yield "### What it told\n\n" + "\n".join(f"- {tables.escape(line)}" for line in lines)


def versions(study: Study) -> dict[str, str]:
    """What the study was started with: python, platform and libraries."""
    return {name: str(version) for name, version in study.history.study["versions"].items()}


def question(study: Study) -> str:
    """What the space file asks: its comment `# Question: ...` and the lines that continue it."""
    comment = re.compile(r"^#\s*Question:\s*(.*(?:\n#(?!\s*[A-Z]\w*:).*)*)", re.MULTILINE)
    found = comment.search(space_text(study))
    return " ".join(found[1].replace("#", " ").split()) if found else ""


def space_text(study: Study) -> str:
    """The space file in the study's folder: the whole study, with the comments it opens with."""
    path = study.folder / "space.yaml"
    return path.read_text("utf-8") if path.is_file() else study.space.to_yaml()


def config_text(trial: Trial) -> str:
    """The trial's config as a space file that means this one trial."""
    from spaces import Config

    return Config.model_validate(trial.config).to_yaml()


def dataset_input(trial: Trial) -> DatasetInput | None:
    """The dataset of a trial's config; None where it has none."""
    dataset = trial.config.get("dataset")
    if not dataset:
        return None
    text = json.dumps(dataset, sort_keys=True)
    source = json.dumps({"uri": dataset.get("root") or dataset["name"]})
    return DatasetInput(dataset["name"], sha(text), source, text)


def status(outcome: str) -> str:
    """MLflow's status word for an outcome word."""
    if outcome in FAILED:
        return "FAILED"
    words = {"running": "RUNNING", "interrupted": "KILLED", "preempted": "KILLED"}
    return words.get(outcome, "FINISHED")


def cut(text: str, length: int) -> str:
    """The text, with an ellipsis where it is too long for MLflow, which would cut it silently."""
    return text if len(text) <= length else f"{text[: length - 2]} …"


def sha(text: str) -> str:
    """A hash of a text, short enough for MLflow's dataset digests (36 characters)."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _source() -> dict[str, str]:
    return {
        "mlflow.source.name": "eca-search",
        "mlflow.source.type": "LOCAL",
        "mlflow.user": getpass.getuser(),
    }


def _stopped(trial: Trial) -> float:
    """When the trial was last heard of, in unix seconds."""
    if trial.ended is not None:
        return trial.ended
    attempts = [attempt for replicate in trial.replicates for attempt in replicate.attempts]
    return max((attempt.ended or attempt.started for attempt in attempts), default=0.0)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
