"""What a plain scalar means: YAML 1.2's core schema, less what YAML 1.1 reads differently."""

from __future__ import annotations

import math
import re

Scalar = str | int | float | bool | None

WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9]*)")
HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]+")
FLOAT = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
INFINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
DIGITS = 40

# Read as something else, or as nothing, by one of the two versions of YAML.
AMBIGUOUS = {
    "a number with a leading zero": re.compile(r"[-+]?0[0-9][0-9_]*(\.[0-9_]*)?([eE].*)?"),
    "an octal number": re.compile(r"[-+]?0o[0-7_]+"),
    "a binary number": re.compile(r"[-+]?0b[01_]+"),
    "a signed hexadecimal number": re.compile(r"[-+]0x[0-9a-fA-F_]+"),
    "a number to the base 60": re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?"),
    "a date": re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt \t].*)?"),
    "a yes or no": re.compile(r"y|Y|yes|Yes|YES|n|N|no|No|NO|on|On|ON|off|Off|OFF"),
    "a special word": re.compile(r"=|<<"),
}
UNDERSCORED = re.compile(r"[-+]?(0x[0-9a-fA-F_]+|0b[01_]+|\.?[0-9][0-9_.]*([eE][-+]?[0-9_]+)?)")


def plain(text: str) -> Scalar:
    """The value of a plain (unquoted) scalar.

    Raises ValueError for what YAML 1.1 and 1.2 read differently, for numbers that are not finite
    and for numbers of more than 40 digits; the text says what was got and what is allowed.
    """
    if text in WORDS:
        return WORDS[text]
    short = text if len(text) <= DIGITS else f"{text[: DIGITS - 3]}..."
    if DECIMAL.fullmatch(text) or HEXADECIMAL.fullmatch(text):
        if len(text) > DIGITS:
            raise ValueError(f"a number of {len(text)} digits (got {short}; allowed: {DIGITS})")
        return int(text, 0)
    if FLOAT.fullmatch(text):
        number = float(text)
        if math.isinf(number):
            raise ValueError(f"a number too large (got {short}; allowed: up to 1.7e308)")
        return number
    if INFINITE.fullmatch(text):
        raise ValueError(f"not a finite number (got {short}; allowed: finite numbers)")
    what = next((what for what, like in AMBIGUOUS.items() if like.fullmatch(text)), None)
    if what is None and "_" in text and UNDERSCORED.fullmatch(text):
        what = "a number with underscores"
    if what is not None:
        raise ValueError(
            f"{what}, which YAML 1.1 and 1.2 do not read alike "
            f'(got {short}; allowed: quote it, "{short}", or write it otherwise)'
        )
    return text
