"""Widths: what the channels of a stage may be multiplied by."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

MIN_WIDTH, MAX_WIDTH = 0.01, 64

Width = Annotated[float, Field(ge=MIN_WIDTH, le=MAX_WIDTH)]
