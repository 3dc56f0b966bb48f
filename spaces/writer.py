"""Plain values out to YAML that `reader` reads back as the same values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spaces import scalars

if TYPE_CHECKING:
    import yaml


def dump(value: Any) -> str:
    """YAML text, keys in their order, innermost collections on one line."""
    import yaml

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    Dumper.add_representer(str, _text)
    return yaml.dump(
        value,
        Dumper=Dumper,
        sort_keys=False,
        allow_unicode=True,
        width=100,
        default_flow_style=None,
    )


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    try:
        unquoted = text.isprintable() and scalars.plain(text) == text
    except ValueError:
        unquoted = False
    style = None if unquoted else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)
