"""Where attempts run: a Ray cluster, or this process. What either needs is held open here."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from search.errors import Unfit
from search.execution.worker import Workplace
from search.study import logs
from search.study.study import Study
from spaces import Space, SpaceError, catalogue
from spaces.errors import Problem, counted
from spaces.settings import Resources

Watch = Callable[[Study], None]
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Wish:
    """How a person wants a study to run; None where the space decides."""

    executor: str | None = None
    address: str | None = None
    max_concurrent: int | None = None


@dataclass(frozen=True, slots=True)
class Executor:
    """What drives a study, by its name; the kind of device, and the GPUs, of one trial."""

    name: str
    drive: Callable[[Study, Watch], None]
    device: str
    gpu: float = 0.0


@contextmanager
def held(space: Space, wish: Wish, say: Say) -> Iterator[Executor]:
    """The executor for a space, with its connection open.

    Raises `Unfit` where there is no room for one trial, `SpaceError` for a wish that means nothing.
    """
    kind = wish.executor or space.search.executor
    if kind not in ("ray", "inprocess"):
        raise SpaceError([Problem(None, "executor", f"no executor {kind!r} (ray, inprocess)")])
    if kind == "ray":
        with _on_ray(space, wish, say) as executor:
            yield executor
        return
    if wish.address is not None:
        said = "an address is Ray's, and this study runs in this process (leave one out)"
        raise SpaceError([Problem(None, "address", said)])
    yield _here(space, say)


def _here(space: Space, say: Say) -> Executor:
    import torch

    from search.execution import inprocess

    if space.search.resources.team > 1:
        said = f"several train a trial on Ray alone (got {space.search.resources.team}; allowed: 1)"
        raise SpaceError([Problem(None, "search.resources.processes", said)])
    asked = space.search.resources.gpu
    available = torch.cuda.is_available()
    if asked != "auto" and asked > 0 and not available:
        raise Unfit(f"search.resources.gpu: no CUDA device here (got {asked:g}; allowed: 0, auto)")
    gpu = available if asked == "auto" else asked > 0
    if not gpu:
        say(_threads(space.search.resources, 1, len(os.sched_getaffinity(0))))
    return Executor(
        "inprocess",
        lambda study, watch: inprocess.drive(study, _workplace(study, gpu=gpu), watch=watch),
        "cuda" if gpu else "cpu",
        float(gpu),
    )


@contextmanager
def _on_ray(space: Space, wish: Wish, say: Say) -> Iterator[Executor]:
    from search.execution import ray_tune

    wanted = space.search.resources
    cpu, asked, processes = wanted.cpu, wanted.gpu, wanted.team
    if not (wish.address or os.environ.get("RAY_ADDRESS")):
        say("starting Ray on this machine ...")
    with ray_tune.connected(wish.address) as cluster:
        gpu = float((processes if cluster.gpus else 0) if asked == "auto" else asked)
        at_most = wish.max_concurrent or space.search.max_concurrent
        fit = ray_tune.slots(cpu, gpu, processes=processes)

        def slots(study: Study | None = None) -> int:
            allowed = at_most if study is None or study.at_most is None else study.at_most
            places = fit()
            return min(places, allowed or places)

        if slots() < 1:
            raise Unfit(
                f"no room for a trial: it wants {cpu:g} CPU and {gpu:g} GPU, "
                f"Ray at {cluster.address} has {cluster.cpus:g} CPU and {cluster.gpus:g} GPU\n"
                "  ask for less in `search.resources`, or give --address of a larger cluster"
            )
        say(
            f"Ray at {cluster.address}: {counted(cluster.nodes, 'node')}, "
            f"{counted(cluster.cpus, 'CPU')}, {counted(cluster.gpus, 'GPU')}; "
            f"{counted(slots(), 'trial')} at a time"
        )
        if not gpu:
            say(_threads(wanted, slots(), int(cluster.cpus)))

        def drive(study: Study, watch: Watch) -> None:
            workplace = _workplace(study, gpu=gpu > 0, alone=True, at_most=at_most)
            places = partial(slots, study)
            ray_tune.drive(study, workplace, cpu=cpu, gpu=gpu, slots=places, watch=watch)

        yield Executor("ray", drive, "cuda" if gpu else "cpu", gpu)


def _threads(wanted: Resources, trials: int, cores: int) -> str:
    """How many threads each of so many trials at a time has on CPUs, and why so many.

    More trials of one thread were faster than fewer of more (docs/scale.md); only cores that would
    have nothing to do are better given to a trial, which changes its last digits.
    """
    have = max(1, int(wanted.cpu / wanted.team)) * wanted.team
    each = f"{counted(have, 'CPU thread')} for each trial"
    if trials * have >= cores:
        return f"{each}: many trials of one are faster than few of more" if have == 1 else each
    idle = f"{counted(cores - trials * have, 'CPU')} of {cores} will have nothing to do"
    return f"{each}; {idle}: search.resources.cpu={cores // trials} gives a trial {cores // trials}"


def _workplace(
    study: Study, *, gpu: bool, alone: bool = False, at_most: int | None = None
) -> Workplace:
    kept, timing = study.space.search.checkpoints, study.space.search.timing
    wanted = study.space.search.resources
    return Workplace(
        checkpoints=study.checkpoints,
        every=kept.every,
        keep=kept.keep,
        threads=max(1, int(wanted.cpu / wanted.team)),
        gpu=gpu,
        plugins=tuple(str(path) for path in catalogue.plugins()),
        logs=str(study.folder / logs.FOLDER),
        alone=alone,
        at_most=at_most,
        judge=study.space.search.judge,
        processes=wanted.team,
        **({} if timing is None else timing.model_dump()),
    )
