"""A Gaussian process over what networks are: what one is worth, and how surely, before it trains.

The kernel is a line in every feature (main effects, which few data tell already) and beside it a
Matern-5/2 with a relevance for each feature (Rasmussen and Williams, "Gaussian Processes for
Machine Learning", 2006, sections 2.7, 4.2 and 5.4.1). Relevances, scales and noise are those of
the largest marginal likelihood under weak priors.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, optimize

Array = NDArray[np.floating[Any]]
STEPS = 25
"""Steps of the search for relevances, scales and noise."""
JITTER = 1e-6
"""Added to the diagonal, in units of the values' variance: distinct networks may look equal."""


@dataclass(frozen=True)
class Kernel:
    """How alike two networks are: `relevance` (d,) for squared distances, `matern` and `line`
    the variances of the two parts, `noise` that of a training, all of standardised values.
    """

    relevance: Array
    matern: float
    line: float
    noise: float

    def __call__(self, one: Array, other: Array) -> Array:
        """Covariances, shape (len(one), len(other))."""
        alike: Array = self.matern * _matern(np.sqrt(5 * _squared(one, other, self.relevance)))
        return alike + self.line * (one @ other.T)

    @property
    def single(self) -> Kernel:
        """The same in single precision."""
        return replace(self, relevance=self.relevance.astype(np.float32))

    def variances(self, rows: Array) -> Array:
        """Prior variance of each row."""
        own: Array = self.matern + self.line * np.einsum("ij,ij->i", rows, rows)
        return own


def fitted(rows: Array, values: Array, seeds: Array, extra: Array) -> Kernel:
    """The kernel of the largest posterior density; `values` are standardised, `rows` centred.

    A value is the mean of `seeds` (n,) trainings; `extra` (n,) is the variance that it has beside
    their noise, such as that of a guess.
    """
    width = rows.shape[1]
    expected = np.concatenate(
        [np.full(width, np.log(3.0 / width)), np.log([0.5, 2.0 / width, 0.02])]
    )
    spread = np.concatenate([np.full(width, 1.0), [1.0, 1.5, 1.5]])

    def badness(logs: Array) -> tuple[float, Array]:
        value, slope = _unlikeliness(logs, rows, values, 1 / seeds, extra)
        away = (logs - expected) / spread
        return value + 0.5 * float(away @ away), slope + away / spread

    bounds = list(zip(expected - 5 * spread, expected + 4 * spread, strict=True))
    found = optimize.minimize(
        badness, expected, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": STEPS}
    )
    scales = np.exp(found.x)
    return Kernel(scales[:width], *map(float, scales[width:]))


class Posterior:
    """What is believed of other rows once `values` (n,) of `rows` (n, d) are known."""

    def __init__(
        self, kernel: Kernel, rows: Array, values: Array, seeds: Array, extra: Array
    ) -> None:
        self._kernel = kernel
        self._rows = rows
        covariance = kernel(rows, rows)
        covariance[np.diag_indices_from(covariance)] += kernel.noise / seeds + extra + JITTER
        self._factor = linalg.cholesky(covariance, lower=True, check_finite=False)
        self._weights = linalg.cho_solve((self._factor, True), values, check_finite=False)

    def __call__(self, rows: Array) -> tuple[Array, Array]:
        """Expected values and their standard deviations, that of the noise left out.

        In single precision: of what is asked for, no more digits matter.
        """
        kernel, own = self._kernel.single, rows.astype(np.float32)
        across = kernel(self._rows.astype(np.float32), own)
        means = across.T @ self._weights.astype(np.float32)
        solved = linalg.solve_triangular(
            self._factor.astype(np.float32),
            across,
            lower=True,
            check_finite=False,
            overwrite_b=True,
        )
        left = kernel.variances(own) - np.einsum("ij,ij->j", solved, solved)
        return means.astype(np.float64), np.sqrt(np.maximum(left, 1e-6)).astype(np.float64)


def _unlikeliness(
    logs: Array, rows: Array, values: Array, share: Array, extra: Array
) -> tuple[float, Array]:
    """Negative log marginal likelihood and its slope in the logarithms of the scales."""
    count, width = rows.shape
    relevance = np.exp(logs[:width])
    matern, line, noise = np.exp(logs[width:])
    scaled = np.sqrt(5 * _squared(rows, rows, relevance))
    alike = _matern(scaled)
    steep = -5 / 6 * (1 + scaled) * np.exp(-scaled)  # its slope in the squared distances
    lines = rows @ rows.T
    covariance = matern * alike + line * lines
    covariance[np.diag_indices(count)] += noise * share + extra + JITTER
    try:
        factor = linalg.cholesky(covariance, lower=True, check_finite=False)
    except linalg.LinAlgError:
        return 1e25, np.zeros_like(logs)
    inverse = linalg.cho_solve((factor, True), np.eye(count), check_finite=False)
    weights = inverse @ values
    value = 0.5 * float(values @ weights) + float(np.log(np.diag(factor)).sum())
    pull = inverse - np.outer(weights, weights)  # the slope is half its trace with dK
    bend = matern * pull * steep
    # sum of bend[i, j] (x_i - x_j)^2 over all pairs, for every feature at once
    apart = 2 * (bend.sum(axis=1) @ rows**2 - np.einsum("ij,ij->j", bend @ rows, rows))
    slopes = [
        *(0.5 * relevance * apart),
        0.5 * matern * float((pull * alike).sum()),
        0.5 * line * float((pull * lines).sum()),
        0.5 * noise * float(np.diag(pull) @ share),
    ]
    return value, np.array(slopes)


def _squared(one: Array, other: Array, relevance: Array) -> Array:
    """Squared distances of rows, each feature weighed by its relevance."""
    near = one * relevance
    squares = (near * one).sum(axis=1)[:, None] + (other**2 @ relevance)[None, :]
    apart: Array = np.maximum(squares - 2 * (near @ other.T), 0)
    return apart


def _matern(scaled: Array) -> Array:
    """Matern-5/2 of distances times the root of 5."""
    alike: Array = (1 + scaled + scaled**2 / 3) * np.exp(-scaled)
    return alike
