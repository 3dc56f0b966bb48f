"""What a person asks of a running study reaches its driver, and no later one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from search.cli import main
from search.errors import Stopped
from search.study import control, drivers
from search.study.control import Requests, Wish
from search.study.study import Study

Synthetic = Callable[..., Study]


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver looks whenever it is given the time."""
    monkeypatch.setattr(control, "EVERY", 0.0)


def begin(study: Study) -> None:
    """Hand out the next attempt."""
    assignment = study.next()
    assert assignment is not None
    study.start(assignment, "virtual:1")


def test_nobody_is_asked_where_nobody_drives(synthetic: Synthetic) -> None:
    """There is nothing to stop, and nothing is left for a driver to come."""
    study = synthetic()
    study.close()
    assert control.ask(study.folder) is None
    assert not (study.folder / control.FOLDER).exists()


def test_a_study_is_stopped(synthetic: Synthetic) -> None:
    """Who is asked is told; the driver raises, and leaves the study to be resumed."""
    study = synthetic()
    begin(study)
    requests = Requests(study.folder)
    requests.obey(study)
    driver = control.ask(study.folder)
    assert driver is not None
    assert driver.pid
    with pytest.raises(Stopped):
        requests.obey(study)


def test_a_trial_is_stopped_once(synthetic: Synthetic) -> None:
    """It is on the disk that it is to stop before the request is gone; the study goes on."""
    study = synthetic()
    begin(study)
    requests = Requests(study.folder)
    control.ask(study.folder, Wish("stop", 0))
    requests.obey(study)
    requests.obey(study)
    assert dict(study.stopping) == {0: "stopped by hand"}
    assert (study.folder / "journal.jsonl").read_text().count('"kind":"stop"') == 1
    assert not any((study.folder / control.FOLDER).iterdir())


def test_trials_are_stopped_before_the_study(synthetic: Synthetic) -> None:
    """Asked for both, the driver does both."""
    study = synthetic()
    begin(study)
    requests = Requests(study.folder)
    control.ask(study.folder)
    control.ask(study.folder, Wish("stop", 0))
    with pytest.raises(Stopped):
        requests.obey(study)
    assert dict(study.stopping) == {0: "stopped by hand"}


def test_what_was_asked_of_an_earlier_driver_stops_no_later_one(synthetic: Synthetic) -> None:
    """A driver that died before it looked leaves a request behind: it is swept, not obeyed."""
    study = synthetic()
    begin(study)
    control.ask(study.folder)
    control.ask(study.folder, Wish("stop", 0))
    study.close()
    again = Study.drive(study.folder, study.space, study._memory._examine)  # type: ignore[arg-type]
    try:
        begin(again)
        requests = Requests(again.folder)
        requests.obey(again)
        assert not again.stopping
        assert not any((again.folder / control.FOLDER).iterdir())
        control.ask(again.folder)  # the new driver's own
        with pytest.raises(Stopped):
            requests.obey(again)
    finally:
        again.close()


def test_a_request_names_the_driver_it_is_for(synthetic: Synthetic) -> None:
    """One that an asker places late, for a driver that is gone, is no wish of the next one's."""
    study = synthetic()
    driver = drivers.driver(study.folder)
    assert driver is not None
    control.ask(study.folder)
    assert control.wishes(study.folder, driver.fence) == [control.STOP]
    assert control.wishes(study.folder, driver.fence + 1) == []
    control.withdraw(study.folder, driver)
    control.withdraw(study.folder, driver)  # two askers take back the same request
    assert control.wishes(study.folder, driver.fence) == []


def test_a_driver_that_was_replaced_leaves_what_is_asked_of_the_next(synthetic: Synthetic) -> None:
    """It obeys by the number of its own lease, whoever the folder's newest driver is by now."""
    study = synthetic()
    begin(study)
    requests = Requests(study.folder)
    for path in drivers.leases(study.folder):
        path.with_name(".driver.000009").write_bytes(path.read_bytes())
    requests.obey(study)
    newest = Requests(study.folder)
    control.ask(study.folder)
    control.ask(study.folder, Wish("stop", 0))
    for each in (requests, newest):
        each.obey(study)
    assert not study.stopping
    assert control.wishes(study.folder, 9) == [Wish("stop", 0), control.STOP]


@pytest.mark.parametrize(
    "name",
    [
        "stop",
        "stop.",
        "stop.1",
        "stop-x.000001",
        "stop-0001.000001.tmp",
        "run.000001",
        "at-most.000001",
        "…",
    ],
)
def test_other_files_in_the_folder_mean_nothing(synthetic: Synthetic, name: str) -> None:
    """Only a whole request is one."""
    study = synthetic()
    begin(study)
    (study.folder / control.FOLDER).mkdir()
    (study.folder / control.FOLDER / name).touch()
    Requests(study.folder).obey(study)
    assert not study.stopping


def test_a_trial_that_there_is_not_is_passed_over(synthetic: Synthetic) -> None:
    """A request for it goes, and the study goes on."""
    study = synthetic()
    control.ask(study.folder, Wish("stop", 77))
    Requests(study.folder).obey(study)
    assert not any((study.folder / control.FOLDER).iterdir())


def test_a_folder_that_cannot_be_read_stops_nothing(synthetic: Synthetic) -> None:
    """A driver goes on where its control folder has become a file."""
    study = synthetic()
    (study.folder / control.FOLDER).write_text("")
    Requests(study.folder).obey(study)
    assert control.wishes(study.folder, 1) == []


def test_a_driver_looks_now_and_then(synthetic: Synthetic, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two looks nothing is read: it is called after every commit."""
    study = synthetic()
    requests = Requests(study.folder)
    monkeypatch.setattr(control, "EVERY", 3600.0)
    requests.obey(study)
    control.ask(study.folder)
    requests.obey(study)
    assert control.wishes(study.folder, 1) == [control.STOP]


def test_how_many_run_at_a_time_is_changed_while_they_do(synthetic: Synthetic) -> None:
    """The driver that is asked does so from then on, and the study keeps who wanted it."""
    study = synthetic()
    assert study.at_most is None
    for number in (3, 5):
        control.ask(study.folder, Wish("at-most", number))
        Requests(study.folder).obey(study)
        assert study.at_most == number
    assert not any((study.folder / control.FOLDER).iterdir())
    assert study.history.notes[-1] == "at most 5 trials at a time, by hand"


def test_the_command_asks_and_says_whether_it_was_heard(
    synthetic: Synthetic, capsys: pytest.CaptureFixture[str]
) -> None:
    """`stop STUDY --max-concurrent N`: 75 until the driver has looked; where one trial runs at a
    time, or nobody drives, it is a usage error with the remedy.
    """
    study = synthetic()
    command = ["stop", str(study.folder), "--max-concurrent", "2", "--wait", "0"]
    assert main(command) == 2
    assert "one trial at a time" in capsys.readouterr().err

    study.begin(pid=1, host="here", executor="ray")
    assert main(command) == 75
    assert "not heard yet" in capsys.readouterr().out
    assert main([*command[:2], "3", *command[2:]]) == 2
    Requests(study.folder).obey(study)
    assert study.at_most == 2

    study.close()
    assert main(command) == 2
    assert "--max-concurrent 2` begins with so many" in capsys.readouterr().err
