"""The candidates of an ask: the neighbours of a large front come by turns, none is left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import spaces
from search.sampling.pool import EACH, FIRST, MOST, TURN, Point, Pool
from search.trial import Candidate
from spaces import Space

SPACE = """\
name: pool
task: {name: classification}
dataset: {name: digits}
backbone: {name: resnet, depth: 8, width: {float: [0.25, 2.0], step: 0.25}}
training:
  epochs: {int: [1, 50]}
  batch_size: 32
  optimizer: {name: sgd, lr: {choice: [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]}}
  label_smoothing: {choice: [0.0, 0.1, 0.2, 0.3]}
search: {trials: 100}
"""


@pytest.fixture
def space(tmp_path: Path) -> Space:
    """Settings by the thousand, too many to be listed."""
    path = tmp_path / "pool.yaml"
    path.write_text(SPACE)
    return spaces.load(path)


def look(values: dict[str, Any]) -> Candidate:
    key = json.dumps(values, sort_keys=True)
    return Candidate({}, key, key, {"params": 1.0, "macs": 1.0}, {}, "", key)


def members(space: Space, count: int) -> list[Point]:
    """Different networks."""
    found = {}
    seed = 0
    while len(found) < count:
        values = space.sample(seed)
        found[look(values).key] = Point(values, look(values))
        seed += 1
    return list(found.values())


def apart(one: dict[str, Any], other: dict[str, Any]) -> int:
    """In how many holes two settings differ."""
    return sum(one[name] != other[name] for name in one)


def test_a_large_front_has_turns(space: Space) -> None:
    """Every member's neighbours are candidates within as many asks as the front has turns, and at
    each ask as many candidates come in as one turn brings.
    """
    front = members(space, 3 * TURN - 5)
    alone = {}
    for member in front:
        near = {point.network.key for point in Pool(space, look).candidates(0, [member], ())}
        alone[member.network.key] = near - {
            point.network.key for point in Pool(space, look).candidates(0, [], ())
        }
    pool = Pool(space, look)
    seen: set[str] = set()
    for asks in range(3):
        points = pool.candidates(asks, front, ())
        assert len({point.network.key for point in points}) == len(points)
        drawn = len(pool.candidates(asks, [], ()))
        assert drawn <= min(FIRST + EACH * asks, MOST)
        assert len(points) - drawn <= sum(
            sorted((len(near) for near in alone.values()), reverse=True)[:TURN]
        )
        seen |= {point.network.key for point in points}
    for key, near in alone.items():
        assert near, key
        assert near <= seen


def test_a_small_front_is_looked_at_whole_each_time(space: Space) -> None:
    """Neighbours differ in a hole or two, and each ask has those of all members."""
    front = members(space, TURN)
    pool = Pool(space, look)
    drawn = {point.network.key for point in pool.candidates(7, [], ())}
    near = [p for p in pool.candidates(7, front, ()) if p.network.key not in drawn]
    assert len(near) > 10 * TURN
    for point in near:
        assert min(apart(point.values, member.values) for member in front) in (1, 2)
    assert {p.network.key for p in pool.candidates(9, front, ())} >= {p.network.key for p in near}


def test_the_pool_hangs_on_seed_asks_and_front_alone(space: Space) -> None:
    """A pool that has lived through all asks has the candidates of one that was made just now."""
    front = members(space, 2 * TURN)
    old = Pool(space, look)
    for asks in range(6):
        old.candidates(asks, front[: TURN + asks], ())
    new = Pool(space, look).candidates(6, front, ())
    assert [p.values for p in old.candidates(6, front, ())] == [p.values for p in new]
    tried = {point.network.key for point in new[::2]}
    left = old.candidates(6, front, tried)
    assert [p.network.key for p in left] == [p.network.key for p in new[1::2]]
