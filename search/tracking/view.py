"""How MLflow's page of an experiment shows a study: saved views, as tags of the experiment.

By itself that page folds all trials under their study and shows no metric. A *shared view* (what
its "Share" button stores) lays out columns, order and charts, and filters or groups runs; its keys
were read from MLflow 3.17's web application, and a version that knows them no more shows its own
layout.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from search.study.study import Study

FILTERS = {
    "trials": "",
    "front": "tags.`eca.front` = '1'",
    "networks": "tags.`eca.outcome` = 'finished'",
    "kernels": "tags.`eca.outcome` = 'finished'",
    "failures": "attributes.status = 'FAILED'",
}
"""The views by name, each with the filter of its runs: every trial, the front, what has finished by
its network and by its kernels, and what failed."""
GROUPS = {"networks": "eca.identity", "kernels": "eca.kernels"}
"""Views with one row for each value of a tag, the best value under it."""
PRIMARY = "mlflow.experiment.primaryMetric.name"
"""The experiment's tag that tells by what its trials are judged."""
ENDING = ("tags.`eca.outcome`", "tags.`eca.reason`")
"""Columns that say how a trial ended."""
WIDTHS = {"tags.`eca.reason`": 420, "tags.`eca.kernels`": 190}
"""In pixels, of columns whose text the usual 100 would cut."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What the views of an experiment show: the results of `metric`, best first.

    `rising`: its best is its smallest. `searched` is what a search had said of the same networks,
    which a confirmation has beside its own results. Without a metric, as where nothing is trained
    for: the smallest network first, cost by cost.
    """

    metric: str | None
    rising: bool = False
    searched: str | None = None

    @classmethod
    def of(cls, study: Study) -> Layout:
        """The layout of a study's experiment."""
        judged, confirms = study.judged, study.space.search.confirms
        return cls(
            metric=None if judged is None else f"final_{judged}",
            rising=judged is None or study.objectives[judged].goal == "min",
            searched=None if confirms is None else f"searched_{confirms.metric}",
        )

    @property
    def order(self) -> str:
        """The metric that runs are ordered by."""
        return self.metric or "n_params"

    @property
    def results(self) -> list[str]:
        """The metrics that say what a trial was worth."""
        if self.metric is None:
            return []
        return [self.metric, f"{self.metric}_sd", *([self.searched] if self.searched else [])]

    @property
    def tags(self) -> dict[str, str]:
        """What an experiment is made with."""
        primary = {} if self.metric is None else {PRIMARY: self.metric}
        return {"mlflow.experimentKind": "custom_model_development", **primary, **self.views}

    @property
    def views(self) -> dict[str, str]:
        """All views, as tags of the experiment."""
        return {f"mlflow.sharedViewState.{name}": self.state(name) for name in FILTERS}

    def lacking(self, tags: Mapping[str, str]) -> dict[str, str]:
        """The views that an experiment with these tags is to be given.

        An older release gave fewer, or others. Where several studies share an experiment, its views
        are laid out for the one that made it, and only missing ones are added.
        """
        own = tags.get(PRIMARY) == self.metric
        return {
            name: state
            for name, state in self.views.items()
            if name not in tags or (own and tags[name] != state)
        }

    def state(self, name: str) -> str:
        """One view: its runs, how they are grouped and ordered, columns, results over costs."""
        ended, columns = name == "failures", self._columns(name)
        sections = ("Pareto front", "Model metrics", "System metrics")
        return json.dumps(
            {
                "searchFilter": FILTERS[name],
                "groupBy": {
                    "aggregateFunction": "min" if self.rising else "max",
                    "groupByKeys": [{"mode": "tag", "groupByData": GROUPS[name]}],
                }
                if name in GROUPS
                else None,
                # What failed has no result: alike beside alike. By time, MLflow would fold them.
                "orderByKey": ENDING[-1] if ended else f"metrics.`{self.order}`",
                "orderByAsc": self.rising or ended,
                "startTime": "ALL",
                "lifecycleFilter": "Active",
                "modelVersionFilter": "All Runs",
                "datasetsFilter": [],
                "selectedColumns": columns,
                "columnOrder": columns,
                "columnWidths": {**WIDTHS, f"metrics.`{self.order}`": 150},
                "runsHiddenMode": "SHOW_ALL",
                "compareRunCharts": [_scatter(x, self.order) for x in self._across()],
                "compareRunSections": [
                    {"uuid": section, "name": section, "display": True, "isReordered": False}
                    | {"deleted": False, "isGenerated": section != sections[0]}
                    for section in sections
                ],
            }
        )

    def _columns(self, name: str) -> list[str]:
        costs = ["metrics.`macs`", "metrics.`n_params`"]
        network = ["tags.`eca.kernels`", "tags.`eca.placement`"]
        if name == "failures":
            return [*ENDING, *costs, *network]
        results = [f"metrics.`{metric}`" for metric in (*self.results, "n")]
        searched = ["tags.`eca.confirms`"] if self.searched else []
        return ["tags.`eca.front`", *results, *costs, *searched, *network, *ENDING]

    def _across(self) -> list[str]:
        """What the results are drawn over."""
        if self.metric is None:
            return ["macs"]
        return ["macs", "n_params", *([self.searched] if self.searched else [])]


def pages(experiment: str) -> dict[str, str]:
    """The addresses of the views below the server's, for an experiment's id.

    The trials come with charts, the others as tables.
    """
    modes = {key: "&compareRunsMode=CHART" if key == "trials" else "" for key in FILTERS}
    return {
        key: f"#/experiments/{experiment}/runs?viewStateShareKey={key}"
        f"&workflowType=machine_learning{mode}"
        for key, mode in modes.items()
    }


def _scatter(across: str, metric: str) -> dict[str, Any]:
    return {
        "uuid": f"{metric} over {across}",
        "type": "SCATTER",
        "metricSectionId": "Pareto front",
        "runsCountToCompare": 100,
        "deleted": False,
        "isGenerated": False,
        "xaxis": {"key": across, "type": "METRIC"},
        "yaxis": {"key": metric, "type": "METRIC"},
    }
