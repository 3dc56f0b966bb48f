"""A finished trial as files that stand alone: weights, program, config, model card."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from search import text
from search.errors import ExportError
from search.redaction import redacted
from search.report.card import card
from search.study.study import Study
from search.trial import Replicate, Trial
from spaces import Config, writer
from spaces.durable import write_whole

WEIGHTS, PROGRAM, CONFIG, CARD = "weights.safetensors", "model.pt2", "config.yaml", "README.md"
FILES = (WEIGHTS, PROGRAM, CONFIG, CARD)
"""The card is the last: a folder that has it has everything."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What lies where: the size in bytes and the sha256 of each file by its name."""

    folder: Path
    replicate: int
    epoch: int
    files: dict[str, tuple[int, str]]


def chosen(trial: Trial, number: int | None) -> Replicate:
    """The trial's replicate of that number, else its first that has finished.

    Raises ExportError where it has no weights that a search would call its result.
    """
    name = text.clean(trial.name)
    if trial.outcome != "finished":
        state = f"ended as {trial.outcome}" if trial.outcome else "has not ended yet"
        why = f" ({text.short(trial.reason)})" if trial.reason else ""
        raise ExportError(f"{name} {state}{why}; only finished trials can be exported")
    finished = [known for known in trial.replicates if known.outcome == "finished"]
    found = finished if number is None else [known for known in finished if known.number == number]
    if not found:
        there = ", ".join(str(known.number) for known in finished)
        raise ExportError(f"{name} has no finished replicate {number} (there are: {there})")
    return found[0]


def place(study: Study, trial: Trial, replicate: Replicate) -> Path:
    """Where an export goes unless told: in the study's folder, by trial and replicate."""
    return study.folder / "exports" / f"{trial.number:03d}-r{replicate.number}"


def refuse_taken(folder: Path, *, force: bool) -> None:
    """Raise ExportError where something is in the way; with `force` an export's own files may be.

    Others in the folder are left alone.
    """
    if folder.is_dir():
        taken = sorted(file.name for file in folder.iterdir())
        if taken and not force:
            raise ExportError(
                f"{text.shown(folder)}: there is something already ({text.clean(taken[0])}"
                f"{f' and {len(taken) - 1} more' * (len(taken) > 1)})\n"
                "  name another folder with --out, or write over it with --force"
            )
        blocked = next((name for name in FILES if (folder / name).is_dir()), None)
        if blocked:
            raise ExportError(f"{text.shown(folder / blocked)}: a folder is in the way")
        return
    above = next((p for p in (folder, *folder.parents) if p.is_symlink() or p.exists()), folder)
    if not above.is_dir() and (above.exists() or above.is_symlink()):
        raise ExportError(f"{text.shown(above)}: it is a file, where a folder is wanted")


def export(
    study: Study,
    trial: Trial,
    *,
    replicate: int | None = None,
    out: Path | None = None,
    force: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Exported:
    """Write a finished trial's network to a folder, each file whole or absent, the card last.

    The weights are the newest whole checkpoint's of one replicate. `say` is told what a person
    should know: a damaged checkpoint, a network without a program. Raises ExportError, with nothing
    created, where there is nothing to export or something is in the way; OSError passes through.
    """
    from trainers import portable
    from trainers.checkpoint import CheckpointError

    which = chosen(trial, replicate)
    folder = (out or place(study, trial, which)).absolute()
    refuse_taken(folder, force=force)
    config = Config.model_validate(trial.config)
    location = f"{study.checkpoints}/{trial.key_of(which.number)}"
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            found = portable.trained(config, location, seed=which.seed)
    except CheckpointError as error:
        raise ExportError(str(error)) from None
    for warning in warned:
        say(f"warning: {warning.message}")
    if found is None:
        raise ExportError(_gone(study, trial, which, location))
    if found.epoch < config.training.epochs:
        say(f"warning: these are the weights of epoch {found.epoch} of {config.training.epochs}")
    files = {WEIGHTS: portable.weights(found.network)}
    missing = ""
    try:
        files[PROGRAM] = portable.program(found.network, config)
    except portable.NotPortable as error:
        missing = redacted(str(error))[:300]
        say(f"warning: no {PROGRAM}: torch.export cannot write this network down ({missing})")
    files[CONFIG] = _space(study, trial, which, config).encode()
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    files[CARD] = card(study, trial, which, config, found, sums, missing).encode()
    (folder / CARD).unlink(missing_ok=True)
    if missing:
        (folder / PROGRAM).unlink(missing_ok=True)  # another network's, under --force
    for name, data in files.items():
        write_whole(folder / name, data)
    sums[CARD] = hashlib.sha256(files[CARD]).hexdigest()
    sizes = {name: (len(data), sums[name]) for name, data in files.items()}
    return Exported(folder, which.number, found.epoch, sizes)


def _gone(study: Study, trial: Trial, replicate: Replicate, location: str) -> str:
    """Why there is no checkpoint, as far as can be told, and what to do."""
    where = redacted(location)
    if replicate.attempts[-1].reason == "carried over":
        return (
            f"{where}: no checkpoint; this result was taken over from another study\n"
            "  export it from the study that trained it"
        )
    return (
        f"{where}: no whole checkpoint of trial #{trial.number:03d}\n"
        "  those of trials off the front are deleted as the search goes on, or by `eca-search gc`\n"
        "  (search.checkpoints.of: all keeps them); to train it again, its config is in\n"
        f"  {text.typed('show', study.folder, None)} {trial.number}"
    )


def _space(study: Study, trial: Trial, replicate: Replicate, config: Config) -> str:
    """The trial as a space file of one network, with the seed that trains it again."""
    again = {"seed": study.space.search.seed, "replicates": replicate.number + 1}
    held = ""
    if study.space.search.judge == "test":
        held = "#           (it holds validation images out, which these weights were trained on)\n"
    return (
        f"# Trial {text.clean(trial.name)} of the study {study.name} ({study.uuid}).\n"
        f"# Run:      eca-search run {CONFIG} name={config.name[:70]}-{trial.number:03d}\n{held}"
        f"{config.to_yaml()}{writer.dump({'search': again})}"
    )
