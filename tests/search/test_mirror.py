"""A journal kept at a URI: sealed, checked, fetched elsewhere, and driven by one driver."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest

import search
from search.errors import Behind, JournalError, LeaseLost
from search.execution import launch
from search.study import mirror
from search.study.journal import FILE
from search.study.mirror import Place, claimed, fetched
from search.study.study import Study
from spaces import durable

Synthetic = Callable[..., Study]
WriteSpace = Callable[..., Path]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver seals, and is given up, soon."""
    monkeypatch.setattr(mirror, "BEAT", 0.05)
    monkeypatch.setattr(mirror, "TERM", 0.5)


@pytest.fixture(params=["memory", "file"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A place of its own, in memory or in a folder."""
    if request.param == "memory":
        return f"memory://mirror-{uuid.uuid4().hex}"
    return f"file://{tmp_path}/mirror"


def hold(uri: str, folder: Path, **how: Any) -> Any:
    return claimed(uri, folder, **{"force": False, "say": lambda line: None, **how})


def sealed(study: Study, uri: str) -> Place:
    """The study's mirror, with all of the study in two segments."""
    with hold(uri, study.folder) as kept:
        kept.begin(study.uuid)
        study.commit()
        kept.look(study.acknowledged)
        place = Place(f"{uri}/{study.folder.name}")
        for _ in range(200):
            if place.sealed().count:
                break
            time.sleep(0.05)
        study.note("more")
        study.close()
    assert place.sealed().count == 2
    return place


def released(place: Place, fence: int) -> bool:
    """Whether the last lease is that one, and nobody need wait for its end."""
    word = json.loads(place.get(f"lease-{fence:06d}.json"))
    return place.leases() == [fence] and bool(word["released"])


def test_another_machine_goes_on(write_space: WriteSpace, tmp_path: Path) -> None:
    """A real search ends here and is extended there, from the URI alone; both journals agree."""
    uri = f"file://{tmp_path}/mirror"
    space = write_space(trials=2, epochs=1, search=f"mirror: {uri}")
    here = search.run(space, out=tmp_path / "here", executor="inprocess")
    there = launch.resume(f"{uri}/small", out=tmp_path / "there", trials=3)

    assert there.folder == tmp_path / "there" / "small"
    assert there.outcomes()["finished"] == 3
    before, after = ((study.folder / FILE).read_bytes() for study in (here, there))
    assert after.startswith(before)
    assert Place(f"{uri}/small").sealed().data == after


def test_what_was_sealed_is_fetched(synthetic: Synthetic, tmp_path: Path, uri: str) -> None:
    """Into a folder that is not there yet, and into one that is behind; one that is further, as
    when its driver died between two seals, stays as it is.
    """
    study = synthetic()
    place = sealed(study, uri)
    file = study.folder / FILE
    whole = file.read_bytes()
    assert (fetched(place.uri, tmp_path / "new", print) / FILE).read_bytes() == whole
    file.write_bytes(whole.partition(b"\n")[0] + b"\n")
    assert fetched(place.uri, study.folder.parent, print) == study.folder
    assert file.read_bytes() == whole
    file.write_bytes(whole + whole.splitlines(keepends=True)[-1])
    assert fetched(place.uri, study.folder.parent, print) == study.folder
    assert len(file.read_bytes()) > len(whole)


def test_a_folder_left_behind_does_not_go_on(synthetic: Synthetic, uri: str) -> None:
    """Where the mirror holds more than the folder the remedy is said, and it is let go of."""
    study = synthetic()
    place = sealed(study, uri)
    file = study.folder / FILE
    file.write_bytes(file.read_bytes().partition(b"\n")[0] + b"\n")

    with pytest.raises(JournalError, match=f"eca-search resume {uri}"), hold(uri, study.folder):
        pass
    assert released(place, 2)


def test_one_driver_at_a_time(
    synthetic: Synthetic, tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one shows signs of life another is refused."""
    monkeypatch.setattr(mirror, "boot_id", lambda: "another machine")
    study = synthetic()
    with hold(uri, study.folder) as kept:
        kept.begin(study.uuid)
        monkeypatch.undo()
        monkeypatch.setattr(mirror, "TERM", 20.0)
        with (
            pytest.raises(JournalError, match="is running this study"),
            hold(uri, study.folder),
        ):
            pass


def test_what_is_sealed_until_the_takeover_is_kept(
    synthetic: Synthetic, tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver before seals its last piece while the next one waits for its end: that one is told
    that its folder is behind, and seals nothing in the place of that piece.
    """
    monkeypatch.setattr(mirror, "boot_id", lambda: "another machine")
    monkeypatch.setattr(mirror, "TERM", 20.0)
    study = synthetic()
    before = hold(uri, study.folder)
    kept = before.__enter__()
    kept.begin(study.uuid)
    study.commit()
    kept.look(study.acknowledged)
    place = Place(f"{uri}/{study.folder.name}")
    for _ in range(200):
        if place.sealed().count:
            break
        time.sleep(0.05)
    there = fetched(place.uri, tmp_path / "there", print)
    monkeypatch.undo()

    def end(said: str) -> None:
        if "waiting" in said:
            study.note("the last word")
            study.close()
            before.__exit__(None, None, None)

    with pytest.raises(Behind, match="what this folder does not"), hold(uri, there, say=end):
        pass
    assert place.sealed().data == (study.folder / FILE).read_bytes()
    assert released(place, 2)


def test_a_resume_fetches_what_was_sealed_while_it_waited(
    write_space: WriteSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search goes on from the URI with all that its driver said until its very end."""
    uri = f"file://{tmp_path}/mirror"
    space = write_space(trials=2, epochs=1, search=f"mirror: {uri}")
    study = search.run(space, out=tmp_path / "here", executor="inprocess")
    file = study.folder / FILE
    whole = file.read_bytes()
    shutil.rmtree(tmp_path / "mirror")  # once more, by a driver that is heard of until later
    monkeypatch.setattr(mirror, "boot_id", lambda: "another machine")
    before = hold(uri, study.folder)
    kept = before.__enter__()
    file.write_bytes(b"".join(whole.splitlines(keepends=True)[:-3]))
    kept.begin(study.uuid)
    kept.look(file.stat().st_size)
    for _ in range(200):
        if Place(f"{uri}/small").sealed().count:
            break
        time.sleep(0.05)
    monkeypatch.undo()

    def end(said: str) -> None:
        if "waiting" in said:
            file.write_bytes(whole)
            before.__exit__(None, None, None)

    there = launch.resume(f"{uri}/small", out=tmp_path / "there", trials=3, say=end)
    after = (there.folder / FILE).read_bytes()
    assert there.outcomes()["finished"] == 3
    assert after.startswith(whole)
    assert Place(f"{uri}/small").sealed().data == after


def test_a_driver_that_was_replaced_stops(synthetic: Synthetic, tmp_path: Path, uri: str) -> None:
    """It is told at its next look, and what it would still seal is not there."""
    study = synthetic()
    with hold(uri, study.folder) as first:
        first.begin(study.uuid)
        with hold(uri, study.folder, force=True) as second:
            second.begin(study.uuid)
            with pytest.raises(LeaseLost, match="another driver has taken over"):  # noqa: PT012
                for _ in range(200):
                    study.note("late")
                    study.commit()
                    first.look(study.acknowledged)
                    time.sleep(0.05)
    place = Place(f"{uri}/{study.folder.name}")
    names = [name for name in place._names() if name.startswith("segment")]
    assert all(name.endswith(".000002.jsonl") for name in names)


def test_what_a_replaced_driver_seals_counts_for_nothing(synthetic: Synthetic, uri: str) -> None:
    """Both have the same piece: the newer driver's is the one, and the older one's later pieces go
    with theirs.
    """
    study = synthetic()
    place = sealed(study, uri)
    before = place.sealed()
    stale = place.get("segment-000002.000001.jsonl")
    place.create("segment-000002.000007.jsonl", stale)
    place.create("segment-000003.000001.jsonl", b"torn")

    assert place.sealed() == before


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda data: data[: len(data) // 2], "it has no seal: it is torn"),
        (lambda data: data.replace(b'"more"', b'"less"'), "its sha256 is not the one in its seal"),
        (lambda data: data.replace(b'"segment": 2', b'"segment": 4'), "it does not follow"),
        (None, "is missing"),
    ],
    ids=["torn", "changed", "moved", "gone"],
)
def test_damage_is_named(
    synthetic: Synthetic, tmp_path: Path, uri: str, harm: Callable[[bytes], bytes] | None, said: str
) -> None:
    """A segment that is not whole is refused by its name, and nothing is made here."""
    place = sealed(synthetic(), uri)
    name = "segment-000002.000001.jsonl"
    if harm is None:
        place.create("segment-000003.000001.jsonl", place.get(name))
        place.drop(name)
    else:
        place.put(name, harm(place.get(name)))

    with pytest.raises(JournalError, match=said):
        fetched(place.uri, tmp_path / "there", print)
    assert not (tmp_path / "there").exists()


def test_another_study_s_segment_is_refused(synthetic: Synthetic, tmp_path: Path, uri: str) -> None:
    """One that somebody put there, whole as it is, by its study's uuid."""
    place = sealed(synthetic(), uri)
    name = "segment-000002.000001.jsonl"
    body, _, seal = place.get(name).strip().rpartition(b"\n")
    strange = json.dumps({**json.loads(seal), "uuid": "feed"}).encode()
    place.put(name, body + b"\n" + strange + b"\n")

    with pytest.raises(JournalError, match="it is of another study"):
        fetched(place.uri, tmp_path / "there", print)


def test_nothing_is_there(tmp_path: Path, uri: str) -> None:
    """A URI without segments is no study."""
    with pytest.raises(JournalError, match="no study is mirrored here"):
        fetched(f"{uri}/none", tmp_path, print)


def test_another_study_of_that_name_is_not_overwritten(
    synthetic: Synthetic, tmp_path: Path, uri: str
) -> None:
    """A new study elsewhere under the same name and mirror is refused before it begins."""
    study = synthetic()
    place = sealed(study, uri)

    with (
        pytest.raises(JournalError, match="it holds another study"),
        hold(uri, tmp_path / "there" / study.folder.name),
    ):
        pass
    assert released(place, 2)


def test_a_place_that_is_away_holds_up_nothing(
    synthetic: Synthetic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said once, the driver goes on, and the next one seals what is missing."""
    uri = f"memory://mirror-{uuid.uuid4().hex}"
    study, said = synthetic(), list[str]()
    system = type(fsspec.filesystem("memory"))
    whole = system.pipe_file

    def away(self: Any, path: str, value: bytes, mode: str = "overwrite") -> None:
        if "segment" in path:
            raise OSError("no route")
        whole(self, path, value, mode=mode)

    monkeypatch.setattr(system, "pipe_file", away)
    with hold(uri, study.folder, say=said.append) as kept:
        kept.begin(study.uuid)
        for _ in range(10):
            study.commit()
            kept.look(study.acknowledged)
            time.sleep(0.05)
        study.close()
    assert sum("is away (no route)" in line for line in said) == 1
    place = Place(f"{uri}/{study.folder.name}")
    assert not place.sealed().count

    monkeypatch.setattr(system, "pipe_file", whole)
    with hold(uri, study.folder) as kept:
        kept.begin(study.uuid)
    assert place.sealed().data == (study.folder / FILE).read_bytes()


@pytest.mark.parametrize("half", [False, True], ids=["whole", "torn"])
def test_a_segment_that_is_there_already_holds_up_nothing(
    synthetic: Synthetic, uri: str, monkeypatch: pytest.MonkeyPatch, half: bool
) -> None:
    """The store did what it was asked, or half of it, and its answer was lost: what is whole counts
    as sealed, what is not is sealed anew, and all that the driver says later follows.
    """
    study, lost = synthetic(), list[str]()
    whole = Place.create

    def create(place: Place, name: str, data: bytes) -> None:
        if name.startswith("segment") and not lost:
            whole(place, name, data[: len(data) // 2] if half else data)
            lost.append(name)
            raise TimeoutError("no answer")
        whole(place, name, data)

    monkeypatch.setattr(Place, "create", create)
    with hold(uri, study.folder) as kept:
        kept.begin(study.uuid)
        study.commit()
        kept.look(study.acknowledged)
        for _ in range(200):
            if lost:
                break
            time.sleep(0.05)
        study.note("more")
        study.close()
    sealed = Place(f"{uri}/{study.folder.name}").sealed()
    assert lost == ["segment-000001.000001.jsonl"]
    assert sealed.data == (study.folder / FILE).read_bytes()


def test_another_s_segment_under_our_number_stays(synthetic: Synthetic, uri: str) -> None:
    """A store that let two drivers create the same lease: the one that sealed first has the study,
    and the other one stops.
    """
    study = synthetic()
    place = Place(f"{uri}/{study.folder.name}")
    body = b'{"another": "driver"}\n'
    seal = {"segment": 1, "uuid": study.uuid, "sha256": hashlib.sha256(body).hexdigest()}
    theirs = body + json.dumps({**seal, "after": ""}).encode() + b"\n"
    with hold(uri, study.folder) as kept:
        place.create("segment-000001.000001.jsonl", theirs)
        kept.begin(study.uuid)
        with pytest.raises(LeaseLost, match="another driver has this number"):  # noqa: PT012
            for _ in range(200):
                study.commit()
                kept.look(study.acknowledged)
                time.sleep(0.05)
    assert place.sealed().data == body


@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
def test_a_file_here_is_whole_and_made_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    """On a disk, also one without hard links, a file that does not fit is not there at all, and one
    that is there stays as it is.
    """
    if not links:
        monkeypatch.setattr(os, "link", refused)
    place = Place(f"file://{tmp_path}/mirror/small")
    with monkeypatch.context() as full:
        full.setattr(durable, "write", cut_short)
        with pytest.raises(OSError, match="No space"):
            place.create("segment-000001.000001.jsonl", b"first\n")
    assert place._names() == []

    place.create("segment-000001.000001.jsonl", b"first\n")
    with pytest.raises(FileExistsError):
        place.create("segment-000001.000001.jsonl", b"second\n")
    assert place.get("segment-000001.000001.jsonl") == b"first\n"
    assert place._names() == ["segment-000001.000001.jsonl"]


def refused(*paths: Path) -> None:
    """What vfat answers to `link`."""
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


def cut_short(descriptor: int, data: bytes, torn: str) -> None:
    """A disk that is full when half of the file is written."""
    os.write(descriptor, data[: len(data) // 2])
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_each_segment_that_counts_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a thousand pieces, many by three drivers, in whatever order the store names them."""
    place, last, whole = Place("memory://long"), "", b""
    files = dict[str, bytes]()
    for number in range(1, 1001):
        body = b'{"piece": %d}\n' % number
        seal = {"segment": number, "uuid": "feed", "sha256": hashlib.sha256(body).hexdigest()}
        sealed = body + json.dumps({**seal, "after": last}).encode() + b"\n"
        last, whole = seal["sha256"], whole + body
        fence = 1 + (number > 300) + (number > 700)
        files[f"segment-{number:06d}.{fence:06d}.jsonl"] = sealed
        for stale in range(1, fence):
            files[f"segment-{number:06d}.{stale:06d}.jsonl"] = b"stale"
    read = list[str]()

    def get(place: Place, name: str) -> bytes:
        read.append(name)
        return files[name]

    monkeypatch.setattr(Place, "_names", lambda place: sorted(files, key=lambda name: name[::-1]))
    monkeypatch.setattr(Place, "get", get)
    assert place.sealed().data == whole
    assert len(read) == 1000


def test_a_new_driver_s_number_is_above_every_segment_s(synthetic: Synthetic, uri: str) -> None:
    """Where leases were lost what the next driver seals counts all the same."""
    place = sealed(synthetic(), uri)
    place.create("segment-000002.000007.jsonl", place.get("segment-000002.000001.jsonl"))
    for fence in place.leases():
        place.drop(f"lease-{fence:06d}.json")

    assert mirror._claim(place, force=False, say=print) == 8
