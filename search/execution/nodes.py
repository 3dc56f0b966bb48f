"""Whether every node of a cluster is fit for a search: what each lacks, and what helps.

Each is measured by this process: with the driver's versions, data and plugins a trial is examined,
and a node with others would train something else, or nothing.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from search.beforehand.doctor import ROOTLESS, Finding, existing
from search.execution import node
from search.execution.cluster import Node
from search.execution.node import Answer, Question
from search.redaction import redacted
from spaces.errors import counted
from spaces.objectives import tasks

DECISIVE = ("ray", "torch")
"""Libraries whose version must be the driver's; of others another is worth a warning."""
WHOLE = "node"
"""What stands for a node on which all is well, where its findings would fill a page."""
ERROR = "error: "


def question(out: Path, space: str | None, plugins: Sequence[Path]) -> Question:
    """What the nodes are asked for a study of `space` in `out`: its dataset, its place for files.

    Without a space for every dataset by its name. Raises `SpaceError` for what is not valid.
    """
    import spaces
    from spaces import catalogue

    for file in plugins:
        catalogue.plug(file)
    files = tuple(str(path) for path in catalogue.plugins())
    places = [str(existing(out.absolute()))]
    libraries: tuple[str, ...] = ()
    datasets: list[tuple[str, str | None]]
    datasets = [(name, None) for name in catalogue.names("dataset") if name not in ROOTLESS]
    if space is not None:
        loaded = spaces.load(space)
        config = loaded.at(loaded.sample(seed=0))
        datasets = [(config.dataset.name, config.dataset.root)]
        libraries = tuple(
            dict.fromkeys(name for task in tasks(loaded.tree) for name in catalogue.needs(task))
        )
        places += [uri] if (uri := loaded.search.checkpoints.uri) else []
    return Question(libraries, tuple(datasets), files, tuple(places))


def findings(address: str | None, question: Question) -> Iterator[Finding]:
    """What is found on each node of a Ray cluster, the same things looked at on each.

    A marker is left in every place of the question and taken away again. Raises `Unfit` where there
    is no cluster to ask.
    """
    from search.execution import ray_tune

    marker = f".eca-search-doctor-{secrets.token_hex(6)}"
    left: list[str] = []
    writable = []
    with ray_tune.connected(address) as cluster:
        many = counted(cluster.nodes, "node")
        yield Finding("Ray", "ok", f"{cluster.address}: {many}")
        try:
            for place in question.places:
                if said := _leave(place, marker, left):
                    yield Finding("folder", "fail", said, "make it writable, or name another")
                else:
                    writable.append(place)
            asked = replace(question, places=tuple(writable), marker=marker)
            here = Answer(**node.look(asdict(replace(asked, places=()))))
            for each, told in ray_tune.everywhere(node, node.look, asdict(asked)):
                if isinstance(told, str):
                    yield Finding(
                        "node", "fail", told, "ask `ray status`; start it anew", each.name
                    )
                else:
                    answer = Answer(**told)
                    left += [_at(p, name) for p, name in answer.places.items() if _good(name)]
                    yield from of(each, answer, here)
        finally:
            for where in left:
                node.remove(where)


def of(each: Node, answer: Answer, here: Answer) -> Iterator[Finding]:
    """What a node's answer means, `here` being the driver's own."""
    looked = (
        _python(each, answer, here),
        *(_library(each, library, answer, here) for library in here.versions),
        _package(answer, here),
        _cuda(each, answer, here),
        *(_data(name, digest, here.datasets[name]) for name, digest in answer.datasets.items()),
        *(_plugin(file, digest, here.plugins[file]) for file, digest in answer.plugins.items()),
        *(_place(place, name) for place, name in answer.places.items()),
    )
    found = [replace(finding, node=each.name) for finding in looked if finding is not None]
    if all(finding.state == "ok" for finding in found):
        said = f"fit: {counted(each.cpus, 'CPU')}, {counted(each.gpus, 'GPU')}, all as here"
        yield Finding(WHOLE, "ok", said, node=each.name)
    yield from found


def _python(each: Node, answer: Answer, here: Answer) -> Finding:
    if answer.python == here.python:
        return Finding("python", "ok", f"{answer.python} at {answer.executable}")
    said = f"{answer.python}, the driver's is {here.python}"
    return Finding("python", "fail", said, f"use the same Python on {each.name}: one image for all")


def _library(each: Node, library: str, answer: Answer, here: Answer) -> Finding:
    have, want = answer.versions[library], here.versions[library]
    remedy = f'on {each.name}: {answer.executable} -m pip install "{library}=={want}"'
    if library == "torch" and have and answer.torch:
        return Finding(library, "fail", f"does not import: {answer.torch}", remedy)
    if have == want:
        return Finding(library, "ok", have)
    if not have:
        return Finding(library, "fail", "not installed", remedy)
    said = f"{have}, the driver has {want}"
    return Finding(library, "fail" if library in DECISIVE else "warn", said, remedy)


def _package(answer: Answer, here: Answer) -> Finding:
    if answer.source == here.source:
        return Finding("eca-search", "ok", f"source {answer.source}")
    said = f"source {answer.source}, the driver's is {here.source}" if answer.source else "none"
    return Finding("eca-search", "fail", said, "install the driver's there, or share its folder")


def _cuda(each: Node, answer: Answer, here: Answer) -> Finding:
    seen = len(answer.devices)
    if each.gpus > seen:
        said = f"Ray has {each.gpus:g} GPUs there, torch sees {seen}"
        remedy = f"on {each.name}: nvidia-smi, and a torch with CUDA"
        return Finding("GPUs", "fail", said, remedy)
    if answer.cuda != here.cuda and seen:
        said = f"torch is built for CUDA {answer.cuda}, the driver's for {here.cuda or 'none'}"
        return Finding("GPUs", "warn", said, "use one image for all")
    return Finding("GPUs", "ok", ", ".join(answer.devices) or "none; training runs on the CPU")


def _data(name: str, have: str, want: str) -> Finding | None:
    if have == want:
        return Finding(f"data {name}", "ok", f"as the driver's ({have})") if have else None
    if not want or have.startswith(ERROR):
        return None  # nothing to measure it by
    remedy = "set ECA_SEARCH_DATA where `ray start` is called, or copy the driver's there"
    if not have:
        return Finding(f"data {name}", "fail", "not where it is looked for", remedy)
    return Finding(f"data {name}", "fail", "other files than the driver's", remedy)


def _plugin(file: str, have: str, want: str) -> Finding:
    if have == want:
        return Finding(f"plugin {file}", "ok", have)
    said = have.removeprefix(ERROR) if have.startswith(ERROR) else "another file than the driver's"
    return Finding(f"plugin {file}", "fail", said, "put it on a folder that every node shares")


def _place(place: str, name: str) -> Finding:
    shown = redacted(place)
    remedy = "share it with every node, or give search.checkpoints.uri one that all reach"
    if not _good(name):
        return Finding(f"folder {shown}", "fail", redacted(name.removeprefix(ERROR)), remedy)
    try:
        said = node.read(_at(place, name))
    except FileNotFoundError:
        said = ""
    if said != name:
        return Finding(f"folder {shown}", "fail", "what it writes is not seen here", remedy)
    return Finding(f"folder {shown}", "ok", "a marker went there and another came back")


def _leave(place: str, marker: str, left: list[str]) -> str:
    """Put a marker into a place; why that cannot be, or nothing."""
    try:
        left.append(node.mark(place, marker, marker))
    except Exception as error:  # whatever a file system's library raises
        return f"{redacted(place)}: {redacted(str(error))}"
    return ""


def _at(place: str, name: str) -> str:
    return f"{place.rstrip('/')}/{name}"


def _good(name: str) -> bool:
    return not name.startswith(ERROR)
