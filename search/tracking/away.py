"""Why an MLflow store cannot be written, on one line that says what helps. Imports no MLflow."""

from __future__ import annotations

import re

from search.redaction import redacted
from search.text import clean

LENGTH = 200
"""Of what MLflow itself says, so many characters."""

_LOGIN = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
_TROUBLES = (
    (r"UNAUTHENTICATED|CUSTOMER_UNAUTHORIZED", "login", f"it does not know us (401): {_LOGIN}"),
    (
        r"Host header",
        "login",
        "it refuses this name for itself (403): start it with --allowed-hosts, or use its address",
    ),
    (
        r"PERMISSION_DENIED",
        "login",
        f"it does not let us write (403): ask for the right to, or {_LOGIN} of somebody who may",
    ),
    (
        r"timed out|timeout",
        "away",
        "it does not answer: is it well? MLFLOW_HTTP_REQUEST_TIMEOUT (seconds) gives it longer",
    ),
    (
        r"Failed to resolve|NameResolution|Name or service not known",
        "away",
        "no machine of that name is known: is it spelt right?",
    ),
    (r"Connection refused|NewConnectionError", "away", "nobody listens there: start it"),
    (
        r"CERTIFICATE_VERIFY",
        "certificate",
        "its certificate is unknown: name it in MLFLOW_TRACKING_SERVER_CERT_PATH",
    ),
    (r"Connection aborted|Disconnected|reset by peer", "away", "it hangs up: its log says why"),
    (r"(?:code |too many )5\d\d", "away", "it fails by itself (a 500): its log says why"),
    (
        r"No module named '(?:psycopg|pymysql|MySQLdb|pyodbc|pymssql)",
        "driver",
        "its driver for Python is missing: install it here (eca-search[postgres], PyMySQL)",
    ),
    (r"database is locked", "locked", "another program holds it: let that one end"),
    (r"disk is full|No space left", "full", "its disk is full: make room there"),
    (
        r"readonly database|unable to open",
        "rights",
        "this user cannot write it: mind the rights of the file and its folder",
    ),
)
_STALE = re.compile(r"RESOURCE_(?:DOES_NOT|ALREADY)_EXIST|'active' (?:state|lifecycle)|not found")


class TrackingError(RuntimeError):
    """An MLflow store cannot be written now; which, why and what helps, on one line.

    `kind` is the same for all that one trouble brings about: a server that goes down hangs up
    first, and answers nobody then.
    """

    def __init__(self, uri: str, error: Exception, *, what: str = "") -> None:
        self.kind, said = _trouble(error)
        self.kind = what or self.kind
        super().__init__(f"MLflow at {redacted(uri)}: {what}{said}")


def _trouble(error: Exception) -> tuple[str, str]:
    """The kind of a trouble, and the sentence for it: MLflow's own where it is not a known one."""
    for pattern, kind, sentence in _TROUBLES:
        if re.search(pattern, _said(error)):
            return kind, sentence
    first = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return "other", clean(redacted(first))[:LENGTH]


def stale(error: Exception) -> bool:
    """Whether somebody has deleted, or made, what was thought to be there, or not to be.

    The store itself is well: a new look tells what it holds.
    """
    return _STALE.search(_said(error)) is not None


def _said(error: Exception) -> str:
    return f"{getattr(error, 'error_code', '')} {error}"
