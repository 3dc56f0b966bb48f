"""Tables for a paper: booktabs LaTeX and CSV."""

from __future__ import annotations

import csv
import io

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
}


def escape(text: str) -> str:
    """The text as LaTeX that prints it as it is."""
    return "".join(SPECIAL.get(character, character) for character in text)


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


def comma_separated(table: Table) -> str:
    """The same as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.heading)
    writer.writerows(table.rows)
    return text.getvalue()
