"""The attention modules of timm, by timm's names; needs the extra `timm`."""

from __future__ import annotations

from typing import Literal

from torch import nn


def attention(
    channels: int,
    *,
    module: Literal["se", "ese", "eca", "ecam", "ceca", "gc", "gca", "cbam", "lcbam"] = "se",
) -> nn.Module:
    """One of timm's attention modules at timm's own defaults, to compare with what others trained.

    module: the name by which timm's models ask for it (timm.layers.create_attn): `se` and `ese`
      squeeze and excitation, `eca`, `ecam`, `ceca` kinds of ECA (their kernel is timm's choice from
      C, never below 3), `gc` and `gca` global context scaled or added, `cbam` and `lcbam` CBAM and
      a lighter one.

    Shape (N, C, H, W) -> (N, C, H, W). Parameters and MACs are counted, not given by a formula.

    Raises ValueError where timm is not installed.
    """
    try:
        from timm.layers import create_attn
    except ImportError:
        said = "timm is not installed: pip install 'eca-search[timm]', on every node"
        raise ValueError(said) from None
    made: nn.Module = create_attn(module, channels)
    return made
