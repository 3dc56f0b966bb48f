"""What earlier studies tell of a training to come."""

from __future__ import annotations

import pytest

from search.study.precedents import Pace


def test_a_pace_lies_between_those_of_the_networks_that_were_trained() -> None:
    """On a line between two; above all of them in proportion, below all no quicker than the least.

    A network of a fifth of the MACs is no five times as quick: its time is calls, not arithmetic.
    """
    pace = Pace(((1e6, 2.0), (3e6, 3.0)), "digits")
    assert [pace.seconds(macs) for macs in (1e6, 2e6, 3e6)] == [2.0, 2.5, 3.0]
    assert pace.seconds(6e6) == pytest.approx(6.0)  # twice the largest, exact in doubles or nearly
    assert pace.seconds(2e5) == 2.0
