"""A report as one HTML file: no script, nothing from the network, readable with both off."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

from search.report.section import Figure, Listing, Part, Prose, Section, Table

STYLE = """
:root{color-scheme:light;--line:#e2e2e2;--faint:#666}
body{margin:2rem auto;max-width:72rem;padding:0 1.5rem;font:15px/1.5 system-ui,sans-serif;
color:#222;background:#fff}
h1{font-size:1.6rem;margin:0 0 .2rem}h2{font-size:1.15rem;margin:2.2rem 0 .6rem;
border-bottom:1px solid var(--line);padding-bottom:.2rem}
nav{margin:.8rem 0;font-size:.85rem}nav a{margin-right:1rem;color:#0072b2}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-size:.85rem;font-variant-numeric:tabular-nums;margin:.6rem 0}
th,td{padding:.25rem .7rem;text-align:right;border-bottom:1px solid var(--line);
white-space:nowrap}
th{font-weight:600}.l{text-align:left}td.l{white-space:normal;max-width:34rem}
caption,figcaption{color:var(--faint);font-size:.85rem;text-align:left;padding:.3rem 0}
figure{margin:.8rem 0}figure svg{max-width:100%;height:auto}
pre{background:#f6f6f6;padding:.8rem;overflow-x:auto;font-size:.8rem;max-height:28rem}
"""
POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""What the page may load: nothing. A browser then holds it to that."""


def page(title: str, subtitle: str, sections: Sequence[Section]) -> str:
    """The whole file; every text in it is escaped."""
    links = "".join(f'<a href="#{_anchor(s.title)}">{escape(s.title)}</a>' for s in sections)
    body = "\n".join(_section(section) for section in sections)
    return (
        '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body>\n"
        f"<h1>{escape(title)}</h1>\n<p>{escape(subtitle)}</p>\n<nav>{links}</nav>\n"
        f"{body}\n</body>\n</html>\n"
    )


def _section(section: Section) -> str:
    parts = "\n".join(_part(part) for part in section.parts)
    name = _anchor(section.title)
    return f'<section id="{name}">\n<h2>{escape(section.title)}</h2>\n{parts}\n</section>'


def _anchor(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def _part(part: Part) -> str:
    match part:
        case Prose(text):
            return f"<p>{escape(text)}</p>"
        case Listing(text):
            return f"<pre>{escape(text)}</pre>"
        case Table():
            return _table(part)
        case Figure(name, svg, said):
            return (
                f'<figure role="img" aria-label="{escape(said)}">{_inline(svg, name)}'
                f"<figcaption>{escape(said)}</figcaption></figure>"
            )


def _table(table: Table) -> str:
    sides = [' class="l"' if name in table.left else "" for name in table.heading]
    caption = f"<caption>{escape(table.caption)}</caption>" if table.caption else ""
    head = "".join(
        f"<th{side}>{escape(name)}</th>" for name, side in zip(table.heading, sides, strict=True)
    )
    rows = "\n".join(
        "<tr>"
        + "".join(f"<td{side}>{escape(cell)}</td>" for cell, side in zip(row, sides, strict=True))
        + "</tr>"
        for row in table.rows
    )
    return (
        f'<div class="scroll"><table>{caption}<thead><tr>{head}</tr></thead>\n'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _inline(svg: bytes, name: str) -> str:
    """The picture as part of the page: without its XML head, its ids its own."""
    text = svg.decode("utf-8")
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    for pattern in (r'\bid="', r"url\(#", r'\bhref="#'):
        text = re.sub(pattern, lambda found: f"{found[0]}{name}-", text)
    return text
