"""Values as a model may see them: those worse than the middle drawn in, the others as they are.

A network that hardly learns says that it is bad, not how bad; unwarped, a few of them would be most
of the variance, and differences among good ones would be noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
GOOD = 0.1
"""The share of values from which to the middle is one step: beyond, steps are logarithmic."""
FURTHEST = 20.0
"""Steps, drawn in, beyond which nothing is undone."""


@dataclass(frozen=True, slots=True)
class Warp:
    """A value v > `middle` becomes middle + step * ln(1 + (v - middle) / step); to be minimised."""

    middle: float
    step: float

    @classmethod
    def of(cls, values: Array) -> Warp:
        """The warp for these values."""
        good, middle = map(float, np.quantile(values, [GOOD, 0.5]))
        return cls(middle, max(middle - good, 1e-9 * max(1.0, abs(middle))))

    def __call__(self, values: Array) -> Array:
        """The values, warped."""
        beyond = np.maximum(values - self.middle, 0.0) / self.step
        warped: Array = np.where(beyond > 0, self.middle + self.step * np.log1p(beyond), values)
        return warped

    def undone(self, values: Array) -> Array:
        """The values that these are the warped of."""
        beyond = np.clip((values - self.middle) / self.step, 0.0, FURTHEST)
        found: Array = np.where(beyond > 0, self.middle + self.step * np.expm1(beyond), values)
        return found
