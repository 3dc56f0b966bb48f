"""What keeps a study from being driven; the command line gives each its exit code."""

from __future__ import annotations


class StudyExists(RuntimeError):
    """A study was already started in this folder; `resume` goes on with it."""


class Unfit(RuntimeError):
    """This machine or cluster cannot run the study now; the message says what is missing."""
