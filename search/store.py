"""Where an MLflow store may be: told from its URI alone, before anything is opened."""

from __future__ import annotations

from pathlib import Path

SCHEMES = ("sqlite", "postgresql", "mysql", "mssql", "http", "https", "databricks")


def refusal(uri: str) -> str | None:
    """Why MLflow writes no store there; None where it does."""
    scheme, separator, _ = uri.partition("://")
    if scheme.partition("+")[0] in SCHEMES:
        return None
    if separator and scheme != "file":
        return f"no store of kind {scheme}:// (allowed: {', '.join(SCHEMES)})"
    folder = uri.removeprefix("file://")
    return (
        f"MLflow keeps runs in folders no more (got {uri!r}; "
        f"allowed: sqlite:///{folder or '.'}/mlflow.db, or another kind of store)"
    )


def public(uri: str) -> str | None:
    """The URI as it may be written down; None where it holds credentials."""
    return None if "@" in uri.partition("://")[2].partition("/")[0] else uri


def default_uri(out: Path) -> str:
    """The store of a folder of studies: a SQLite file in it."""
    return f"sqlite:///{out.absolute() / 'mlflow.db'}"
