"""What is seen while a study runs: the lines of a log, the block of a terminal."""

from __future__ import annotations

import io
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import search
import spaces
from search import text
from search.commands import progress
from search.commands.progress import Block, JsonLines, Lines
from search.study.study import Study
from search.trial import Candidate, Ending

SPACE = """\
name: seen
task: {name: classification}
dataset: {name: digits}
backbone: {name: resnet, depth: 8, width: {choice: [0.25, 0.5, 0.75, 1.0, 1.5, 2.0]}}
training: {epochs: 4, batch_size: 32, optimizer: {name: sgd, lr: 0.1}}
search: {trials: 4, sampler: {name: BruteForceSampler}}
"""


def examine(values: dict[str, Any]) -> Candidate:
    """A network whose cost is its width."""
    width = values["backbone.width"]
    key, config = f"width{width}", {"training": {"epochs": 4}}
    costs = {"params": 1000 * width, "macs": 9000 * width}
    return Candidate(config, key, key, costs, {}, "none", f"w{width:g} none")


@pytest.fixture
def study(tmp_path: Path) -> Iterator[Study]:
    """A study that a test drives by hand; only the training is left out."""
    (tmp_path / "seen.yaml").write_text(SPACE)
    space = spaces.load(tmp_path / "seen.yaml")
    reference = {"params": 2000.0, "macs": 18000.0}
    study = Study.create(tmp_path / "seen", space, examine, reference=reference, chance=0.1)
    yield study
    study.close()


@pytest.fixture(autouse=True)
def _always_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PAUSE", 0.0)


def train(study: Study, *accuracies: float, ending: Ending | None = None) -> int:
    """Hand out the next attempt, report its epochs, end it; returns the trial's number."""
    assignment = study.next()
    assert assignment is not None
    study.start(assignment, "here:1")
    for epoch, accuracy in enumerate(accuracies, start=assignment.known + 1):
        study.report(
            assignment.trial, assignment.replicate, {"epoch": epoch, "val_accuracy": accuracy}
        )
    if ending is not None:
        study.end(assignment.trial, assignment.replicate, ending)
    study.commit()
    return assignment.trial


def finish(study: Study) -> int:
    return train(study, 0.2, 0.4, 0.6, 0.8, ending=Ending("finished", ""))


def test_a_line_for_every_trial_that_ends(study: Study) -> None:
    """Number, name, outcome, values, and how many have ended; each trial once."""
    stream = io.StringIO()
    lines = Lines(stream)
    for _ in range(2):
        number = finish(study)
        lines(study)
        lines(study)
    first, second = stream.getvalue().splitlines()
    trial = study.trials[number]
    costs = f"params {trial.costs['params']:,.0f}  macs {trial.costs['macs']:,.0f}"
    assert second == f"{trial.name} finished val_accuracy 0.8000  {costs} (2 of 4)"
    assert first.endswith("(1 of 4)")


def test_a_promotion_has_a_line_of_its_own(synthetic: Callable[..., Study]) -> None:
    """A trial that ended as pruned, went on, and ended as finished: three lines, in that order,
    whether somebody looks while it runs again or not.
    """
    for looked in (False, True):
        study = synthetic(pruner={"name": "ThresholdPruner", "lower": 0.3, "promote": 0.001})
        stream = io.StringIO()
        lines = Lines(stream)
        while (given := study.next()) is not None:
            if looked or not given.known:
                lines(study)
            number = given.trial
            study.start(given, "here")
            if looked:
                lines(study)
            for epoch in range(given.known + 1, 4):
                value = 0.4 + (number if epoch > 1 else number * 5 % 8) / 20
                value = 0.25 if number == 3 and epoch == 1 else value
                if study.report(number, 0, {"epoch": epoch, "val_accuracy": value}):
                    break
            else:
                study.end(number, 0, Ending("finished", ""))
        lines(study)
        told = [line for line in stream.getvalue().splitlines() if line.startswith("#003 ")]
        assert [line.split()[2].rstrip(":") for line in told] == ["pruned", "promoted", "finished"]
        assert "(1 promoted)" in text.tally(study)
        study.close()
        (study.folder / "journal.jsonl").unlink()


def test_what_a_resume_begins_with_is_told(
    write_space: Callable[..., Path], tmp_path: Path
) -> None:
    """The first promotion, and seeds that trials which were over are given: nothing had been seen
    of the study before. As data, the promotion has its probability.
    """
    asked = "pruner: {name: MedianPruner, n_startup_trials: 4}\nobjectives: {val_accuracy: max}"
    width = "{choice: [0.25, 0.5, 0.75, 1.0]}"
    path = write_space(name="late", width=width, trials=8, search=asked)
    study = search.run(path, out=tmp_path / "runs", executor="inprocess")
    stopped = [trial for trial in study.trials if trial.outcome == "pruned"]
    assert stopped
    folder = tmp_path / "runs" / "late"
    stream = io.StringIO()
    change = ["search.pruner.promote=0.0001"]
    said: list[str] = []
    study = search.resume(folder, overrides=change, watch=JsonLines(stream), say=said.append)
    (note,) = [line for line in said if "without checkpoints any more" in line]
    assert note.startswith(f"note: {len(stopped)} stopped trial")
    told = [json.loads(line) for line in stream.getvalue().splitlines()]
    again = [trial for trial in study.trials if trial.promoted is not None]
    assert again
    for trial in again:
        first, *_, last = [event for event in told if event.get("trial") == trial.number]
        assert " promoted: " in first["message"]
        assert first["promoted"] == trial.promoted
        assert last["outcome"] == "finished"

    stream = io.StringIO()
    study = search.resume(folder, overrides=["search.replicates=2"], watch=Lines(stream))
    seeds = [line for line in stream.getvalue().splitlines() if " seed 2 of 2 " in line]
    finished = [trial for trial in study.trials if trial.outcome == "finished"]
    assert sorted(line.partition(" seed ")[0] for line in seeds) == sorted(
        trial.name for trial in finished
    )


def test_a_further_seed_has_a_line_of_its_own(tmp_path: Path) -> None:
    """Each once; a value that four digits would call nothing is told as it is."""
    (tmp_path / "seen.yaml").write_text(
        SPACE.replace("{trials: 4,", "{trials: 1, further: {seeds: 2, most: 3},")
    )
    space = spaces.load(tmp_path / "seen.yaml")
    reference = {"params": 2000.0, "macs": 18000.0}
    study = Study.create(tmp_path / "seen", space, examine, reference=reference, chance=0.1)
    stream = io.StringIO()
    lines = Lines(stream)
    finish(study)
    lines(study)
    train(study, 0.1, 0.1, 0.1, 1.24e-5, ending=Ending("finished", ""))
    lines(study)
    lines(study)
    study.close()
    _, further = stream.getvalue().splitlines()
    assert further.endswith("further seed 2 val_accuracy 1.2e-05")


def test_a_failure_says_why(study: Study) -> None:
    """The reason is on the line, on one line, and cannot steer the terminal."""
    stream = io.StringIO()
    lines = Lines(stream)
    train(study, 0.2, ending=Ending("diverged", "loss is nan\n\033[2Jat epoch 2"))
    lines(study)
    (line,) = stream.getvalue().splitlines()
    assert " diverged (loss is nan  [2Jat epoch 2) " in line


def test_a_crash_that_goes_again_is_told_once(study: Study) -> None:
    """An attempt that is repeated has its line, and the trial its own at the end."""
    stream = io.StringIO()
    lines = Lines(stream)
    number = train(study, 0.2, ending=Ending("crashed", "its worker died"))
    lines(study)
    lines(study)
    assert train(study, 0.4, 0.6, 0.8, ending=Ending("finished", "")) == number
    lines(study)
    again, end = stream.getvalue().splitlines()
    assert again == f"{study.trials[number].name} crashed, goes again: its worker died"
    assert " finished " in end


def test_trials_of_an_earlier_driver_are_not_told_again(study: Study) -> None:
    """After a resume the log goes on where it is, with the count of all."""
    finish(study)
    stream = io.StringIO()
    events = progress._Events(colored=False)
    events._began += 3600  # as if this driver had started an hour later
    assert list(events.news(study)) == []
    lines = Lines(stream)
    lines(study)
    finish(study)
    lines(study)
    assert stream.getvalue().splitlines()[-1].endswith("(2 of 4)")


def test_a_quiet_log_says_how_things_stand(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an event for a while: the tally and what is running, with its epoch."""
    stream = io.StringIO()
    lines = Lines(stream)
    train(study, 0.2, 0.4)
    lines(study)
    assert stream.getvalue() == ""
    monkeypatch.setattr(progress, "QUIET", -1.0)
    lines(study)
    (line,) = stream.getvalue().splitlines()
    assert line.startswith("0 of 4 trials: 1 running")
    assert line.endswith("epoch 2/4  val_accuracy 0.4000")


def test_a_closed_stream_stops_nothing(study: Study) -> None:
    """`run | head` goes on searching, silently."""
    stream = io.StringIO()
    lines = Lines(stream)
    stream.close()
    finish(study)
    lines(study)
    lines(study)
    Lines(None)(study)
    assert study.outcomes()["finished"] == 1


def test_the_block_tells_all_that_matters(study: Study) -> None:
    """Counts, time, ETA, the best so far, the front's size, and each running trial."""
    block = Block(io.StringIO(), colored=False)
    try:
        block(study)
        best = finish(study)
        train(study, 0.3)
        block(study)
        shown = block.__rich__().plain.splitlines()
    finally:
        block.close()
    assert shown[0] == "seen   1 of 4 trials: 1 finished; 1 running"
    assert shown[1].startswith("elapsed 0:00:0")
    assert "ETA 0:00:0" in shown[1]
    assert shown[2].startswith(f"best    {study.trials[best].name}  val_accuracy 0.8000")
    assert shown[3].startswith("front   1 network, hypervolume 0.")
    assert shown[4].endswith("epoch 1/4  val_accuracy 0.3000")


def test_a_failure_stays_above_the_block(study: Study) -> None:
    """Finished trials are only counted; one that failed keeps its line."""
    stream = io.StringIO()
    block = Block(stream, colored=False)
    finish(study)
    train(study, ending=Ending("invalid", "no such folder"))
    block(study)
    block.close()
    lines = [line for line in stream.getvalue().splitlines() if line.startswith("#")]
    assert len([line for line in lines if "invalid (no such folder)" in line]) == 1
    assert not any("finished" in line for line in lines)


def test_the_rest_takes_as_long_as_the_work_so_far(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 4 trials 1.5 done in 30 s: 50 s are left; nothing is guessed before anything is done."""
    clock = itertools.chain([0.0, 10.0, 30.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    pace = progress._Pace()
    assert pace.left(study) is None
    monkeypatch.undo()
    finish(study)
    train(study, 0.3, 0.4)
    monkeypatch.setattr(progress.time, "monotonic", lambda: 30.0)
    assert pace.left(study) == pytest.approx(50.0)


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("0, 97, 12595, 81920", "GPU 0 97 % 12.3/80.0 GiB"),
        ("1, [N/A], 512, 1024", "GPU 1 0.5/1.0 GiB"),
        ("2, 5, [N/A], [N/A]", "GPU 2 5 %"),
    ],
)
def test_gpu_lines(line: str, shown: str) -> None:
    """What nvidia-smi knows is shown; what it does not know is left out."""
    assert progress.gpu(line) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0:00:00"), (59.6, "0:01:00"), (3661, "1:01:01"), (90061, "1d 01:01:01")],
)
def test_durations(seconds: float, shown: str) -> None:
    """Hours, minutes, seconds; days where there are any."""
    assert text.duration(seconds) == shown


def test_the_summary_names_losses_and_places(study: Study) -> None:
    """At the end: outcomes with reasons, the front, the folder, the command for the pages."""
    finish(study)
    train(study, 0.2, ending=Ending("diverged", "loss is nan"))
    told = text.summary(study)
    assert "seen: 2 of 4 trials: 1 finished, 1 failed" in told
    assert f"  diverged 1: #{study.trials[1].number:03d} loss is nan" in told
    assert "Pareto front: 1 network, hypervolume " in told
    assert f"eca-search ui {study.folder}" in told


@pytest.mark.parametrize(
    ("terminal", "term", "kind"),
    [(True, "xterm", Block), (True, "dumb", Lines), (False, "xterm", Lines)],
)
def test_the_block_is_for_terminals(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, term: str, kind: type
) -> None:
    """A terminal that can show it gets the block; a dumb one, a file or a pipe gets lines."""
    ends = os.openpty() if terminal else os.pipe()
    monkeypatch.setenv("TERM", term)
    with open(ends[1], "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        with progress.shown() as chosen:
            assert isinstance(chosen, kind)
        monkeypatch.undo()
    os.close(ends[0])


@pytest.mark.parametrize("name", ["plain", "two words", "it's", "a\\b \x1b[31m'c", "über\n€"])
def test_a_command_can_be_typed_as_it_is_shown(name: str, tmp_path: Path) -> None:
    """A shell reads the folder that was meant, and no terminal is steered by its name."""
    said = text.typed("resume", tmp_path / name, None)
    assert said.isprintable()
    assert text.shown(tmp_path / name).isprintable()
    words = subprocess.run(
        ["bash", "-c", f"printf '%s|' {said}"], capture_output=True, text=True, check=True
    )
    assert words.stdout == f"eca-search|resume|{tmp_path / name}|"


def test_a_log_of_json_objects(study: Study) -> None:
    """Each event is one object: what kind it is, the line for a person, and a trial's facts."""
    stream = io.StringIO()
    lines = JsonLines(stream)
    lines.say("Ray at 10.0.0.1")
    finish(study)
    train(study, 0.5, ending=Ending("crashed", "a \x1b[31mfault"))
    lines(study)
    told = [json.loads(line) for line in stream.getvalue().splitlines()]

    assert [each["event"] for each in told] == ["note", "trial", "attempt"]
    assert (told[0]["message"], "trial" in told[0]) == ("Ray at 10.0.0.1", False)
    assert told[1]["study"] == "seen"
    assert (told[1]["trial"], told[1]["outcome"]) == (0, "finished")
    assert told[1]["values"]["val_accuracy"] == 0.8
    assert told[1]["message"].startswith(told[1]["name"])
    assert (told[2]["trial"], told[2]["outcome"], told[2]["values"]) == (1, None, None)
    assert all(each["time"].endswith("+00:00") for each in told)
    assert "\x1b" not in stream.getvalue()
