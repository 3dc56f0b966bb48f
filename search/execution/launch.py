"""Where the parts are put together: a space becomes a study in a folder, driven to its end.

`run`, `resume`, `load` and `sync` are what the command line and `import search` offer.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import spaces
from search import text
from search.beforehand import options, preflight
from search.errors import Behind, JournalError, StudyExists, Unfit
from search.execution import executors, sweeping
from search.execution.driving import drive, settled_store, tracking_of, without_password
from search.execution.executors import Executor, Say, Watch, Wish
from search.redaction import redacted
from search.study import earlier, edits, garbage, journal, lease
from search.study.study import Study
from spaces import Space, SpaceError, catalogue
from spaces.durable import sweep, write_whole
from spaces.errors import Problem, counted

if TYPE_CHECKING:
    from search.study.mirror import Mirror

__all__ = ["StudyExists", "Unfit", "load", "resume", "run", "sync"]

SPACE = "space.yaml"


def run(
    source: str | Path | Space,
    *,
    out: str | Path = "runs",
    overrides: Sequence[str] = (),
    executor: str | None = None,
    address: str | None = None,
    max_concurrent: int | None = None,
    plugins: Sequence[str | Path] = (),
    resume: bool = False,
    fork: bool = False,
    force: bool = False,
    tracking_uri: str | None = None,
    watch: Watch = lambda study: None,
    say: Say = lambda text: None,
) -> Study:
    """Start a study in `out/<name>` and drive it to its end.

    Args:
        source: a space file, the bare name of a ready one, or a loaded `Space`.
        out: the folder of studies; also of the MLflow store where no other is named.
        overrides: `key.path=value`, typed by the space's schema; of a file or a name alone.
        executor: `ray` or `inprocess`; the space's own choice where None.
        address: a Ray cluster; else `$RAY_ADDRESS`, else one is started here.
        max_concurrent: at most so many trials at a time; else what the cluster holds.
        plugins: files with variants of one's own; their source is part of the run key.
        resume: go on where this study was started before, as the function `resume` does.
        fork: where it was started before, begin a new study with its results.
        force: take over from a driver on another machine without waiting for its lease to run out.
        tracking_uri: the MLflow store; else the space's, else `$MLFLOW_TRACKING_URI`, else SQLite.
        watch: called after every commit: what it sees is on the disk.
        say: given one line for each thing a person should know before the first trial.

    Raises:
        SpaceError: the space is not valid. Nothing was created.
        StudyExists: `out/<name>` holds a study and `resume` was not asked for, or another study.
        Unfit: data is missing, or the cluster holds no trial. Nothing was created.
        JournalError: another driver owns the study, or its journal is damaged.
        Stopped: somebody asked for it (`eca-search stop`); `resume` goes on.
    """
    for plugin in plugins:
        catalogue.plug(plugin)
    if isinstance(source, Space) and overrides:
        said = "they are for a file or a name: spaces.load(source, overrides=...) applies them"
        raise SpaceError([Problem(None, "overrides", said)])
    space = source if isinstance(source, Space) else spaces.load(source, overrides=overrides)
    preflight.check(space)
    settled_store(space, tracking_uri, Path(out))
    space, tracking_uri = without_password(space, tracking_uri, say)
    folder = Path(out).absolute() / space.name
    lease.refuse_driven(folder, force=force, say=say)
    wish = Wish(executor, address, max_concurrent)
    known = load(folder) if journal.exists(folder) else None
    if known is not None and not (resume or fork):
        again = text.typed("resume", folder, None)
        seeds = f"  with more seeds: {again} search.replicates=N\n" if space.arms else ""
        other = "--name" if space.search.confirms else "`name`, or another --out"
        raise StudyExists(
            f"{folder}: a study was started here\n"
            f"  go on with it:   {again}\n{seeds}"
            f"  or start another: give it another {other}"
        )
    if known is not None and not fork:
        # its file still says what the study's own, which is written anew, has said since
        if told := earlier.overrides(known.history.study["space"], space):
            space = spaces.load(space.source, text=space.to_yaml(), overrides=told)
        _agreed(known, space, "the space you gave", forks=space.arms is None)
        return _resume(known, space, None, wish, force, tracking_uri, watch, say)
    if known is not None:
        _forkable(known)
        space = _renamed(space, folder.parent, _total(known, space))
        folder = folder.with_name(space.name)
    return _start(folder, space, known, wish, tracking_uri, watch, say)


def _start(
    folder: Path,
    space: Space,
    known: Study | None,
    wish: Wish,
    tracking_uri: str | None,
    watch: Watch,
    say: Say,
) -> Study:
    """A new study, beginning with the results of a known one where there is one."""
    from search.beforehand.examine import examiner
    from search.beforehand.survey import reference

    examine = examiner(space)
    at = reference(space)
    first = preflight.first_point(space, examine)
    chance = preflight.chance(space, first)
    preflight.whole(space, examine, say)
    with (
        mirrored(space, folder, force=False, say=say) as mirror,
        executors.held(space, wish, say) as executor_,
    ):
        _fits_device(space, first, executor_)
        study = Study.create(
            folder,
            space,
            examine,
            reference=at,
            chance=chance,
            versions=preflight.versions(),
            plugins=[str(path) for path in catalogue.plugins()],
            forked=None if known is None else known.uuid,
        )
        try:
            if known is not None:
                found = list(edits.carried(known, space, examine))
                for trial, values in found:
                    study.carry(trial, values)
                study.carried(len(found))
                study.extend(max(study.history.total, len(study.trials)))
                finished = known.outcomes()["finished"]
                many = f"{len(found)} of {counted(finished, 'result')}"
                say(f"{folder}: {many} of {known.name} carried over")
            _write(folder, space)
        except BaseException:
            study.close()
            raise
        return drive(study, executor_, tracking_uri, watch, say, mirror)


def resume(
    folder: str | Path,
    *,
    out: str | Path = "runs",
    overrides: Sequence[str] = (),
    trials: int | None = None,
    fork: bool = False,
    force: bool = False,
    executor: str | None = None,
    address: str | None = None,
    max_concurrent: int | None = None,
    tracking_uri: str | None = None,
    watch: Watch = lambda study: None,
    say: Say = lambda text: None,
) -> Study:
    """Go on with a study from its journal; `trials` is its new total. Raises as `run` does.

    Where `folder` is the URI of its mirror (`search.mirror`, a slash, its name), the journal is
    fetched to `out/<name>` first.

    Its `space.yaml` may have been edited, and `overrides` edit it too, in what no result depends on
    (`edits.FREE`). Other edits are refused, or with `fork` begin a new study beside it, with
    those of its results that are points of the edited space.
    """
    wish = Wish(executor, address, max_concurrent)

    def go_on(folder: Path) -> Study:
        return _go_on(folder, overrides, trials, fork, force, wish, tracking_uri, watch, say)

    if "://" not in str(folder):
        return go_on(Path(folder))
    from search.study.mirror import fetched

    while True:
        try:
            return go_on(fetched(str(folder), Path(out), say))
        except Behind as more:  # its driver sealed more while we waited for its end
            if more.uri != str(folder).rstrip("/"):
                raise


def _go_on(
    folder: Path,
    overrides: Sequence[str],
    trials: int | None,
    fork: bool,
    force: bool,
    wish: Wish,
    tracking_uri: str | None,
    watch: Watch,
    say: Say,
) -> Study:
    """Take up the study in a folder, or begin its fork beside it."""
    folder = folder.absolute()
    study = load(folder)
    if trials is not None and trials < len(study.trials) and not fork:
        have = len(study.trials)
        said = f"it has {counted(have, 'trial')} already (got {trials}; allowed: {have} or more)"
        raise SpaceError([Problem(None, "trials", said)])
    known = None if (folder / SPACE).is_file() else study.space.to_yaml()
    space = spaces.load(folder / SPACE, overrides=overrides, text=known)
    if told := earlier.overrides(study.history.spelled, space):
        space = spaces.load(folder / SPACE, overrides=[*told, *overrides], text=known)
    preflight.check(space)
    space, tracking_uri = without_password(space, tracking_uri, say)
    if fork:
        _forkable(study)
        forked = _renamed(space, folder.parent, trials or _total(study, space))
        if not overrides and edits.changes(study.space, space):
            _write(folder, study.space)  # the edit is the fork's now
        return _start(folder.with_name(forked.name), forked, study, wish, tracking_uri, watch, say)
    _agreed(study, space, f"{folder / SPACE}{' with your overrides' * bool(overrides)}")
    return _resume(study, space, trials, wish, force, tracking_uri, watch, say)


def load(folder: str | Path) -> Study:
    """The study as its journal tells it now; raises `JournalError` where there is none."""
    folder = Path(folder).absolute()
    records = journal.read(folder)
    if not records:
        raise JournalError(f"{folder}: the journal holds no record yet")
    for plugin in records[0]["plugins"]:
        catalogue.plug(plugin)
    if "forked" in records[0] and not any(record["kind"] == "carried" for record in records):
        raise JournalError(
            f"{folder}: this fork was cut short while it took results over\n"
            "  remove the folder and fork again: the study that it came from is as it was"
        )
    newest = next(record for record in reversed(records) if "space" in record)
    told = earlier.overrides(newest["space"])
    space = spaces.load(folder / SPACE, overrides=told, text=newest["space"])
    return Study(folder, space, records)


def sync(folder: str | Path, *, tracking_uri: str | None = None, say: Say = print) -> bool:
    """Bring MLflow level with the journal; what is there already is left alone.

    A study that is being driven is left to its driver: False, and said. Raises `TrackingError` when
    the store cannot be written.
    """
    study = load(folder)
    with lease.apart(study.folder) as driver:
        if driver is not None:
            say(f"{study.name} is being driven just now: its driver writes MLflow")
            return False
        study = load(folder)  # nobody adds to it now
        tracking_of(study, tracking_uri or study.tracking_uri, say).project(study)
    return True


def _resume(
    ended: Study,
    space: Space,
    trials: int | None,
    wish: Wish,
    force: bool,
    tracking_uri: str | None,
    watch: Watch,
    say: Say,
) -> Study:
    folder, total = ended.folder, ended.history.total
    wanted = trials or max(total, space.search.trials or 1)
    lease.refuse_driven(folder, force=force, say=say)
    changed = edits.changes(ended.space, space)
    if ended.history.ended and wanted == total and not any(map(edits.longer, changed)):
        again = f"{text.typed('resume', folder, None)} {text.further(ended)}"
        say(f"{ended.name} is finished ({ended.history.ended}); to N in all: {again}")
        if changed:
            say(f"note: nothing is trained, so the study stays as it was: {', '.join(changed)}")
        with tracking_of(ended, tracking_uri or ended.tracking_uri, say):
            pass  # its driver may have died before MLflow was told of the end
        if "search.checkpoints.of" not in changed:
            sweeping.once(ended, say)  # or before it had swept
        watch(ended)
        return ended
    from search.beforehand.examine import examiner

    known = None if "search.executor" in changed else ended.history.executor
    wish = replace(wish, executor=wish.executor or known)
    if "search.tracking.uri" not in changed:
        tracking_uri = tracking_uri or ended.tracking_uri
    examine = examiner(space)
    first = preflight.first_point(space, examine)  # its data may have gone since
    preflight.unchanged(ended, examine)
    for library, (then, now) in preflight.upgraded(ended.history.versions).items():
        say(f"warning: {library} was {then} and is {now} now: later results may differ by that")
    with (
        mirrored(space, folder, force=force, say=say) as mirror,
        executors.held(space, wish, say) as executor,
    ):
        _fits_device(space, first, executor)
        study = Study.drive(folder, space, examine, force=force, say=say)
        try:
            study.edited(changed)
            _look_for_weights(study, changed, say)
            study.extend(wanted)
            _write(folder, space)
            sweep(folder)
        except BaseException:
            study.close()
            raise
        return drive(study, executor, tracking_uri, watch, say, mirror)


def _look_for_weights(study: Study, changed: Collection[str], say: Say) -> None:
    """Say of which networks the checkpoints are gone, where more is to be made of them."""
    seeds = any(key.startswith(edits.SEEDS) for key in changed)
    promotes = study.space.search.promote is not None
    if not (seeds or promotes):
        return
    try:
        there = garbage.folders(study)
    except Exception as error:  # every kind of store has its own way of being away
        why = text.short(redacted(str(error))) or type(error).__name__
        where = redacted(study.checkpoints)
        say(f"warning: {where}: {why}; which checkpoints are left is not known")
        return
    if seeds and (gone := garbage.weightless(study, there)):
        say(f"warning: {counted(gone, 'finished network')} without checkpoints any more:")
        say("         one that more seeds bring to the front has the weights of those alone")
    if promotes and (bare := garbage.bare(study, there)):
        study.bare.update(bare)
        say(f"note: {counted(len(bare), 'stopped trial')} without checkpoints any more:")
        say("      a second chance begins with the first epoch")


def mirrored(
    space: Space, folder: Path, *, force: bool, say: Say
) -> AbstractContextManager[Mirror | None]:
    """The study's mirror held, where its space names one."""
    from search.study import mirror

    if space.search.mirror and "://" not in (space.search.checkpoints.uri or ""):
        say("note: search.mirror keeps the journal; checkpoints stay on this machine without a")
        say("      search.checkpoints.uri, and another one begins running trials anew")
    return mirror.claimed(space.search.mirror, folder, force=force, say=say)


def _agreed(study: Study, space: Space, called: str, *, forks: bool = True) -> None:
    """Raise StudyExists, with a diff, for a space that the study cannot go on with.

    `forks`: whether the command offers --fork.
    """
    or_else = "give --fork for a new study that keeps the results that fit"
    if not forks:
        or_else = "start another: give it another `name`, as name=NAME, or another --out"
    refused = {
        key: change
        for key, change in edits.changes(study.space, space).items()
        if not edits.free(key, *change)
    }
    if refused:
        if study.space.search.confirms:
            or_else = "give `eca-search confirm` another --name"
        raise StudyExists(
            f"{study.folder}: {called} is not what this study was started with\n"
            f"{edits.told(refused)}\n"
            f"  undo that, or {or_else}"
        )


def _forkable(study: Study) -> None:
    """Raise StudyExists for a confirmation: a fork of it could train what no search has found."""
    confirms = study.space.search.confirms
    if confirms:
        known = text.typed("confirm", study.folder.with_name(confirms.study), None)
        raise StudyExists(
            f"{study.folder}: a confirmation has no forks, as its networks are the search's\n"
            f"  confirm them another way: {known} --name NAME training.KEY=VALUE"
        )


def _total(known: Study, space: Space) -> int:
    """How many trials a fork has in all: what its space says anew, else what its study had."""
    asked = space.search.trials or 1
    return asked if asked != known.space.search.trials else max(asked, known.history.total)


def _renamed(space: Space, out: Path, trials: int) -> Space:
    """The space of a fork with so many trials, under a name that no study in `out` has.

    That is its own, or its own with -2, -3 ... after it.
    """
    names = itertools.chain([space.name], (f"{space.name}-{n}" for n in itertools.count(2)))
    name = next(name for name in names if not journal.exists(out / name))
    wanted = [f"name={name}", f"search.trials={trials}"]
    return spaces.load(space.source, text=space.to_yaml(), overrides=wanted)


def _fits_device(space: Space, values: dict[str, object], executor: Executor) -> None:
    """Raise SpaceError for a recipe that the device cannot do; a GPU is looked at by its worker."""
    import trainers

    if executor.device == "cpu":
        try:
            trainers.check_device(space.at(values), "cpu")
        except ValueError as error:
            raise SpaceError(options.located(space, error, values)) from None


def _write(folder: Path, space: Space) -> None:
    """Put `space.yaml` in place; one that says the same already is left as it is."""
    path = folder / SPACE
    if not path.is_file() or spaces.load(path) != space:
        whole = redacted(_preamble(space)) + space.to_yaml()
        write_whole(path, whole.encode(), kind="space", mode=0o600)


def _preamble(space: Space) -> str:
    """The comments a space file opens with: its question, command, cost and expectation."""
    if not space.source.is_file():
        return ""
    lines = itertools.takewhile(
        lambda line: line.startswith("#"), space.source.read_text().splitlines()
    )
    return "".join(f"{line}\n" for line in lines if "yaml-language-server" not in line)
