"""Where an MLflow store may be: told from its URI alone, before MLflow is imported."""

from __future__ import annotations

import os
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

from search.redaction import redaction

SCHEMES = ("sqlite", "postgresql", "mysql", "mssql", "http", "https", "databricks")
HEADER = b"SQLite format 3\0"
"""What a SQLite file that holds anything begins with."""


def refusal(uri: str) -> str | None:
    """Why MLflow writes no store there; None where it does."""
    if not uri.isprintable():
        return f"a URI is plain text (got {uri!r})"
    scheme, separator, rest = uri.partition("://")
    kind = scheme.partition("+")[0]
    if kind == "sqlite":
        return _no_database(rest.partition("?")[0])
    if kind in ("http", "https") and not _names_server(uri):
        return f"no server is named (allowed: {kind}://HOST:PORT)"
    if kind in SCHEMES:
        return None
    if separator and scheme != "file":
        return f"no store of kind {scheme}:// (allowed: {', '.join(SCHEMES)})"
    folder = uri.removeprefix("file://")
    return (
        f"MLflow keeps runs in folders no more (got {uri!r}; "
        f"allowed: sqlite:///{folder or '.'}/mlflow.db, or another kind of store)"
    )


def _names_server(uri: str) -> bool:
    try:
        parts = urlsplit(uri)
        return bool(parts.hostname) and " " not in parts.netloc and parts.port != 0
    except ValueError:  # no port, or no address
        return False


def _no_database(path: str) -> str | None:
    """Why MLflow cannot keep runs in the file that a SQLite URI names after `sqlite://`."""
    if path in ("", "/", "/:memory:"):
        return "a store in memory ends with the program (allowed: sqlite:///FOLDER/mlflow.db)"
    if not path.startswith("/"):
        return f"no file (got sqlite://{path}; allowed: sqlite:///{path})"
    place = Path(path[1:])
    if place.parts[0] == "~":
        return (
            f"no shell reads it, so ~ is no home (allowed: sqlite:///{os.path.expanduser(place)})"
        )
    try:
        with place.open("rb") as opened:
            head = opened.read(len(HEADER))
    except IsADirectoryError:
        return f"a folder and no file (allowed: sqlite:///{place / 'mlflow.db'})"
    except (OSError, ValueError):
        return None  # not there yet, or away for now
    return None if head in (b"", HEADER) else f"{place} is no SQLite database"


def public(uri: str) -> str | None:
    """The URI as it may be written down; None where it holds credentials."""
    return uri if redaction({})(uri) == uri else None


def stripped(uri: str) -> str:
    """The URI without its credentials: it still says where, and no more who."""
    bare = re.sub(r"(?<=://)[^/?#\s]*@", "", uri)
    return bare if public(bare) else bare.partition("?")[0]


def default_uri(out: Path) -> str:
    """The store of a folder of studies: a SQLite file in it."""
    return f"sqlite:///{out.absolute() / 'mlflow.db'}"


def homeless(out: Path) -> str | None:
    """Why the default store cannot be in a folder of studies; None where it can."""
    if file(default_uri(out)) == out.absolute() / "mlflow.db":
        return None
    return (
        f"no URI of SQLite names {str(out)!r} (allowed: a path without ? and %; or --tracking-uri)"
    )


def file(uri: str) -> Path | None:
    """The file of a SQLite store; None for every other.

    As SQLAlchemy reads it: `sqlite+pysqlite:///a%20b.db?timeout=60` is the file `a b.db`.
    """
    found = re.match(r"sqlite(?:\+\w+)?:///([^?]*)", uri)
    return Path(unquote(found[1])) if found else None


def artifacts(uri: str) -> str | None:
    """Where the files of its runs go: beside a SQLite store; a server has its own place."""
    path = file(uri)
    return None if path is None else (path.absolute().parent / "mlartifacts").as_uri()


def probe(uri: str) -> None:
    """Open a SQLite store once ourselves: MLflow would try for minutes. Raises OSError."""
    path = file(uri)
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with closing(sqlite3.connect(path, timeout=2.0)) as connection:
            connection.execute("PRAGMA schema_version")
    except sqlite3.Error as error:
        raise OSError(str(error)) from error
