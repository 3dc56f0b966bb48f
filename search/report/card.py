"""The model card of an exported network: what it is, what it is worth, and how that is known."""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search import text
from search.comparison import comparing, confirming
from search.front import tables
from search.redaction import redacted
from search.study.journal import FILE
from spaces import Config, arms, writer
from spaces.objectives import judged_by, spoken

if TYPE_CHECKING:
    from search.study.study import Study
    from search.trial import Replicate, Trial
    from trainers.portable import Trained

USE = """\
```python
import torch

net = torch.export.load("model.pt2").module()     # torch alone; evaluation only
logits = net(torch.zeros({shape}))
```

PyTorch does not promise that a later version reads a program of torch {torch}, and reading one
unpickles: load only what you trust. `weights.safetensors` holds numbers and no code, and with
`config.yaml` is the form that lasts; with eca-search:

```python
import safetensors.torch, spaces, trainers

net = trainers.build(spaces.load("config.yaml"{start}).at({{}}))
net.load_state_dict(safetensors.torch.load_file("weights.safetensors"))
net.eval()
```
"""

IMAGES = {"val": "validation", "test": "test"}
"""What those who judge are called in words."""
UNTESTED = "No test set was read, and no figure here is of one."


def card(
    study: Study,
    trial: Trial,
    replicate: Replicate,
    config: Config,
    found: Trained,
    sums: Mapping[str, str],
    missing: str,
) -> str:
    """The card as Markdown, without secrets.

    `sums` are the sha256 of the files beside it; `missing` says why there is no program, if so.
    """
    sections = {
        f"{study.name}, trial {trial.number:03d}: {text.clean(trial.label)}": _network(
            trial, config
        ),
        "Use": _use(config, missing),
        _worth(config): _results(study, trial, replicate, config, found),
        "Data and recipe": _recipe(study, config),
        "Provenance": _provenance(study, trial, replicate, sums),
    }
    parts = []
    for number, (heading, lines) in enumerate(sections.items()):
        parts += [f"{'#' * min(number + 1, 2)} {heading}", "\n".join(lines)]
    return redacted("\n\n".join(parts) + "\n")


def _network(trial: Trial, config: Config) -> Iterator[str]:
    attention = config.attention
    backbone = ", ".join(f"{name} {value}" for name, value in config.backbone.params.items())
    yield f"- backbone: {config.backbone.name} ({text.clean(backbone)})"
    start = config.backbone.pretrained
    if start is not None:
        yield f"- training started from the weights in {text.clean(Path(start).name)}"
    own = "".join(f", {name} {value}" for name, value in attention.params.items())
    where = "" if attention.position is None else f" at position `{attention.position}`"
    yield f"- attention: {attention.name}{text.clean(own)}{where}, placement: {trial.placement}"
    params, macs = trial.costs["params"], trial.costs["macs"]
    yield f"- parameters: {params:,.0f}"
    yield (
        f"- MACs: {macs:,.0f}: multiply-adds of convolutions and linear layers for one image in "
        f"inference, 1 MAC = 2 FLOPs ({2 * macs:,.0f} FLOPs)"
    )
    if trial.kernels:
        yield "\n| site | kernel size |\n|---|---|"
        yield from (f"| {site} | {size} |" for site, size in trial.kernels.items())


def _use(config: Config, missing: str) -> Iterator[str]:
    from trainers.network import describe

    data = describe(config)
    shape = f"1, {data.channels}, {data.image_size}, {data.image_size}"
    # the file that training started from is not needed, and may be nowhere near
    head = config.task.params.get("detector")
    without = {"backbone.pretrained": "null"} if config.backbone.pretrained else {}
    if without:  # nor what was kept of it
        free = {"frozen_stages": "null", "norms": "auto"}
        without |= {f"task.detector.{key}": free[key] for key in free if key in (head or {})}
    changed = ", ".join(f'"{key}={value}"' for key, value in without.items())
    start = f", overrides=[{changed}]" if changed else ""
    code = USE.format(shape=shape, torch=importlib.metadata.version("torch"), start=start)
    if missing:
        yield f"There is no `model.pt2`: torch.export cannot say it ({text.clean(missing)}).\n"
        code = code[code.index("```python\nimport safetensors") :]
    yield code.rstrip()
    yield (
        f"\nIt maps images (N, {data.channels}, {data.image_size}, {data.image_size}) float32, of "
        f"any N, to logits (N, {data.classes})."
        if head is None
        else f"\nIt maps a list of images ({data.channels}, h, w) float32, the shorter side "
        f"{data.image_size} pixels, to a list of their boxes (n, 4), x1, y1, x2, y2 in those "
        f"pixels, labels (n,) of 1 to {data.classes}, scores (n,) and, where it draws outlines, "
        "masks (n, 1, 28, 28), each inside its box."
    )
    yield (
        f"Scale pixels to 0..1, then subtract {_numbers(data.mean)} and divide by "
        f"{_numbers(data.std)}."
    )


def _worth(config: Config) -> str:
    """The heading over what it is worth: `Accuracy`, `Box AP`."""
    said = spoken(judged_by([config.task.name]))
    return said[0].upper() + said[1:]


def _results(
    study: Study, trial: Trial, replicate: Replicate, config: Config, found: Trained
) -> Iterator[str]:
    ema = config.training.ema
    epoch = f"epoch {found.epoch} of {config.training.epochs}"
    averaged = f", averaged with decay {ema}" if ema is not None else ""
    yield f"- these weights: replicate {replicate.number}, {epoch}{averaged}"
    judge = study.space.search.judge
    metric = judged_by([config.task.name])
    own = found.metrics.get(f"{judge}_{metric}")
    if own is not None:
        yield f"- their {IMAGES[judge]} {spoken(metric)}: {own:.4f}"
    for name, value in (trial.objectives or {}).items():
        if not tables.trained(name, trial):
            continue
        spread = trial.spread.get(name)
        sd = "no sd of one" if spread is None else f"sd {spread:.4f}"
        yield f"- {name} over seeds: {value:.4f} (n = {trial.n}, {sd})"
    if study.space.search.confirms is not None:
        yield from _confirmed(study, trial)
    elif study.space.arms is not None:
        yield from _compared(study, trial)
    else:
        yield (
            f"\nOne of {len(study.trials)} trials of a search that compared them by such figures: "
            f"the best of many is better on validation than on new images. {UNTESTED}"
        )


def _compared(study: Study, trial: Trial) -> Iterator[str]:
    names = dict.fromkeys(str(arms.of(values)) for values in _settings(trial))
    count = len({arms.of(values) for values in study.space.settings()})
    own = ", ".join(f"`{name}`" for name in names)
    stratum = comparing.shown(arms.block(trial.values))
    where = f", at {text.clean(stratum)}" if stratum else ""
    yield (
        f"\nArm{'s'[: len(names) != 1]} {own}{where}, of {count} arms of a comparison, which were "
        "fixed before any was trained. Which of them is better is what the comparison tells, not "
        f"these figures alone. {UNTESTED}"
    )


def _confirmed(study: Study, trial: Trial) -> Iterator[str]:
    found = confirming.confirmation(study)
    for one in found.networks:
        if one.trial.number == trial.number:
            yield (
                f"- what {found.study} had said of it, as its trial {one.original}: "
                f"{found.searched} {one.searched:.4f}"
            )
    if found.added:
        yield f"- {confirming.ADDED}"
    count = len(found.networks)
    yield (
        f"\nOne of {count} network{'s'[: count != 1]} of the study {found.study} that were trained "
        "anew to confirm what it had found: with seeds that it had not used, on training and "
        "validation images, judged by the test images, which it never read. To choose among "
        "confirmed networks by these figures would again make the best look better than it is."
    )


def _settings(trial: Trial) -> Iterator[Mapping[str, Any]]:
    """Its point, and those that build and train the same."""
    yield trial.values
    yield from (alias["values"] for alias in trial.aliases)


def _recipe(study: Study, config: Config) -> Iterator[str]:
    chosen = config.model_dump(mode="json")
    chosen["dataset"].pop("root")  # where it lies on whose disk says nothing of the network
    part = {name: chosen[name] for name in ("task", "dataset", "training")}
    yield f"```yaml\n{writer.dump(part)}```"
    if study.space.search.judge == "test":
        yield f"\nNothing was held out: `val: {config.dataset.val:g}` was trained on too."
    if config.training.precision != "float32":
        yield f"\nIt was judged under autocast to {config.training.precision}."


def _provenance(
    study: Study, trial: Trial, replicate: Replicate, sums: Mapping[str, str]
) -> Iterator[str]:
    from trainers.keys import plugins

    journal = (study.folder / FILE).read_bytes()
    yield f"- study {study.name} `{study.uuid}`, begun {text.clock(study.started)}"
    yield (
        f"- its journal's first {len(journal)} bytes: sha256 "
        f"`{hashlib.sha256(journal).hexdigest()}`"
    )
    confirms = study.space.search.confirms
    if confirms is not None:
        yield f"- it confirms study {confirms.study} `{confirms.uuid}`"
    yield f"- trial {trial.number}, replicate {replicate.number}, seed {replicate.seed}"
    yield f"- network `{trial.identity}`, run key `{replicate.key}`"
    yield from (f"- {name}: sha256 `{digest}`" for name, digest in sums.items())
    for kind, digest in plugins(Config.model_validate(trial.config)).items():
        yield f"- the {kind} is a plugin: sha256 `{digest}`; every use of config.yaml needs it"
    then = ", ".join(f"{name} {version}" for name, version in study.history.versions.items())
    now = ", ".join(
        f"{name} {importlib.metadata.version(name)}" for name in ("torch", "safetensors")
    )
    yield f"- trained with {text.clean(then) or 'versions unknown'}; exported with {now}"


def _numbers(values: tuple[float, ...]) -> str:
    return f"{values[0]:g}" if len(values) == 1 else f"({', '.join(f'{v:g}' for v in values)})"
