"""How to choose, and what was learnt: studies on Ray or in this process, read back from a journal.

Names are imported on first use: `import search` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from search.execution.launch import StudyExists, Unfit, load, resume, run, sync
    from search.study.study import Study

__all__ = ["Study", "StudyExists", "Unfit", "load", "resume", "run", "sync"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'search' has no attribute {name!r}")
    if name == "Study":
        from search.study.study import Study

        return Study
    from search.execution import launch

    return getattr(launch, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
