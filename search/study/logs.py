"""What attempts have printed: one file an attempt, `logs/0017-r0-a1.log` in the study's folder.

`search.study.output` writes them where the attempt runs; here they are named and read. Attempts on
a node that does not see the study's folder leave theirs beside their checkpoints, when they end.
"""

from __future__ import annotations

from pathlib import Path

FOLDER = "logs"
TAIL = 8_000
"""Characters of a log that are enough to see how an attempt ended."""


def name(trial: int, replicate: int, attempt: int) -> str:
    """The file name of an attempt's log."""
    return f"{trial:04d}-r{replicate}-a{attempt}.log"


def path(study: Path, trial: int, replicate: int, attempt: int) -> Path:
    """The log of an attempt below its study's folder, whether it is there or not."""
    return study / FOLDER / name(trial, replicate, attempt)


def read(study: Path, trial: int, replicate: int, attempt: int) -> str:
    """All that was kept of what an attempt printed; empty where there is nothing."""
    try:
        data = path(study, trial, replicate, attempt).read_bytes()
    except OSError:
        return ""
    return data.decode(errors="replace")


def tail(study: Path, trial: int, replicate: int, attempt: int, *, size: int = TAIL) -> str:
    """The end of an attempt's log, whole lines of at most `size` characters; empty without one."""
    text = read(study, trial, replicate, attempt)
    if len(text) <= size:
        return text
    _, _, lines = text[-size:].partition("\n")
    return lines or text[-size:]


def append(study: Path, trial: int, replicate: int, attempt: int, text: str) -> None:
    """Add what is known of an attempt elsewhere, such as how its worker died.

    It is called where the attempt runs no more. A log that cannot be written is left as it is.
    """
    from search.study.output import Output

    with Output(path(study, trial, replicate, attempt)) as log:
        log.write(text)


def beside(checkpoints: str, key: str, trial: int, replicate: int, attempt: int) -> str:
    """Where the log goes from a node that does not see the study's folder: to the checkpoints'."""
    return f"{checkpoints.rstrip('/')}/{key}/{name(trial, replicate, attempt)}"


def read_beside(uri: str) -> str:
    """The log at a URI; empty where there is none, or nobody answers there."""
    import fsspec

    try:
        system, file = fsspec.core.url_to_fs(uri)
        data: bytes = system.cat_file(file)
    except Exception:  # every file system has errors of its own
        return ""
    return data.decode(errors="replace")
