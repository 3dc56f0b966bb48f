"""One token of a ready space changed: valid still, or refused in a few located lines.

Never a traceback, a hang or a file; whatever a person's finger slips on.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

import spaces
from search.beforehand import preflight
from search.beforehand.survey import LISTED, ends, remarks, survey
from search.errors import Unfit
from spaces.parameters import Parameter
from spaces.paths import READY
from trainers.datasets import DatasetError

ROOT = Path(__file__).parents[2]
TEXTS = {path.stem: path.read_text() for path in sorted(READY.glob("*.yaml"))}
TOKEN = re.compile(r"\"[^\"\n]*\"|[A-Za-z_][\w.]*|[-+]?[0-9][\w.+-]*|\n *|[ ]+|#[^\n]*|.")
NASTY = (
    *("", " ", "\n", "\n  ", "\t", "\r", "\0", "\x1b", "\ufeff", "\u2028", "é", "\U0001f600", '"'),
    *("'", "#", "%", "@", "`", "|", ">", "&a", "*a", "!x", "!!python/name:os.system", "---", "..."),
    *("{", "}", "[", "]", ",", ":", "-", "?", "<<", "=", "{}", "[]", "[[]]", "{a: 1}", "[1, 2]"),
    *("null", "~", "true", "yes", "no", ".nan", ".inf", "-0", "0", "1", "-1", "2", "3.5", "1e-9"),
    *("1e9", "1e308", "1e400", "0x10", "010", "9" * 30, "9" * 5000, "x" * 5000, "2024-01-01"),
    *("{choice: [1, 2]}", "{int: [1, 4]}", "{float: [0, 1]}", "{subset: [1, 2]}", "{choice: []}"),
    *("{int: [4, 1]}", "{float: [0.1, 1], log: true}", "{int: [1, 9007199254740993]}"),
    *("name", "choice", "default", "log", "step", "none", "eca", "se", "resnet", "final", "search"),
    *("'../../x'", '"\\e[31m"', '"<script>"', '"\\ud800"', '"\\0"', "sqlite:///", "http://a:b@c"),
)
LINE = re.compile(r"[^\n]+?:[0-9]+:[0-9]+: \S.*|\.\.\. and [0-9]+ more|.+: not read: .+")
CPU_SECONDS = 5
"""Of one example; of processor time, since a shared machine may be slow."""


def tokens(text: str) -> list[str]:
    """The text in pieces that a person types as one; joined they are the text."""
    return TOKEN.findall(text)


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """A ready space with one token left out, doubled, exchanged, or another one in its place."""
    pieces = tokens(TEXTS[draw(st.sampled_from(sorted(TEXTS)))])
    words = [n for n, piece in enumerate(pieces) if piece.strip() and not piece.startswith("#")]
    place = draw(st.sampled_from(words))
    other = draw(st.sampled_from(words))
    change = draw(st.sampled_from(["replace", "own", "insert", "delete", "double", "swap", "cut"]))
    if change == "replace":
        pieces[place] = draw(st.sampled_from(NASTY))
    elif change == "own":
        pieces[place] = pieces[other]
    elif change == "insert":
        pieces.insert(place, draw(st.sampled_from(NASTY)))
    elif change == "delete":
        del pieces[place]
    elif change == "double":
        pieces.insert(place, f"{pieces[place]} ")
    elif change == "swap":
        pieces[place], pieces[other] = pieces[other], pieces[place]
    else:
        del pieces[place:]
    return "".join(pieces)


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raise from what takes more of the processor's time."""

    def over(number: int, frame: object) -> None:
        raise AssertionError(f"more than {seconds} s of processor time")

    before = signal.signal(signal.SIGVTALRM, over)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def looked_at(text: str) -> str:
    """What `validate` says against the text; empty where it is valid."""
    try:
        space = spaces.load("fuzz.yaml", text=text)
        preflight.check(space)
        space.baselines()
        reloaded = spaces.load("fuzz.yaml", text=space.to_yaml())
        assert reloaded == space
        for values in (space.sample(seed=0), space.fill(Parameter.first)):
            config = space.at(values)
            assert spaces.Config.model_validate(config.model_dump(mode="json")) == config
        size = space.size()
        if size is not None and size <= min(LISTED, 60):
            survey(space)
            remarks(space)
        else:
            ends(space)
    except spaces.SpaceError as error:
        return str(error)
    except (Unfit, DatasetError) as error:
        return f"fuzz.yaml: not read: {error}".replace("\n", " ")
    return ""


def check(text: str, folder: Path) -> None:
    """The property."""
    note(text)
    before = os.getcwd()
    os.chdir(folder)
    try:
        with at_most(CPU_SECONDS):
            said = looked_at(text)
    finally:
        os.chdir(before)
    note(said)
    lines = said.split("\n") if said else []
    assert len(lines) <= 6
    for line in lines:
        assert LINE.fullmatch(line), line
        assert line.isprintable(), line
    assert not any(folder.iterdir())


def test_tokens_are_the_text() -> None:
    """Nothing but the one change is changed."""
    for text in TEXTS.values():
        assert "".join(tokens(text)) == text
        assert re.fullmatch("|fuzz.yaml: not read: dataset.root: no .*", looked_at(text))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder, which stays so."""
    return tmp_path_factory.mktemp("fuzz")


quick = settings(
    max_examples=300,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@pytest.mark.timeout(600)
@quick
@given(text=mutated())
def test_a_slip_of_the_finger(text: str, folder: Path) -> None:
    """A few hundred single-token changes of the ready spaces."""
    check(text, folder)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@settings(quick, max_examples=10_000)
@given(text=mutated())
def test_many_slips_of_the_finger(text: str, folder: Path) -> None:
    """Ten thousand of them."""
    check(text, folder)
