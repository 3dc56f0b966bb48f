"""Tables for a paper: booktabs LaTeX for its readers, CSV for its data."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

from search.report.section import Table

SPECIAL = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "<": "$<$",
    ">": "$>$",
}

MINUS = re.compile(r"(?<![\w.-])-(?=\d)")
"""A hyphen that is a sign: not one of a kernel profile, a date or an exponent."""


def escape(text: str) -> str:
    """The text as LaTeX that prints it as it is, a minus as long as a plus."""
    parts = MINUS.split(text)
    return "$-$".join("".join(SPECIAL.get(one, one) for one in part) for part in parts)


def tabular(table: Table, name: str) -> str:
    """A `table` environment with `booktabs` rules, labelled `tab:NAME`."""
    columns = "".join("l" if heading in table.left else "r" for heading in table.heading)
    rows = "\n".join(" & ".join(map(escape, row)) + r" \\" for row in table.rows)
    return (
        "\\begin{table}\n\\centering\n"
        f"\\caption{{{escape(table.caption)}}}\n\\label{{tab:{name}}}\n"
        f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n"
        f"{' & '.join(map(escape, table.heading))} \\\\\n\\midrule\n{rows}\n"
        "\\bottomrule\n\\end{tabular}\n\\end{table}\n"
    )


def comma_separated(records: Sequence[Mapping[str, Any]]) -> str:
    """Records as CSV: a number a cell in full precision, empty where there is none."""
    text = io.StringIO()
    heading = dict.fromkeys(name for record in records for name in record)
    writer = csv.DictWriter(text, list(heading), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()
