"""How MLflow's page of an experiment first shows a study: a saved view, as a tag of the experiment.

By itself that page folds all trials under their study and shows no metric. A *shared view* (what
its "Share" button stores) lays out columns, order and charts; its keys were read from MLflow 3.17's
web application, and a version that knows them no more shows its own layout.
"""

from __future__ import annotations

import json
from typing import Any

KEY = "front"
TAG = f"mlflow.sharedViewState.{KEY}"


def page(experiment: str) -> str:
    """The address of the view below the server's, for an experiment's id: table and charts."""
    query = f"viewStateShareKey={KEY}&workflowType=machine_learning&compareRunsMode=CHART"
    return f"#/experiments/{experiment}/runs?{query}"


def state(metric: str | None) -> str:
    """Trials by their final value of `metric`, best first, with that value against the costs.

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
            "searchFilter": "",
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
