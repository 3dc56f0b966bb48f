"""How MLflow's page of an experiment shows a study: saved views, as tags of the experiment.

By itself that page folds all trials under their study and shows no metric. A *shared view* (what
its "Share" button stores) lays out columns, order and charts, and filters or groups runs; its keys
were read from MLflow 3.17's web application, and a version that knows them no more shows its own
layout.
"""

from __future__ import annotations

import json
from typing import Any

FILTERS = {
    "trials": "",
    "front": "tags.`eca.front` = '1'",
    "kernels": "tags.`eca.outcome` = 'finished'",
    "failures": "attributes.status = 'FAILED'",
}
"""The views by name, each with the filter of its runs: every trial, the front, finished networks by
their kernels, and what failed."""
BY_KERNELS = {
    "aggregateFunction": "max",
    "groupByKeys": [{"mode": "tag", "groupByData": "eca.kernels"}],
}
"""One row for each kernel profile, with the best value under it."""


def tag(key: str) -> str:
    """The experiment's tag that holds a view."""
    return f"mlflow.sharedViewState.{key}"


def tags(metric: str | None) -> dict[str, str]:
    """All views, as tags of an experiment whose trials are judged by `metric`."""
    return {tag(key): state(metric, key) for key in FILTERS}


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


def state(metric: str | None, key: str = "trials") -> str:
    """A view: trials by their final value of `metric`, best first, that value against the costs.

    Without a metric, as where nothing is trained for: the smallest network first, cost by cost.
    """
    final = "n_params" if metric is None else f"final_{metric}"
    results = [] if metric is None else [f"metrics.`{final}`", f"metrics.`{final}_sd`"]
    costs = ("macs",) if metric is None else ("macs", "n_params")
    columns = [
        "tags.`eca.front`",
        *results,
        "metrics.`n`",
        "metrics.`macs`",
        "metrics.`n_params`",
        "tags.`eca.kernels`",
        "tags.`eca.placement`",
        "tags.`eca.outcome`",
    ]
    sections = ("Pareto front", "Model metrics", "System metrics")
    return json.dumps(
        {
            "searchFilter": FILTERS[key],
            "groupBy": BY_KERNELS if key == "kernels" else None,
            "orderByKey": f"metrics.`{final}`",
            "orderByAsc": metric is None or metric.endswith("loss"),
            "startTime": "ALL",
            "lifecycleFilter": "Active",
            "modelVersionFilter": "All Runs",
            "datasetsFilter": [],
            "selectedColumns": columns,
            "columnOrder": columns,
            "runsHiddenMode": "SHOW_ALL",
            "compareRunCharts": [_scatter(cost, final) for cost in costs],
            "compareRunSections": [
                {"uuid": name, "name": name, "display": True, "isReordered": False}
                | {"deleted": False, "isGenerated": name != sections[0]}
                for name in sections
            ],
        }
    )


def _scatter(cost: str, metric: str) -> dict[str, Any]:
    return {
        "uuid": f"{metric} over {cost}",
        "type": "SCATTER",
        "metricSectionId": "Pareto front",
        "runsCountToCompare": 100,
        "deleted": False,
        "isGenerated": False,
        "xaxis": {"key": cost, "type": "METRIC"},
        "yaxis": {"key": metric, "type": "METRIC"},
    }
