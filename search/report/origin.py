"""Where the numbers come from: the space, the versions, and how to have them again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from search import text
from search.redaction import redacted
from search.report.section import Listing, Prose, Section, Table
from search.tracking import projection

if TYPE_CHECKING:
    from search.study.study import Study


def section(study: Study) -> Section:
    """The space as it was searched, and what it ran on."""
    versions, devices = projection.versions(study), text.trained_on(study)
    trained = (Prose(f"Trained on {'; '.join(devices)}."),) if devices else ()
    return Section(
        "Where it comes from",
        (
            Prose(
                f"Study {study.uuid}. The journal beside this file is the truth; everything here "
                "was computed from it. A value is the last epoch's, never the best over epochs; "
                f"{'it is of' if study.space.search.confirms else 'no search reads'} the test "
                "images."
            ),
            *trained,
            Table(["library", "version"], [[k, v] for k, v in versions.items()], left=["library"]),
            Prose("The space:"),
            Listing(redacted(projection.space_text(study))),
        ),
    )
