"""What the README says is run: its commands, its YAML, its Python, its error, its front."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import search
import spaces
from search.cli import SECTIONS, cli
from search.front import tables

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
SHOWN = ROOT / "benchmarks" / "results" / "cifar10-laptop"


def blocks(language: str) -> list[str]:
    """Fenced blocks of that language."""
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def commands() -> list[str]:
    """Every eca-search command line shown, without its comment."""
    written = "\n".join(blocks("sh")).replace("\\\n", "")
    lines = written.splitlines() + re.findall(r"`(eca-search [^`]+)`", README)
    return [line.partition("#")[0].strip() for line in lines if line.startswith("eca-search")]


def between(mark: str) -> str:
    """The text between two invisible marks."""
    found = re.search(rf"<!-- {mark}:begin -->\n(.*?)<!-- {mark}:end -->", README, re.DOTALL)
    assert found
    return found[1].strip()


@pytest.mark.parametrize("line", sorted(set(commands())))
def test_every_command_shown_exists_with_its_options(line: str) -> None:
    """Command and options are the program's own."""
    words = shlex.split(line.partition(" > ")[0])[1:]
    shown = CliRunner().invoke(cli, [words[0], "--help"])

    assert shown.exit_code == 0
    assert any(words[0] in section for section in SECTIONS.values())
    for option in (word for word in words if word.startswith("--")):
        assert option in shown.output


@pytest.mark.parametrize(
    "line",
    [
        line
        for line in "\n".join(blocks("sh")).splitlines()
        if " mappings " in line or " complexity " in line
    ],
)
def test_what_a_comment_says_the_command_prints(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The figures beside `mappings` are those it prints."""
    monkeypatch.chdir(tmp_path)
    command, _, comment = line.partition("#")
    done = CliRunner().invoke(cli, shlex.split(command)[1:])

    assert done.exit_code == 0
    assert comment.strip().partition(";")[0] in done.output


@pytest.mark.parametrize("text", blocks("yaml"))
def test_every_space_shown_is_valid(text: str, tmp_path: Path) -> None:
    """The YAML shown loads and samples."""
    path = tmp_path / "shown.yaml"
    path.write_text(text)
    space = spaces.load(path)

    assert space.at(space.sample(seed=0))
    assert [space.at(values) for values in space.baselines()]


def test_the_python_shown_runs(tmp_path: Path) -> None:
    """The Python block runs as it stands, in an empty folder."""
    (text,) = blocks("python")
    done = subprocess.run(
        [sys.executable, "-c", text], cwd=tmp_path, capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs" / "digits" / "journal.jsonl").exists()


def test_the_error_shown_is_the_program_s(tmp_path: Path) -> None:
    """The mistake shown gives the message shown."""
    (shown,) = blocks("text")
    (text,) = blocks("yaml")
    wrong = text.replace("gamma: {float: [1, 4], step: 0.5, default: 2}", "gama: 2")
    (tmp_path / "mine.yaml").write_text(wrong)
    with pytest.raises(spaces.SpaceError) as refused:
        spaces.load(tmp_path / "mine.yaml")

    assert str(refused.value).replace(f"{tmp_path}/", "") == shown.strip()


def test_every_ready_space_is_in_the_table() -> None:
    """The table lists the ready spaces, all of them and no others."""
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", README, flags=re.MULTILINE)
    listed = set(re.findall(r"`(\w+)`", " ".join(rows)))

    assert listed == {path.stem for path in (ROOT / "spaces").glob("*.yaml")}


def test_the_front_shown_is_the_journal_s(tmp_path: Path) -> None:
    """The table under the picture is the front of the journal kept in benchmarks/results."""
    folder = shutil.copytree(SHOWN, tmp_path / "study")
    study = search.load(folder)

    assert tables.front_markdown(study.trials, study.objectives) in between("front")


def test_every_picture_shown_is_there() -> None:
    """Links to files lead somewhere."""
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
