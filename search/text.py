"""Plain text for terminals and logs: columns, numbers, times, and a study in a few lines."""

from __future__ import annotations

import re
import shlex
import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from search import store
from search.front import pareto, tables
from search.front.membership import noise
from search.study.spending import limits
from spaces.errors import counted
from spaces.objectives import spoken

if TYPE_CHECKING:
    from search.study.study import Study
    from search.trial import Trial

FREE = ("duplicate", "infeasible", "invalid", "preempted")
"""Proposals that train nothing, and trials lost with their nodes: no result and no failure."""
MACS = "MACs: multiply-adds of one image in inference; 1 MAC = 2 FLOPs"
LATENCY = "latency: ms of a forward pass in inference, median (its 95 % interval)"


def columns(
    heading: Sequence[str], rows: Sequence[Sequence[str]], *, left: Collection[str] = ()
) -> str:
    """A table as text; columns are set right, those under a heading in `left` left."""
    widths = [max(map(len, column)) for column in zip(heading, *rows, strict=True)]
    to_left = [name in left for name in heading]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if flush else cell.rjust(width)
            for cell, width, flush in zip(row, widths, to_left, strict=True)
        ).rstrip()
        for row in (heading, *rows)
    )


def clean(text: str) -> str:
    """The text on one line, without characters that would steer a terminal."""
    return "".join(c if c.isprintable() else " " for c in text).strip()


def escaped(text: str) -> Iterator[str]:
    """The text line by line; what would steer a terminal is spelt out, as Python does.

    A carriage return, as progress bars write, ends a line.
    """
    for line in re.split(r"\r?\n|\r", text.removesuffix("\n")):
        yield "".join(
            c if c.isprintable() or c == "\t" else c.encode("unicode_escape").decode() for c in line
        )


def clock(moment: float | None) -> str:
    """Unix seconds as local time."""
    return "-" if moment is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))


def duration(seconds: float) -> str:
    """Seconds as 0:00:07, or 3d 04:12:00."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    rest = f"{minute:02}:{second:02}"
    return f"{days}d {hour:02}:{rest}" if days else f"{hour}:{rest}"


def size(count: float) -> str:
    """Bytes as 512 B or 1.5 MiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def values(study: Study, trial: Trial) -> str:
    """A trial's results and costs under the names of the objectives: `val_accuracy 0.9312 ...`."""
    known = pareto.measured(trial)
    return "  ".join(
        f"{name} {tables.cell(name, trial)}" for name in study.objectives if name in known
    )


def best(study: Study) -> Trial | None:
    """The finished trial with the best result, the earliest among equals.

    Where all objectives are costs: the cheapest by the first of them.
    """
    name = study.judged or next(iter(study.objectives))
    sign = -1 if study.objectives[name].goal == "max" else 1
    finished = [trial for trial in study.trials if trial.objectives is not None]
    return min(finished, key=lambda t: (sign * pareto.measured(t)[name], t.number), default=None)


def tally(study: Study, *, driven: bool = True) -> str:
    """How the study stands: `8 of 14 trials: 6 finished, 1 pruned, 1 failed; 2 running, ...`.

    What runs as far as the journal knows is waiting for `resume` where nobody drives.
    """
    outcomes, counts = study.outcomes(), study.counts(driven=driven)
    ended = sum(outcomes.values())
    active = [f"{counts[word]} {word}" for word in ("running", "waiting") if counts[word]]
    free = [f"{counts[word]} {word}" for word in FREE if counts[word]]
    again = sum(t.promoted is not None and t.outcome == "finished" for t in study.trials)
    words = {"finished": f"finished ({again} promoted)"} if again else {}
    parts = [", ".join(f"{n} {words.get(word, word)}" for word, n in outcomes.items() if n)]
    parts += [", ".join(active), ", ".join(free)]
    said = "; ".join(filter(None, parts))
    return f"{ended} of {counted(study.expected, 'trial')}" + (f": {said}" if said else "")


def losses(study: Study) -> Iterator[str]:
    """One line for each way in which trials ended without a result, with the newest reasons."""
    lost = [trial for trial in study.trials if trial.outcome not in (None, "finished")]
    for outcome, count in Counter(trial.outcome for trial in lost).most_common():
        newest = [trial for trial in lost if trial.outcome == outcome][-2:]
        reasons = "; ".join(f"#{t.number:03d} {short(t.reason)}".rstrip() for t in newest)
        yield f"{outcome} {count}: {'... ' if count > 2 else ''}{reasons}"


def short(said: str) -> str:
    """What others have said, clean and in at most 160 characters."""
    whole = clean(said)
    return whole if len(whole) <= 160 else f"{whole[:157].rstrip()}..."


def promoted(trial: Trial) -> str:
    """That a trial went on after its pruner had stopped it, and why."""
    return f"promoted: on the front with probability {trial.promoted:.2f}"


def over(study: Study) -> Iterator[str]:
    """Why the study is over, where the number of its trials does not say it."""
    ended = study.history.ended
    if ended and study.space.arms is None and not tally(study).startswith(ended):
        yield ended
    if ended and ended.startswith("budget."):
        yield f"with a larger one: {typed('resume', study.folder, None)} {further(study)}"
    if study.history.halted:
        more = "" if len(study.trials) < study.history.total else " --trials N"
        yield f"given up: {clean(study.history.halted)}"
        yield f"when that is mended: {typed('resume', study.folder, None)}{more}"


def further(study: Study) -> str:
    """What is typed after `resume` for a study that is over to go on."""
    key, colon, _ = (study.history.ended or "").partition(":")
    if colon and key.startswith("budget."):
        return f"search.{key}=N"
    return "--trials N" if study.space.arms is None else "search.replicates=N"


def budget(study: Study, *, now: float | None = None) -> str:
    """What is spent of the budget by `now`: `96 of 100 epochs, 1.92 of 2 GPU-hours`."""
    spent = study.history.spending.spent(now)
    words = {"epochs": "epochs", "gpu_hours": "GPU-hours", "hours": "hours"}
    return ", ".join(
        f"{getattr(spent, key):,.4g} of {limit:,g} {words[key]}"
        for key, limit in limits(study.space.search.budget)
    )


def front(study: Study) -> str:
    """The front as a table, cheapest network first.

    Where the noise of a training is known, with the probability that each belongs there.
    """
    front, sure = study.pareto(), study.membership()
    names = tables.shown(front, study.objectives)
    heading = ["trial", *names, "n", *([] if sure is None else ["on front"])]
    heading += ["kernels", "network"]
    rows = [
        [
            f"#{trial.number:03d}",
            *(tables.cell(name, trial) for name in names),
            str(trial.n),
            *([] if sure is None else [f"{sure[trial.number]:.0%}"]),
            tables.kernels(trial.kernels),
            clean(trial.label),
        ]
        for trial in front
    ]
    if not rows:
        return "No trial has finished, so there is no front."
    return columns(heading, rows, left=["kernels", "network"])


def worth(study: Study) -> str:
    """The front's size and hypervolume, with what it is measured from.

    Arms of a comparison are given, not searched for: their front is worth nothing of its own.
    """
    front = study.pareto()
    if study.space.arms is not None:
        return counted(len(front), "network")
    start = [f"{name} {tables.number(value)}" for name, value in study.reference.items()]
    if study.judged in study.origins and study.judged not in study.reference:
        start = [f"{spoken(study.judged)} {study.chance:.4g}", *start]
    volume = f"hypervolume {tables.share(study.hypervolume())} (from {', '.join(start)})"
    return f"{counted(len(front), 'network')}, {volume}"


def devices(study: Study) -> list[str]:
    """The devices that latency was measured on, by name."""
    return sorted({found.device for trial in study.trials for found in trial.latencies})


def trained_on(study: Study) -> list[str]:
    """The devices that trials were trained on, by name, the one of most attempts first."""
    replicates = (replicate for trial in study.trials for replicate in trial.replicates)
    found = (attempt.device for replicate in replicates for attempt in replicate.attempts)
    return [name for name, _ in Counter(filter(None, found)).most_common()]


def footnotes(study: Study) -> Iterator[str]:
    """What a reader of the front's numbers should know of them."""
    yield MACS
    known = None if study.judged is None else noise(study.trials, study.judged)
    if known is not None:
        yield (
            "on front: the probability that a network belongs there; one training varies with its "
            f"seed by {known.sd:.2g} (sd, {known.df} df)"
        )
    elif study.judged is not None:
        yield (
            "how sure the front is: unknown, no network has two seeds; "
            "`search.replicates` (also at `resume`) or `confirm` would tell"
        )
    where = devices(study)
    if where:
        yield f"{LATENCY}, on {clean(where[0])}"
    if len(where) > 1:
        others = "; ".join(map(clean, where[1:]))
        yield f"note: and on {others}: latencies of different devices are not comparable"


def summary(study: Study) -> str:
    """What a search came to: outcomes with reasons, the front, and where everything is.

    Of a comparison or a confirmation, which say themselves what they came to, without the front.
    """
    lines = [f"{study.name}: {tally(study)}", *(f"  {line}" for line in losses(study))]
    lines += [*(f"  over: {line}" for line in over(study)), ""]
    if study.pareto() and study.space.arms is None:
        lines += [f"Pareto front: {worth(study)}", front(study), *footnotes(study), ""]
    return "\n".join([*lines, *ways_on(study)])


def ways_on(study: Study) -> Iterator[str]:
    """Where a study is, and the commands that show it or go on from it."""
    yield f"study    {shown(study.folder)}"
    yield f"look     {typed('ui', study.folder, study.tracking_uri)}"
    if study.pareto():
        yield f"report   {typed('report', study.folder, None)}"
    if study.pareto() and study.space.arms is None:
        yield f"confirm  {typed('confirm', study.folder, None)}   (the front, with fresh seeds)"


def typed(command: str, folder: Path, tracking_uri: str | None) -> str:
    """A command on a study and its MLflow store, as it is typed: `eca-search ui runs/digits`.

    The store is named where it is not the one beside the study, and holds no credentials.
    """
    from search.store import default_uri

    line = f"eca-search {command} {_word(_short(folder))}"
    uri = store.public(tracking_uri or "")
    if not uri or uri == default_uri(folder.absolute().parent):
        return line
    return f"{line} --tracking-uri {shlex.quote(uri)}"


def shown(folder: Path) -> str:
    """A folder as it is best read: relative where it lies below the working folder."""
    short = _short(folder)
    return short if short.isprintable() else _word(short)


def _short(folder: Path) -> str:
    try:
        return str(folder.relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(folder)


def _word(text: str) -> str:
    """The text as one word of a shell; what would steer a terminal is spelt out, as bash does."""
    if text.isprintable():
        return shlex.quote(text)
    spelt = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text.replace("\\", r"\\"))
    return "$'" + spelt.replace("'", r"\'") + "'"
