"""One attempt on a worker: train, yield every epoch, and end with a word for what happened.

Runs in a Ray actor or in this process; it writes checkpoints and its log and nothing else.
"""

from __future__ import annotations

import gc
import os
import socket
import sys
import traceback
from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from search.background import undisturbed
from search.execution import notice
from search.execution.meeting import Meeting, joined
from search.redaction import redacted
from search.study.output import Output, opened
from search.trial import Assignment, Ending, Outcome

if TYPE_CHECKING:
    from spaces import Config
    from trainers.data import Judge

DETAIL = 8_000
"""At most so many characters of a traceback are kept in the journal; the log keeps more."""
LEFT = 64 << 20
"""Bytes of GPU memory that may be in use after an attempt: libraries keep some for themselves."""
SENTENCE = 500
"""At most so many characters say why an attempt ended."""


@dataclass(frozen=True, slots=True)
class Workplace:
    """What every attempt of a study shares: where checkpoints and logs go, threads, plugins.

    `checkpoints` is a folder or an fsspec URI, where states go at least `every` so many seconds;
    `logs` a folder (empty: none are kept); `threads` is None where PyTorch is to decide. `cores`
    may decode images for one process (None: all it may run on); `at_most` so many trials run at a
    time, where that is said. With `alone` nothing else prints in the attempt's process, so
    that its log may take what C code prints too. `judge` says which images trials are judged by.
    `batch_sizes` are those whose latency is measured, by at most `repeats` passes. So many
    `processes` train a trial together. Epochs that are shorter than `pace` seconds are told
    together where that is far away.
    """

    checkpoints: str
    every: float = 600.0
    keep: int = 2
    threads: int | None = None
    cores: int | None = None
    at_most: int | None = None
    gpu: bool = False
    plugins: tuple[str, ...] = ()
    logs: str = ""
    alone: bool = False
    judge: Judge = "val"
    batch_sizes: tuple[int, ...] = ()
    repeats: int = 50
    processes: int = 1
    pace: float = 0.0

    @property
    def device(self) -> str:
        """What PyTorch calls the device that is trained on."""
        return "cuda" if self.gpu else "cpu"


def here() -> str:
    """This process, as the journal names a worker."""
    return f"{socket.gethostname()}:{os.getpid()}"


def attempt(
    assignment: Assignment, workplace: Workplace, meeting: Meeting | None = None
) -> Iterator[dict[str, Any] | Ending]:
    """Train an assignment: one dict of metrics an epoch, then exactly one `Ending`.

    With a `meeting` several processes do so together, each as if it were alone.

    The first dict has the name of the `device` too, and the network's `latency` where the
    assignment asks for it: a list of the fields of a `Latency` each. The first that is trained here
    has `images`: how many train and how many judge.

    Exceptions become endings: a failing trial never takes the search down. `KeyboardInterrupt` and
    what the executor throws in pass through. Where the process is told to leave
    (`search.execution.notice`) it ends as preempted, its state stored. What is printed meanwhile
    goes to the attempt's log.
    """
    where = (workplace.logs, workplace.checkpoints)
    with notice.heeded(), opened(*where, assignment, here(), alone=workplace.alone) as log:
        messages = _trained(assignment, workplace, meeting, log)
        try:
            while True:
                with log.caught():
                    message = next(messages, None)
                if message is None:
                    return
                if isinstance(message, Ending):
                    log.write(": ".join(filter(None, (message.outcome, message.reason))))
                yield message
        finally:
            messages.close()


def _trained(
    assignment: Assignment, workplace: Workplace, meeting: Meeting | None, log: Output
) -> Generator[dict[str, Any] | Ending]:
    import torch

    import trainers
    from spaces import Config, catalogue
    from trainers import cores
    from trainers.batches import bring
    from trainers.datasets import DatasetError

    place = f"{workplace.checkpoints}/{assignment.key}"
    begun = False
    try:
        for plugin in workplace.plugins:
            catalogue.plug(plugin)
        if workplace.threads is not None:
            torch.set_num_threads(workplace.threads)
        cores.allow(workplace.cores)
        config = Config.model_validate(assignment.config)
        judge = workplace.judge
        stored = trainers.begun(place, config, seed=assignment.seed, judge=judge)
        first = _device(config, workplace) | _latency(config, assignment.latencies, workplace)

        def prepare() -> None:
            bring(config, judge)

        def counted(training: int, judging: int) -> None:
            first["images"] = [training, judging]

        with joined(meeting, gpu=workplace.gpu, prepare=prepare) as group:
            epochs = trainers.train(
                config,
                seed=assignment.seed,
                device=workplace.device,
                checkpoint=place,
                resume=stored is not None,  # nothing, or another run's: the trial starts over
                every=workplace.every,
                keep=workplace.keep,
                judge=judge,
                leave=lambda: bool(notice.given()),
                opened=counted,
                group=group,
            )
            # trained before the last driver could record them
            late = (stored or [])[assignment.known :]
            for metrics in chain(late, epochs):
                begun = True
                yield {**metrics, **first}
                first.clear()
    except trainers.Diverged as error:
        yield Ending("diverged", str(error))
    except trainers.Left as left:
        yield Ending("preempted", f"{notice.given() or 'told by another process'}: {left}")
    except torch.OutOfMemoryError as error:
        yield Ending("oom", _sentence(error), _detail(log))
    except MemoryError as error:
        yield Ending("host_oom", _sentence(error), _detail(log))
    except DatasetError as error:
        yield Ending("invalid", _sentence(error))
    except Exception as error:
        yield Ending(_word(error, begun), _sentence(error), _detail(log))
    else:
        yield Ending("finished", "")


def freed() -> bool:
    """Whether the GPU memory of an attempt that is over is free again; unused blocks go back.

    True in a process that has used no GPU.
    """
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return True
    gc.collect()
    torch.cuda.empty_cache()
    left: int = torch.cuda.memory_allocated()
    return left <= LEFT


def _device(config: Config, workplace: Workplace) -> dict[str, Any]:
    """`device` for the first report: what this attempt trains on, by its model's name."""
    import trainers
    from trainers.latency import device_name

    name = device_name(trainers.check_device(config, workplace.device))
    return {"device": f"{workplace.processes} x {name}" if workplace.processes > 1 else name}


def _latency(
    config: Config, known: list[dict[str, Any]] | None, workplace: Workplace
) -> dict[str, Any]:
    """`latency` for the first report: what is known of this device, and the rest measured now."""
    if known is None or not workplace.batch_sizes:
        return {}
    import trainers
    from trainers.latency import device_name

    found = {
        (latency["device"], latency["precision"], latency["batch_size"]): latency
        for latency in known
    }
    device = trainers.check_device(config, workplace.device)
    here = (device_name(device), config.training.precision)
    places = [(*here, size) for size in workplace.batch_sizes]
    missing = [place[-1] for place in places if place not in found]
    if missing:
        with undisturbed():
            measured = trainers.latency(
                config, device=device, batch_sizes=missing, repeats=workplace.repeats
            )
        found |= {latency.place: asdict(latency) for latency in measured}
    return {"latency": [found[place] for place in places]}


def _word(error: Exception, begun: bool) -> Outcome:
    """The outcome of an exception: what PyTorch's CPU allocator says, or when it came."""
    if "DefaultCPUAllocator" in str(error):
        return "host_oom"
    return "invalid" if isinstance(error, ValueError) and not begun else "crashed"


def _sentence(error: Exception) -> str:
    text = str(error).strip().splitlines()
    said = f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
    return redacted(said)[:SENTENCE]


def _detail(log: Output) -> str:
    """The traceback as it goes to the journal, its beginning and its end; more goes to the log."""
    trace = redacted(traceback.format_exc())
    log.write(trace)
    if len(trace) > DETAIL:
        gap = f"[... {len(trace) - DETAIL:,} characters left out ...]"
        trace = f"{trace[: DETAIL // 2]}\n{gap}\n{trace[-DETAIL // 2 :]}"
    return trace
