"""What keeps a study from being driven; the command line gives each its exit code."""

from __future__ import annotations


class StudyExists(RuntimeError):
    """A study was already started in this folder; `resume` goes on with it."""


class Unfit(RuntimeError):
    """This machine or cluster cannot run the study now; the message says what is missing."""


class Stopped(RuntimeError):
    """A person asked the study to stop (`eca-search stop`); `resume` goes on with it."""


class JournalError(RuntimeError):
    """A journal is damaged, missing or owned by another driver; the message says which."""


class LeaseLost(JournalError):
    """Another driver has taken the study over: nothing is lost, and it goes on without us."""


class Behind(JournalError):
    """The mirror at `uri` holds all that its study's folder does, and more."""

    def __init__(self, message: str, uri: str) -> None:
        super().__init__(message)
        self.uri = uri


class ExportError(RuntimeError):
    """A trial that cannot be exported, or a place that it cannot be exported to."""


class TableError(ValueError):
    """Recorded trainings that cannot be replayed; the message says what is missing."""
