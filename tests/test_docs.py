"""What the documents claim of the tests: each one that is named is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NAMED = sorted(
    {
        name
        for page in (ROOT / "docs").glob("*.md")
        for name in re.findall(r"`((?:tests|benchmarks)/[\w/]+\.py(?:::\w+)?)`", page.read_text())
    }
)


@pytest.mark.parametrize("name", NAMED)
def test_what_a_page_names_is_there(name: str) -> None:
    """A file, and a test in it."""
    path, _, test = name.partition("::")

    assert (ROOT / path).is_file()
    assert not test or re.search(rf"^def {test}\(", (ROOT / path).read_text(), re.MULTILINE)


def test_the_guarantees_name_their_tests() -> None:
    """All nine promises, each with at least one test behind it."""
    page = (ROOT / "docs" / "guarantees.md").read_text()
    promises = re.split(r"^\*\*\d\. ", page.partition("## One driver")[0], flags=re.MULTILINE)[1:]

    assert len(promises) == 9
    assert all("`tests/" in promise for promise in promises)
