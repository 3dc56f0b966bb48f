"""What a space spans, and what a point is called, before anything trains."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import spaces
import trainers
from search.beforehand import preflight
from search.beforehand.examine import examiner
from search.beforehand.networks import Bin, Networks, histogram, measured
from search.beforehand.options import reason
from search.beforehand.survey import _most_within, ends, reference, remarks, survey
from spaces import Space, SpaceError

SPACE = """\
name: span
task: {name: classification}
dataset: {name: digits}
backbone: {name: resnet, depth: 8, width: {choice: [0.25, 0.5, 1.0], default: 0.5}}
attention:
  choice:
    - {name: none}
    - {name: se, reduction: {choice: [4, 8]}}
    - name: eca
      placement: {name: stages, stages: {subset: [1, 2, 3]}}
      mapping: {name: log2, gamma: {float: [1, 4], step: 1}, b: {int: [-1, 3]}}
training: {epochs: 1, batch_size: 32, optimizer: {name: sgd, lr: 0.1}}
"""


@pytest.fixture
def make(tmp_path: Path) -> Any:
    """The space above with a search section of one's own."""

    def load(search: str = "{trials: 4}", text: str = SPACE) -> Space:
        path = tmp_path / "span.yaml"
        path.write_text(f"{text}search: {search}\n")
        return spaces.load(path)

    return load


def test_ends_are_those_of_the_whole_list(make: Any) -> None:
    """Moving one hole at a time finds the least and the most that listing every setting finds."""
    space = make()
    costs = [trainers.measure(space.at(values)) for values in space.settings()]

    assert ends(space) == {
        "params": (min(c.params for c in costs), max(c.params for c in costs)),
        "macs": (min(c.macs for c in costs), max(c.macs for c in costs)),
    }


def test_networks_are_counted_by_identity(make: Any) -> None:
    """843-like spaces hold far fewer networks than settings, and the count is exact."""
    space = make()
    found = survey(space)

    assert found.settings == space.size() == len(list(space.settings()))
    identities = {trainers.identity(space.at(values)) for values in space.settings()}
    assert found.networks == len(identities) < found.settings


def test_the_reference_is_the_spaces_largest(make: Any) -> None:
    """Of each cost that is an objective: SE is the costliest attention here."""
    largest = trainers.measure(
        make().at({"backbone.width": 1.0, "attention": "se", "attention.se.reduction": 4})
    )

    assert reference(make())["params"] == largest.params
    assert reference(make("{trials: 4, reference: {macs: 5e6}}"))["macs"] == 5e6
    assert set(reference(make("{trials: 4, objectives: {val_accuracy: max, macs: min}}"))) == {
        "macs"
    }


@pytest.mark.parametrize("limits", [{"params": 30e3}, {"macs": 1e5}, {"params": 3e4, "macs": 4e5}])
def test_the_reference_is_the_largest_within_limits(make: Any, limits: dict[str, float]) -> None:
    """Where limits cut the space: of each cost the most that a feasible network has, listed here.

    Climbing, as where settings cannot be listed, comes within a thousandth of it in this space.
    """
    space = make(f"{{trials: 4, limits: {json.dumps(limits)}}}")
    costs = [measured(space.at(values)) for values in space.settings()]
    allowed = [all(c[name] <= limit for name, limit in limits.items()) for c in costs]
    inside = [c for c, within in zip(costs, allowed, strict=True) if within]
    assert 0 < len(inside) < len(costs)
    most = {name: max(c[name] for c in inside) for name in ("params", "macs")}

    assert reference(space) == most
    for name, value in most.items():
        assert 0.999 * value <= _most_within(space, name, 1e12) <= value
    found = survey(space)
    assert found.within == pytest.approx(len(inside) / len(costs))
    settings = zip(space.settings(), allowed, strict=True)
    networks = {trainers.identity(space.at(values)) for values, within in settings if within}
    assert found.allowed == len(networks) < len(inside)


def test_limits_that_no_network_meets_together_are_refused(make: Any) -> None:
    """Each can be met, but not by one network: said before anything exists."""
    text = SPACE.replace(
        "width: {choice: [0.25, 0.5, 1.0], default: 0.5}",
        "width: {choice: [[1, 1, 0.25], [0.25, 0.25, 1]]}",
    )
    space = make("{trials: 4, limits: {params: 30e3, macs: 300e3}}", text)
    costs = [measured(space.at(values)) for values in space.settings()]
    assert min(c["params"] for c in costs) <= 30e3
    assert min(c["macs"] for c in costs) <= 300e3
    for look in (survey, reference):
        with pytest.raises(SpaceError, match=r"\.yaml:13:29: search\.limits: .*all limits at once"):
            look(space)


def test_a_limit_between_the_ends_of_a_number(make: Any) -> None:
    """Of an endless space the reference is a feasible network's, near the limit."""
    text = SPACE.replace("{choice: [0.25, 0.5, 1.0], default: 0.5}", "{float: [0.25, 4.0]}")
    largest = reference(make("{trials: 4, limits: {params: 300e3}}", text))
    assert 200e3 < largest["params"] <= 300e3


PARTS = """\
name: parts
task: {name: classification}
dataset: {name: digits, image_size: {choice: [8, 16]}}
backbone:
  choice:
    - {name: resnet, depth: {choice: [8, 14]}, width: 0.25}
    - {name: mobilenetv2, width: 0.25}
attention:
  choice:
    - {name: none}
    - name: eca
      position: {choice: [final, mid]}
      placement: {choice: [{name: everywhere}, {name: stages, stages: {subset: [1, 2, 3]}}]}
      mapping:
        choice:
          - {name: log2, gamma: {choice: [1, 2]}}
          - {name: per_stage, kernel_sizes: [3, 3, 5]}
          - {name: constant, kernel_size: {choice: [3, 5]}}
    - {name: se, placement: {name: stages, stages: [1]}, reduction: {choice: [4, 8]}}
training: {epochs: {choice: [1, 2]}, batch_size: 32, optimizer: {name: sgd, lr: 0.1}}
"""


def test_networks_are_those_of_every_setting(make: Any) -> None:
    """Parts put together give what `Space.at` gives: identity, costs, and what cannot be built."""
    space = make(text=PARTS)
    networks = Networks(space)
    found = [(network.identity, network.costs) for _, network in networks]
    expected, invalid = [], set()
    for values in space.settings():
        try:
            config = space.at(values)
            expected.append((trainers.identity(config), measured(config)))
        except ValueError as error:
            invalid.add(reason(error))
    assert found == expected
    assert set(networks.invalid) == invalid
    assert invalid, "per_stage has three kernels, MobileNetV2 seven stages"


@pytest.mark.parametrize("look", [survey, reference])
def test_a_limit_nobody_can_meet_names_the_smallest(make: Any, look: Any) -> None:
    """The message says what is to be had."""
    with pytest.raises(SpaceError, match=r"search\.limits\.params: .*the smallest has 5,142"):
        look(make("{trials: 4, limits: {params: 100}}"))


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"backbone.width": 0.5, "attention": "none"}, "w0.5 none"),
        (
            {"backbone.width": 1.0, "attention": "se", "attention.se.reduction": 8},
            "w1 se reduction8",
        ),
        (
            {
                "backbone.width": 1.0,
                "attention": "eca",
                "attention.eca.placement.stages.1": False,
                "attention.eca.placement.stages.2": True,
                "attention.eca.placement.stages.3": True,
                "attention.eca.mapping.gamma": 1,
                "attention.eca.mapping.b": 1,
            },
            "w1 eca s2,3 k7-7",
        ),
        (
            {
                "backbone.width": 0.5,
                "attention": "eca",
                "attention.eca.placement.stages.1": False,
                "attention.eca.placement.stages.2": False,
                "attention.eca.placement.stages.3": False,
                "attention.eca.mapping.gamma": 2,
                "attention.eca.mapping.b": 1,
            },
            "w0.5 none",
        ),
    ],
)
def test_a_trial_is_called_by_its_network(make: Any, values: dict[str, Any], name: str) -> None:
    """Width, attention, where it stands and its kernels: what a runs table must tell."""
    assert examiner(make())(values).label == name


def test_a_width_for_each_stage_is_one_word(make: Any) -> None:
    """The widths stand together, and what they were chosen as is not said once more."""
    text = SPACE.replace(
        "width: {choice: [0.25, 0.5, 1.0], default: 0.5}",
        "width: [{choice: [0.25, 1.0]}, {choice: [0.5, 1.0]}, 1.0]",
    )
    values = {"backbone.width.1": 0.25, "backbone.width.2": 0.5, "attention": "none"}
    assert examiner(make(text=text))(values).label == "w0.25-0.5-1 none"


def test_a_training_hole_is_in_the_name(make: Any) -> None:
    """Two trials of one network that differ in their recipe do not share a name."""
    text = SPACE.replace("lr: 0.1", "lr: {float: [0.01, 1.0], log: true}")
    examine = examiner(make("{trials: 4}", text))
    base = {"backbone.width": 0.5, "attention": "none"}

    first = examine({**base, "training.optimizer.lr": 0.1})
    second = examine({**base, "training.optimizer.lr": 0.2})
    assert (first.label, second.label) == ("w0.5 none lr0.1", "w0.5 none lr0.2")
    assert first.identity == second.identity
    assert first.key != second.key


@pytest.mark.parametrize(
    ("attention", "said"),
    [
        (
            "{name: eca, mapping: {name: constant, kernel_size: 51}}",
            r"a kernel of 51 at stage1\.block1 is wider than its 4 channels",
        ),
        (
            "{choice: [{name: none}, {name: eca, mapping: {name: constant, kernel_size: 1}}]}",
            "every kernel of eca is 1 at some settings",
        ),
        ("{choice: [{name: se}, {name: eca}]}", "no setting is the plain network"),
        ("{name: se, reduction: {choice: [4, 8]}}", "no setting is the plain network"),
        ("{name: se, placement: {name: stages, stages: {subset: [1, 2]}}}", None),
        ("{choice: [{name: none}, {name: se}]}", None),
        ("{name: none}", None),
    ],
)
def test_what_is_legal_but_seldom_meant_is_remarked(
    make: Any, attention: str, said: str | None
) -> None:
    """K > C and attention that stands nowhere load and train, with a note."""
    head, _, tail = SPACE.partition("attention:")
    rest = tail[tail.index("training:") :]
    found = remarks(make(text=f"{head}attention: {attention}\n{rest}"))

    assert [bool(re.search(said, note)) for note in found[:1]] == [True] if said else found == []


def test_attention_that_stands_nowhere_is_remarked(make: Any) -> None:
    """MobileNetV2's first block has no shortcut for it to stand on."""
    text = SPACE[: SPACE.index("backbone:")] + (
        "backbone: {name: mobilenetv2, width: 0.25}\n"
        "attention: {name: eca, position: shortcut, "
        'placement: {name: blocks, blocks: ["stage1.block1"]}}\n'
    )
    found = remarks(make(text=text + SPACE[SPACE.index("training:") :]))
    assert found[0].startswith("eca at position shortcut stands nowhere")


DEAD = "{name: eca, mapping: {name: log2, gamma: 2, b: -8}}"
ENDLESS = "{choice: [0.25, 0.5, 1.0], default: 0.5}", "{float: [0.25, 1.0]}"


def attending(attention: str) -> str:
    """The space above with another attention, which begins in column 12 of line 5."""
    head, _, tail = SPACE.partition("attention:")
    return f"{head}attention: {attention}\n{tail[tail.index('training:') :]}"


@pytest.mark.parametrize("endless", [False, True])
@pytest.mark.parametrize(
    ("attention", "place", "option"),
    [
        (f"{{choice: [{{name: none}}, {DEAD}]}}", "5:83", "attention=eca"),
        # the second `eca`, whose key is the first one's too
        (f"{{choice: [{{name: none}}, {{name: eca}}, {DEAD}]}}", "5:96", "attention=eca_2"),
        # the option inside the one that can be built
        (
            "{name: eca, mapping: {choice: [{name: constant}, {name: log2, b: -9}]}}",
            "5:77",
            "attention.mapping=log2",
        ),
        (
            "{name: eca, mapping: {name: log2, b: {choice: [1, -7]}}}",
            "5:62",
            "attention.mapping.b=-7",
        ),
        # without the stages it is the plain network, which can be built
        (
            "{name: eca, placement: {name: stages, stages: {subset: [1]}}, "
            "mapping: {name: linear, b: -300}}",
            "5:101",
            "attention.placement.stages.1=true",
        ),
    ],
)
def test_an_option_that_leads_nowhere_is_refused(
    make: Any, attention: str, place: str, option: str, endless: bool
) -> None:
    """log2(C) + b < 0 throughout an arm: located at `b`, and not at what lies inside the arm."""
    text = attending(attention)
    space = make(text=text.replace(*ENDLESS) if endless else text)
    with pytest.raises(SpaceError) as caught:
        survey(space)
    (problem,) = caught.value.problems
    assert f"{problem.place}".endswith(f"span.yaml:{place}")
    assert problem.key == "attention.mapping.b"
    assert problem.message.startswith(f"no setting with {option} can be built: ")
    assert "+ b must not be negative (got C=" in problem.message


def test_no_network_at_all_is_located(make: Any) -> None:
    """Where nothing can be built the key that is to blame is named."""
    for text in (attending(DEAD), attending(DEAD).replace(*ENDLESS)):
        with pytest.raises(
            SpaceError, match=r"span\.yaml:5:59: attention\.mapping\.b: no network of"
        ):
            survey(make(text=text))


@pytest.mark.parametrize("endless", [False, True])
def test_settings_that_cannot_be_built_are_counted(make: Any, endless: bool) -> None:
    """An arm that only the narrow networks cannot have is left in, and said with an example."""
    eca = "{name: eca, mapping: {name: log2, b: -3}}"
    text = attending(f"{{choice: [{{name: none}}, {eca}]}}")
    found = survey(make(text=text.replace(*ENDLESS) if endless else text))
    unbuilt = found.unbuilt
    assert 0 < unbuilt.failed < unbuilt.looked
    if not endless:
        assert (unbuilt.failed, unbuilt.looked) == (1, 6), "C=4 at width 0.25: log2 C - 3 < 0"
    assert re.fullmatch(
        r"some settings cannot be built, and are never trained \(.* of .* looked at\): "
        r"attention\.mapping\.b: log2\(C\) \+ b must not be negative "
        r"\(got C=4, b=-3: -1; allowed b >= -2\)",
        str(unbuilt),
    )


def test_a_rare_setting_saves_its_option(make: Any) -> None:
    """One width of forty allows b = -6: no few random points, but the whole list, finds it."""
    widths = ", ".join(f"{0.25 + n / 200:.3f}" for n in range(39))
    text = attending(f"{{choice: [{{name: none}}, {DEAD.replace('-8', '-6')}]}}")
    text = text.replace(
        "{choice: [0.25, 0.5, 1.0], default: 0.5}", f"{{choice: [{widths}, 4.0, 0.1]}}"
    )
    assert survey(make(text=text)).unbuilt.failed == 40


def test_a_run_says_what_cannot_be_built_too(make: Any) -> None:
    """Before it starts: some settings with a line, a dead option with an error."""
    said: list[str] = []
    eca = "{name: eca, mapping: {name: log2, b: -3}}"
    space = make(text=attending(f"{{choice: [{{name: none}}, {eca}]}}"))
    preflight.whole(space, examiner(space), said.append)
    (line,) = said
    assert line.startswith("note: some settings cannot be built, and are never trained (")
    space = make(text=attending(f"{{choice: [{{name: none}}, {DEAD}]}}"))
    with pytest.raises(
        SpaceError, match=r"span\.yaml:5:83: attention\.mapping\.b: no setting with"
    ):
        preflight.whole(space, examiner(space), said.append)
    hopeless = make(text=attending(DEAD))
    with pytest.raises(SpaceError, match=r"span\.yaml:5:59: .*\(at 100 of 100 random points\)"):
        preflight.first_point(hopeless, examiner(hopeless))


def test_a_histogram_counts_every_network_once() -> None:
    """Bins of equal ratio from the least to the most: 1 to 100 in two is 1 to 10 and 10 to 100."""
    low, high = histogram([1, 2, 9.9, 10.1, 100], bins=2)
    assert (low.least, high.most) == (1, 100)
    assert low.most == high.least == pytest.approx(10)
    assert (low.networks, high.networks) == (3, 2)
    assert histogram([5.0, 5.0]) == (Bin(5.0, 5.0, 2),)


def test_a_survey_has_the_histogram_of_each_cost(make: Any) -> None:
    """As many networks as were counted, between the ends that were found."""
    found = survey(make())
    assert found.networks is not None
    for name, bins in found.histograms.items():
        assert sum(one.networks for one in bins) == found.networks
        assert (bins[0].least, bins[-1].most) == found.costs[name]
