"""What confirmations came to: search against test images, and how the order held."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from search import text
from search.comparison import confirming
from search.report.section import Part, Prose, Section, Table
from spaces.errors import counted

if TYPE_CHECKING:
    from search.study.study import Study


def section(study: Study, confirmations: Sequence[Study]) -> Section | None:
    """Of a confirmation itself, or of all that confirm a study; None where there is none."""
    found = told(study, confirmations)
    return Section("Confirmed", tuple(_parts(found))) if found else None


def told(study: Study, confirmations: Sequence[Study]) -> Sequence[Study]:
    """The confirmations that a report on the study is to tell of: itself, or those of it."""
    return confirmations if study.space.search.confirms is None else [study]


def table(confirmations: Sequence[Study]) -> Table:
    """A row a network; of several confirmations each row says of which."""
    several = len(confirmations) > 1
    rows: list[list[str]] = []
    heading: list[str] = []
    for one in confirmations:
        heading, *below = confirming.rows(confirming.confirmation(one))
        rows += [[one.name, *row] for row in below] if several else below
    names = ["confirmation", *heading] if several else heading
    caption = "Means over n fresh seeds, ± the sample standard deviation; test images."
    return Table(names, rows, left=["confirmation", "network"], caption=caption)


def records(confirmations: Sequence[Study]) -> list[dict[str, Any]]:
    """The same as data: a number a cell, accuracies in 0..1, None where there is none."""
    return [
        {
            "confirmation": study.name,
            "searched_as": one.original,
            f"search_{found.searched}": one.searched,
            "confirmed_as": one.trial.number,
            f"confirmed_{found.judged}": one.mean,
            f"confirmed_{found.judged}_sd": one.sd,
            "n": one.n,
            "network": one.trial.label.partition(": ")[2],
            **one.trial.costs,
        }
        for study in confirmations
        for found in [confirming.confirmation(study)]
        for one in found.networks
    ]


def sentence(study: Study) -> str:
    """What a confirmation has done, with its own numbers, for a methods paragraph."""
    told = confirming.confirmation(study)
    found = told.networks
    trained = [one.n for one in found if one.n]
    few, most = min(trained, default=0), max(trained, default=0)
    seeds = f"{few} to {most}" if few < most else f"{most}"
    epochs = {one.trial.config["training"]["epochs"] for one in found}
    schedule = f" for {counted(epochs.pop(), 'epoch')}" if len(epochs) == 1 else ""
    changed = f", with {', '.join(told.changed)} where the search had others," * bool(told.changed)
    unfinished = "" if study.history.ended else " (not finished)"
    networks = f"{len(found)} of the networks {'was' if len(found) == 1 else 'were'}"
    return (
        f"{networks} then trained anew{schedule}{changed} with {seeds} fresh "
        f"seed{'s' * (most != 1)} each on training and validation images and judged by the test "
        f"images, which the search never read{unfinished}."
    )


def _parts(confirmations: Sequence[Study]) -> Iterator[Part]:
    count = len(confirmations)
    if count > 1:
        yield Prose(
            f"There are {count} confirmations, in the order in which they were begun. All looked "
            "at the same test images: the best figure among them is a choice again."
        )
    for number, study in enumerate(confirmations, 1):
        found = confirming.confirmation(study)
        which = f"Confirmation {number} of {count}, " if count > 1 else ""
        yield Prose(
            f"{which}{study.name}: networks of {found.study}, trained anew with fresh seeds on "
            "training and validation images, judged by the test images, which the search never "
            f"read. {text.tally(study)}."
        )
        yield table([study])
        yield from (Prose(f"{line}.") for line in confirming.lines(found))
