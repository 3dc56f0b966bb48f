"""The run key: what must be equal for one training run to answer for another."""

from __future__ import annotations

from typing import Any

from spaces import catalogue
from spaces.config import Config
from trainers import pretrained, variants
from trainers.complexity import digest, identity
from trainers.data import Judge

RECIPE_VERSION = 1
"""To be raised with every change of the training code that changes what a config trains to."""

LATER = {"accumulate": 1, "compile": False}
"""Keys of `training` that earlier releases had not: at these values they are in no run key."""


def run_key(config: Config, dataset_digest: str, judge: Judge = "val") -> str:
    """Network, data and recipe in 16 hex digits; the replicate is not in it.

    `dataset_digest` (`data.content`) stands for the images themselves, wherever they lie: the
    dataset's root is not part of the key, nor is what its file says changes no number
    (`NOT_IN_KEY`); its split seed and all its other settings are. Neither is the config's name. Of
    weights to start from the content counts, wherever they lie: it is read, and VariantError raised
    where it cannot be.
    """
    chosen = config.training
    unsaid = {name for name, before in LATER.items() if getattr(chosen, name) == before}
    start = config.backbone.pretrained
    weights = {} if start is None else {"pretrained": pretrained.digest(start)}
    idle: set[str] = getattr(variants.module("dataset", config.dataset.name), "NOT_IN_KEY", set())
    return digest(
        {
            "network": identity(config),
            "task": config.task.model_dump(mode="json"),
            "dataset": config.dataset.model_dump(mode="json", exclude={"root", *idle}),
            "content": dataset_digest,
            "training": chosen.model_dump(mode="json", exclude=unsaid),
            "recipe": RECIPE_VERSION,
            "plugins": plugins(config),
            **({"judge": judge} if judge != "val" else {}),  # as before there was another
            **weights,
        }
    )


def plugins(config: Config) -> dict[str, str]:
    """Kind -> source digest of each of the config's variants that is not our own."""
    components: dict[str, Any] = {
        "task": config.task,
        "dataset": config.dataset,
        "backbone": config.backbone,
        "attention": config.attention,
        "placement": config.attention.placement,
        "mapping": config.attention.mapping,
    }
    digests = {
        kind: catalogue.digest(kind, component.name)
        for kind, component in components.items()
        if component is not None
    }
    if detector := config.task.params.get("detector"):
        digests["detector"] = catalogue.digest("detector", detector["name"])
    return {kind: source for kind, source in digests.items() if source}
