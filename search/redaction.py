"""Text without secrets: what a program prints may hold a token that only its environment knew."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping

HIDDEN = "[redacted]"
SHORT = 6
"""A value of fewer characters is no secret: hiding every `1` would hide the text."""

_NAMES = re.compile(r"(?:^|_)(?:TOKEN|KEY|PASS|PASSWORD|PASSWD|PASSPHRASE|SECRET|CREDENTIALS?)$")
_PASSWORD = re.compile(r"://[^/\s@:]{0,200}:([^/\s@]{1,400})@")
"""In a URL that the environment holds."""
_SHAPES = (
    # user and password of a URL, which may hold an @ themselves
    (re.compile(r"(?<=://)[^/?#\s]{1,400}(?=@)"), HIDDEN),
    # what GitHub, Hugging Face, AWS, Databricks, Slack and others give out, and JSON web tokens
    (
        re.compile(
            r"(?<![\w-])(?:gh[pousr]_\w{20,255}|github_pat_\w{20,255}|hf_\w{20,255}|A[KS]IA[0-9A-Z]{16}"
            r"|dapi[0-9a-f]{32}|xox[abprs]-[\w-]{10,255}|sk-[\w-]{20,255}"
            r"|eyJ[\w-]{10,2000}\.[\w-]{10,4000}\.[\w-]{0,2000})"
        ),
        HIDDEN,
    ),
    (re.compile(r"(?<=PRIVATE KEY-----)[^-]{1,20000}(?=-----END )"), HIDDEN),
    # Bearer abc, without the header's name
    (re.compile(r"(?i)(\bbearer )[\w.~+/=-]{8,}"), rf"\1{HIDDEN}"),
    # Authorization: Bearer abc, also as a header of a dict
    (
        re.compile(r"(?i)(authorization['\"]?\s{0,3}[:=]\s{0,3}['\"]?(?:\w{1,20} )?)[^\s'\",]{6,}"),
        rf"\1{HIDDEN}",
    ),
    # password=abc, "api_key": "abc"
    (
        re.compile(
            r"(?i)((?:passw(?:or)?d|passphrase|secret|token|api[_-]?key|access[_-]?key)"
            r"['\"]?\s{0,3}[:=]\s{0,3}['\"]?)[^\s'\",}]{6,}"
        ),
        rf"\1{HIDDEN}",
    ),
)


def redaction(environment: Mapping[str, str] = os.environ) -> Callable[[str], str]:
    """A function that takes secrets out of text.

    A secret is the value of a variable whose name says so (`..._TOKEN`, `..._KEY`, `..._PASSWORD`),
    the user of a URL, and what follows `Authorization:`, `password=` and the like.
    """
    values = {value for name, value in environment.items() if _NAMES.search(name.upper())}
    values |= {m[1] for value in environment.values() for m in _PASSWORD.finditer(value)}
    values = {value for value in values if len(value) >= SHORT}
    longest_first = sorted(map(re.escape, values), key=len, reverse=True)
    known = re.compile("|".join(longest_first)) if values else None

    def redact(text: str) -> str:
        if known is not None:
            text = known.sub(HIDDEN, text)
        for shape, instead in _SHAPES:
            text = shape.sub(instead, text)
        return text

    return redact


def redacted(text: str) -> str:
    """The text without what this process's environment, or the text itself, tells as secret."""
    return redaction()(text)
