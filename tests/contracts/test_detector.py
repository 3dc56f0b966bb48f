"""What every detector promises, over every kind of backbone."""

from __future__ import annotations

import inspect
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision import models as classifiers
from torchvision.models import detection as torchvision
from torchvision.models.detection.roi_heads import paste_masks_in_image

import trainers
from spaces import catalogue
from spaces.config import Attention, Component, Config
from spaces.errors import VariantError
from spaces.site import Site
from trainers import portable, pretrained, variants
from trainers.build import module
from trainers.complexity import count
from trainers.datasets import Description
from trainers.detectors import detects
from trainers.keys import plugins
from trainers.network import assemble, skeleton
from trainers.optim import optimizer

DATA = Description(3, 3, 64)
"""Three classes; costs are those of an image of 64 x 102, padded to 64 x 128."""
BODIES = {
    "resnet": {"name": "resnet", "depth": 18, "width": 0.25},
    "three stages": {"name": "resnet", "depth": 8},
    "mobilenetv2": {"name": "mobilenetv2", "width": 0.25},
}
STRIDES = {"resnet": [4, 8, 16, 32], "three stages": [4, 8, 16], "mobilenetv2": [4, 8, 16, 32]}
FEW = {
    "channels": 16,
    "box_features": 32,
    "mask_channels": 8,
    "proposals": 12,
    "detections": 5,
    "train_proposals": 40,
    "rpn_samples": 32,
    "box_samples": 16,
    "score_threshold": 0.0,
}
TASKS = {d: t for t in catalogue.names("task") for d in catalogue.heads(t)}


@pytest.fixture(params=variants.names("detector"))
def task(request: pytest.FixtureRequest) -> Component:
    """The task of every detector, small."""
    return small(request.param)


@pytest.fixture(params=BODIES)
def body(request: pytest.FixtureRequest) -> Component:
    """Every kind of backbone, small."""
    return complete(BODIES[request.param])


def small(detector: str, **own: Any) -> Component:
    fields = catalogue.model("detector", detector).model_fields
    few = {key: value for key, value in FEW.items() if key in fields}
    whole = catalogue.check("detector", {"name": detector, **few, **own})
    return Component(name=TASKS[detector], detector=whole)


def complete(body: dict[str, Any]) -> Component:
    return Component(**catalogue.check("backbone", body))


def plain(site: Site) -> nn.Module:
    return nn.Identity()


def scene(height: int, width: int, boxes: list[list[float]]) -> tuple[Tensor, dict[str, Tensor]]:
    """An image of noise and a target, its boxes of classes 1, 2, ..., their masks full."""
    masks = torch.zeros(len(boxes), height, width, dtype=torch.uint8)
    for mask, (left, top, right, bottom) in zip(masks, boxes, strict=True):
        mask[int(top) : int(bottom), int(left) : int(right)] = 1
    target = {
        "boxes": torch.tensor(boxes).reshape(-1, 4),
        "labels": torch.arange(1, len(boxes) + 1),
        "masks": masks,
    }
    draw = torch.Generator().manual_seed(height)
    return torch.randn(3, height, width, generator=draw), target


def learn(net: nn.Module, *scenes: tuple[Tensor, dict[str, Tensor]]) -> dict[str, Tensor]:
    """A pass forth and back in training; the losses by name."""
    torch.manual_seed(0)  # which anchors and regions the losses are taken of
    losses: dict[str, Tensor] = net.train()(*map(list, zip(*scenes, strict=True)))
    total: Tensor = sum(losses.values(), torch.zeros(()))
    total.backward()
    return losses


SCENES = [
    scene(64, 96, [[4.0, 4.0, 40.0, 44.0], [30.0, 10.0, 90.0, 60.0], [8.0, 30.0, 24.0, 60.0]]),
    scene(70, 64, [[2.0, 6.0, 50.0, 66.0]]),
]


# ---- what goes in and comes out -----------------------------------------------------------------


def test_there_are_detectors() -> None:
    """The folder is found, and each is some task's."""
    assert variants.names("detector") == ["faster_rcnn", "mask_rcnn", "retinanet"]
    assert TASKS.keys() == set(variants.names("detector"))


def test_every_trained_number_learns(task: Component, body: Component) -> None:
    """Losses are finite and have the names that the file says; attention at every place learns too,
    from images of different sizes, and from images without a single object.
    """
    attend = partial(module, variants.load("attention", "se"), {"reduction": 4}, kernel_size=None)
    for scenes in (SCENES, [scene(64, 80, []), scene(64, 64, [])]):
        net = assemble(body, DATA, lambda site: attend(channels=site.channels), task)
        losses = learn(net, *scenes)
        assert tuple(losses) == variants.module("detector", task.params["detector"]["name"]).LOSSES
        assert all(loss.isfinite() and loss.shape == () for loss in losses.values())
        missing = [name for name, p in net.named_parameters() if p.grad is None]
        assert missing == []
        assert all(p.grad.isfinite().all() for p in net.parameters() if p.grad is not None)


def test_answers_are_boxes_in_their_images(task: Component, body: Component) -> None:
    """At most so many, best first, labels from 1 to the number of classes, boxes inside the image
    itself and not its padding; masks are unpasted.
    """
    net = assemble(body, DATA, plain, task).eval()
    images = [image for image, _ in SCENES]
    with torch.no_grad():
        answers = net(images)

    assert len(answers) == len(images)
    for image, answer in zip(images, answers, strict=True):
        boxes, labels, scores = (answer[key] for key in ("boxes", "labels", "scores"))
        some = len(boxes)
        assert 0 < some <= FEW["detections"]
        assert boxes.shape == (some, 4)
        assert labels.shape == scores.shape == (some,)
        assert (labels >= 1).all()
        assert (labels <= DATA.classes).all()
        assert scores.equal(scores.sort(descending=True)[0])
        assert (boxes >= 0).all()
        assert (boxes[:, 2] <= image.shape[2]).all()
        assert (boxes[:, 3] <= image.shape[1]).all()
        if TASKS["mask_rcnn"] == task.name:
            assert answer["masks"].shape == (some, 1, 28, 28)


def test_an_answer_does_not_hang_on_the_batch(task: Component) -> None:
    """An image is answered alike alone and beside a larger one, whose size it is padded to."""
    net = assemble(complete(BODIES["resnet"]), DATA, plain, task).eval()
    image = SCENES[0][0]
    with torch.no_grad():
        alone, beside = net([image])[0], net([image, torch.randn(3, 64, 96)])[0]
    for key, value in alone.items():
        # the same operations on other memory: what differs is rounding
        torch.testing.assert_close(beside[key], value, rtol=1e-4, atol=1e-4)


def test_levels_follow_the_strides(task: Component) -> None:
    """The pyramid stands on the last stage of each stride, anchors grow with the stride."""
    first = 1 if task.params["detector"]["name"] == "retinanet" else 0
    for name, strides in STRIDES.items():
        net: Any = assemble(complete(BODIES[name]), DATA, plain, task)
        pyramid = net.backbone
        wanted = strides[-3:] if first else strides
        assert pyramid.strides == wanted
        with torch.no_grad():
            maps = list(pyramid.eval()(torch.randn(1, 3, 64, 128)).values())
        assert [64 // y.shape[2] for y in maps[: len(wanted)]] == wanted
        generator = net.anchor_generator if first else net.rpn.anchor_generator
        assert len(generator.sizes) == len(maps) == len(pyramid.all_strides)
        scale = task.params["detector"]["anchor_scale"]
        assert [sizes[0] for sizes in generator.sizes] == [scale * s for s in pyramid.all_strides]


# ---- what it costs ------------------------------------------------------------------------------


def certain(net: Any) -> nn.Module:
    """The detector with as many regions and detections as there may be: none suppresses another."""
    if hasattr(net, "rpn"):
        net.rpn.nms_thresh = net.roi_heads.nms_thresh = 1.0
    return net.eval()


def counted(net: nn.Module, height: int, width: int) -> int:
    """The MACs of one image, run in earnest."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net([torch.rand(3, height, width)])
    return counter.get_total_flops() // 2


@pytest.mark.parametrize("kind", ["none", "eca"])
def test_the_cost_is_that_of_a_run(task: Component, body: Component, kind: str) -> None:
    """Exact parameters and MACs, found without looking at an image, are those of PyTorch's counter
    while an image of 64 x 102 is looked at.
    """
    config = Config.model_validate(
        {
            "name": "counted",
            "task": task.model_dump(),
            "dataset": {"name": "coco", "image_size": 64, "classes": 3},
            "backbone": body.model_dump(),
            "attention": {"name": kind},
            "training": {"epochs": 1, "optimizer": {"name": "sgd", "lr": 0.1}},
        }
    )
    net = certain(trainers.build(config))

    cost = trainers.measure(config)

    assert cost.params == sum(p.numel() for p in net.parameters())
    assert cost.macs == counted(net, 64, 102)


def test_sites_are_measured_at_the_rectangle(body: Component) -> None:
    """Each place that attention may stand at is known with the map of that image."""
    task = small("faster_rcnn")
    seen: dict[Site, tuple[int, ...]] = {}

    class Probe(nn.Module):
        def __init__(self, site: Site) -> None:
            super().__init__()
            self.site = site

        def forward(self, x: Tensor) -> Tensor:
            seen[self.site] = tuple(x.shape[1:])
            return x

    net = assemble(body, DATA, Probe, task).eval()
    with torch.no_grad():
        net([torch.rand(3, 64, 102)])

    places = skeleton(body, DATA, task).places
    assert {p.site: (p.site.channels, p.height, p.width) for p in places} == seen


@pytest.mark.parametrize("detector", variants.names("detector"))
def test_the_cost_is_that_of_torchvision_s(detector: str) -> None:
    """ResNet-50 in full: parameters and MACs of torchvision's own detector, whose region proposal
    network is told to keep 20 regions, and to suppress none, so that it has just as many.
    """
    own: dict[str, Any] = {"proposals": 20, "detections": 7} if detector != "retinanet" else {}
    own |= {"p6": "p5"} if detector == "retinanet" else {}
    task = Component(
        name=TASKS[detector], detector=catalogue.check("detector", {"name": detector, **own})
    )
    body = complete({"name": "resnet", "depth": 50})
    theirs = certain(published(detector, DATA.classes, 64, proposals=20, detections=7))

    cost = count(body, Attention(name="none"), DATA, task)

    assert cost.params == sum(p.numel() for p in theirs.parameters())
    assert cost.macs == counted(theirs, 64, 102)


# ---- torchvision's, at its weights --------------------------------------------------------------


def published(detector: str, classes: int, size: int, *, proposals: int, detections: int) -> Any:
    """The detector of torchvision, random weights on ResNet-50; norms that do not blow up."""
    names = {
        "faster_rcnn": "fasterrcnn_resnet50_fpn",
        "mask_rcnn": "maskrcnn_resnet50_fpn",
        "retinanet": "retinanet_resnet50_fpn",
    }
    given: dict[str, Any] = {"min_size": size, "max_size": 4 * size}
    if detector == "retinanet":
        given |= {"score_thresh": 0.0, "detections_per_img": detections}
    else:
        given |= {"rpn_pre_nms_top_n_test": proposals, "rpn_post_nms_top_n_test": proposals}
        given |= {"box_score_thresh": 0.0, "box_detections_per_img": detections}
    background = 0 if detector == "retinanet" else 1
    make = getattr(torchvision, names[detector])
    torch.manual_seed(1)
    net = make(
        weights=None, weights_backbone=None, num_classes=classes + background, **given
    ).eval()
    for norm in net.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.2, 0.4)
            nn.init.normal_(norm.bias, 0, 0.1)
            nn.init.normal_(norm.running_mean, 0, 0.1)
            nn.init.uniform_(norm.running_var, 0.8, 1.2)
    return net


@pytest.mark.parametrize("detector", variants.names("detector"))
def test_answers_are_torchvision_s(detector: str) -> None:
    """At shared weights, with ResNet-50 at width 1, the answers to an image are the same."""
    theirs = published(detector, 3, 96, proposals=30, detections=10)
    own = {"proposals": 30} if detector != "retinanet" else {"p6": "p5"}
    whole = {"name": detector, "detections": 10, "score_threshold": 0.0, **own}
    task = Component(name=TASKS[detector], detector=catalogue.check("detector", whole))
    ours = assemble(complete({"name": "resnet", "depth": 50}), DATA, plain, task).eval()
    rename = variants.module("backbone", "resnet").renamed
    there = "backbone.body."
    ours.load_state_dict(
        {
            rename(name.removeprefix(there)).replace("backbone.", there, 1)
            if name.startswith(there)
            else name: value
            for name, value in theirs.state_dict().items()
        }
    )
    image = torch.rand(3, 96, 140)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])

    with torch.no_grad():
        (wanted,) = theirs([image])
        (found,) = ours([(image - mean[:, None, None]) / std[:, None, None]])

    if detector == "retinanet":  # torchvision's counts from 0 here
        found["labels"] = found["labels"] - 1
    if "masks" in found:  # torchvision's are pasted into the image
        found["masks"] = paste_masks_in_image(found["masks"], found["boxes"], (96, 140))
    assert len(wanted["boxes"]) == 10
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        torch.testing.assert_close(found[key], value, rtol=1e-5, atol=1e-5)


# ---- how it starts ------------------------------------------------------------------------------


def config(detector: str, attention: str = "none", **body: Any) -> Config:
    task = small(detector)
    return Config.model_validate(
        {
            "name": "drawn",
            "task": task.model_dump(),
            "dataset": {"name": "coco", "image_size": 64},
            "backbone": {**BODIES["resnet"], **body},
            "attention": {"name": attention},
            "training": {"epochs": 1, "optimizer": {"name": "sgd", "lr": 0.1}},
        }
    )


@pytest.mark.parametrize("detector", variants.names("detector"))
def test_first_weights_hang_on_name_shape_and_seed_alone(detector: str) -> None:
    """With or without attention, on a deeper body too, heads and pyramid among them."""
    base = dict(trainers.build(config(detector), seed=3).named_parameters())
    for other in (config(detector, "se"), config(detector, depth=34)):
        there = dict(trainers.build(other, seed=3).named_parameters())
        shared = [name for name in base if name in there and base[name].shape == there[name].shape]
        assert len(shared) == len(base)
        assert all(base[name].equal(there[name]) for name in shared)
    fresh = dict(trainers.build(config(detector), seed=4).named_parameters())
    assert not any(fresh[n].equal(p) for n, p in base.items() if p.dim() > 1)


def test_heads_start_as_their_papers_say() -> None:
    """Small weights where anchors are judged, each an object with a probability of 0.01 at first
    in RetinaNet; torchvision's uniform ones in the pyramid.
    """
    rpn: Any = trainers.build(config("faster_rcnn"))
    retina: Any = trainers.build(config("retinanet"))

    for layer in (rpn.rpn.head.bbox_pred, retina.head.classification_head.cls_logits):
        # of 768 and more numbers a standard deviation is known to 3 %
        assert layer.weight.std().item() == pytest.approx(0.01, rel=0.1)
    bias = retina.head.classification_head.cls_logits.bias
    torch.testing.assert_close(bias.sigmoid(), torch.full_like(bias, 0.01))
    inner = rpn.backbone.fpn.inner_blocks[3][0].weight
    bound = (3 / inner[0].numel()) ** 0.5
    assert 0.9 * bound < inner.abs().max().item() <= bound


def test_the_stem_is_imagenet_s_whatever_the_size() -> None:
    """`stem: auto` is about the size of images, a detector's objects are small in any."""
    assert (
        '"stem": "imagenet"'
        in skeleton(complete(BODIES["resnet"]), DATA, small("retinanet")).structure
    )
    chosen = complete({**BODIES["resnet"], "stem": "cifar"})
    net: Any = assemble(chosen, DATA, plain, small("retinanet"))
    assert net.backbone.strides == [2, 4, 8]


# ---- what makes it another ----------------------------------------------------------------------


def test_identity_is_of_what_answers() -> None:
    """What shapes a detector's answers makes another network; what trains it does not, and is in
    the run key.
    """
    base = config("faster_rcnn")

    def changed(**own: Any) -> Config:
        detector = {**base.task.params["detector"], **own}
        return base.model_copy(update={"task": Component(name="detection", detector=detector)})

    for own in ({"proposals": 13}, {"channels": 8}, {"anchor_scale": 4.0}, {"detections": 6}):
        assert trainers.identity(changed(**own)) != trainers.identity(base)
    for own in ({"box_samples": 9}, {"train_proposals": 9}, {"norms": "trained"}):
        assert trainers.identity(changed(**own)) == trainers.identity(base)
        assert trainers.run_key(changed(**own), "images") != trainers.run_key(base, "images")
    other = base.model_copy(update={"task": small("retinanet")})
    assert trainers.identity(other) != trainers.identity(base)


# ---- what is frozen -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A classifier's weights, of a network without attention, as training leaves them."""
    net = assemble(complete({**BODIES["resnet"], "stem": "imagenet"}), Description(7, 3, 64), plain)
    for norm in net.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.running_var, 0.5, 2)
    path = str(tmp_path_factory.mktemp("weights") / "imagenet.pt")
    torch.save(net.state_dict(), path)
    return path


def frozen(file: str, attention: str = "none", **own: Any) -> Any:
    base = config("faster_rcnn", attention, pretrained=file)
    detector = {**base.task.params["detector"], **own}
    again = {**base.model_dump(mode="json"), "task": {"name": "detection", "detector": detector}}
    return trainers.build(Config.model_validate(again))


def held(net: Any) -> set[str]:
    """The parts of the body with a parameter that is not trained: stem, stages.0, ..."""
    free = {name for name, p in net.body.named_parameters() if p.requires_grad}
    names = {name for name, _ in net.body.named_parameters()} - free
    return {".".join(name.split(".")[: 1 + name.startswith("stages")]) for name in names}


def test_a_file_s_weights_are_in_the_body_and_frozen_as_in_the_paper(file: str) -> None:
    """Stem and first stage are not trained, no norm's statistics move, all else learns."""
    net = frozen(file)
    weights = torch.load(file)
    body = net.body.state_dict(prefix="backbone.")
    assert all(value.equal(weights[name]) for name, value in body.items())
    assert held(net) == {"stem", "stages.0"}

    learn(net, *SCENES)

    norms = [m for m in net.body.modules() if isinstance(m, nn.BatchNorm2d)]
    assert net.training
    assert not any(norm.training for norm in norms)
    assert all(value.equal(weights[name]) for name, value in body.items() if "running" in name)
    without = {name for name, p in net.named_parameters() if p.grad is None}
    assert without == {name for name, p in net.named_parameters() if not p.requires_grad}
    chosen_by = optimizer(net, config("faster_rcnn").training)
    chosen = {id(p) for group in chosen_by.param_groups for p in group["params"]}
    assert chosen == {id(p) for p in net.parameters() if p.requires_grad}


@pytest.mark.parametrize("body", ["resnet18", "mobilenet_v2"])
def test_a_published_classifier_is_a_detector_s_body(body: str, tmp_path: Path) -> None:
    """Its classifier, and MobileNetV2's last convolution, are left in the file without a word;
    another network's weights are refused, without building anything.
    """
    theirs = getattr(classifiers, body)()
    torch.save(theirs.state_dict(), tmp_path / "published.pth")
    name = {"resnet18": {"name": "resnet"}, "mobilenet_v2": {"name": "mobilenetv2"}}[body]
    whole = {"width": 1.0, "pretrained": str(tmp_path / "published.pth")}
    base = config("retinanet").model_dump(mode="json")
    depth = {"depth": 18} if body == "resnet18" else {}
    chosen = Config.model_validate({**base, "backbone": {**name, **depth, **whole}})

    assert pretrained.check(chosen) == []
    net: Any = trainers.build(chosen)

    x = torch.rand(1, 3, 64, 64)
    wanted = theirs.eval()
    if body == "resnet18":
        last = nn.Sequential(*list(wanted.children())[:-2])
    else:
        last = wanted.features[:-1]
    with torch.no_grad():
        torch.testing.assert_close(net.eval().body.maps(x)[-1], last(x))
    narrow = {**base, "backbone": {**name, **depth, **whole, "width": 0.5}}
    with pytest.raises(VariantError, match="weights of another network"):
        pretrained.check(Config.model_validate(narrow))


def test_other_ways_to_freeze(file: str) -> None:
    """torchvision's, whose norms are not trained at all; more stages; and nothing."""
    assert held(frozen(file, norms="frozen")) == {"stem", *(f"stages.{n}" for n in range(4))}
    assert held(frozen(file, frozen_stages=2)) == {"stem", "stages.0", "stages.1"}
    free = frozen(file, frozen_stages=0, norms="trained")
    assert held(free) == set()
    assert all(m.training for m in free.train().modules())
    early = frozen(file, norms="trained").train()
    assert not early.body.stem[1].training  # a frozen stage's statistics are frozen with it
    assert early.body.stages[1][0].bn1.training


def test_attention_that_the_file_lacks_is_never_frozen(file: str) -> None:
    """In a frozen stage too: a first random gate that never learns would be noise."""
    with pytest.warns(UserWarning, match="starts anew"):
        net = frozen(file, "se", frozen_stages=4, norms="frozen")
    free = {name for name, p in net.body.named_parameters() if p.requires_grad}
    assert free == {name for name, _ in net.body.named_parameters() if ".final." in name}


def test_nothing_is_frozen_without_a_file() -> None:
    """Everything learns from scratch, and to ask for less is refused with the place."""
    net: Any = trainers.build(config("faster_rcnn"))
    assert held(net) == set()
    assert all(module.training for module in net.train().modules())
    for own in ({"frozen_stages": 1}, {"norms": "frozen"}):
        base = config("faster_rcnn").model_dump(mode="json")
        base["task"]["detector"] |= own
        with pytest.raises(ValueError, match=f"task.detector.{next(iter(own))}: nothing to keep"):
            Config.model_validate(base)


OWN = '''
"""One convolution."""

from torch import nn

from trainers.backbones import Backbone


def backbone(attend, channels_in, image_size, *, channels: int = 8) -> Backbone:
    """It does not say its levels."""
    conv = nn.Conv2d(channels_in, channels, 3, 4, 1)
    return Backbone(nn.Identity(), [conv], channels, {"channels": channels})
'''


def test_misfits_are_blamed_on_their_place(tmp_path: Path, monkeypatch: Any) -> None:
    """More frozen stages than there are; a person's backbone that does not say its strides."""
    task = small("faster_rcnn", frozen_stages=5)
    with pytest.raises(VariantError, match=r"task.detector.frozen_stages: .* allowed: 0 to 4"):
        skeleton(complete(BODIES["resnet"]), DATA, task)
    monkeypatch.setattr(catalogue, "_plugins", {})
    (tmp_path / "single.py").write_text(OWN)
    catalogue.plug(tmp_path / "single.py")
    with pytest.raises(VariantError, match=r"backbone.name: .* `levels`"):
        skeleton(complete({"name": "single"}), DATA, small("faster_rcnn"))


OWN_DETECTOR = '''
"""Faster R-CNN without a second layer."""

from torch import nn

from trainers.detectors import faster_rcnn


def detector(body, classes, *, whole: bool = True) -> nn.Module:
    """As ours, of 16 channels, or no detector at all."""
    ours = faster_rcnn.detector(body, classes, channels=16, box_features=8, proposals=5)
    return ours if whole else nn.Identity()
'''


def test_people_bring_their_own(tmp_path: Path, monkeypatch: Any) -> None:
    """A plugin's detector goes with any task, is measured, and is part of the run key."""
    monkeypatch.setattr(catalogue, "_plugins", {})
    (tmp_path / "small_rcnn.py").write_text(OWN_DETECTOR)
    catalogue.plug(tmp_path / "small_rcnn.py")
    base = config("faster_rcnn").model_dump(mode="json")
    chosen = {**base, "task": {"name": "detection", "detector": "small_rcnn"}}
    point = Config.model_validate(chosen)

    net = trainers.build(point)

    assert trainers.measure(point).params == sum(p.numel() for p in net.parameters())
    assert "detector" in plugins(point)
    chosen["task"]["detector"] = {"name": "small_rcnn", "whole": False}
    with pytest.raises(VariantError, match=r"task.detector.name: .* no detector: .* passes"):
        trainers.measure(Config.model_validate(chosen))


def test_weights_are_portable_and_a_program_is_refused(tmp_path: Path) -> None:
    """A file of weights alone fills the same network; there is no program, and it is said why."""
    base = config("mask_rcnn")
    net, other = trainers.build(base, seed=1), trainers.build(base, seed=2)

    other.load_state_dict(safetensors.torch.load(portable.weights(net)))

    assert all(a.equal(b) for a, b in zip(net.parameters(), other.parameters(), strict=True))
    with pytest.raises(portable.NotPortable, match="how many boxes"):
        portable.program(net, base)


def test_latency_is_of_the_parts_that_are_counted() -> None:
    """As many regions as there may be, whatever the weights make of an image."""
    base = config("mask_rcnn")

    found = trainers.latency(base, device="cpu", batch_sizes=(1, 2), repeats=6, seconds=0.5)

    assert [latency.batch_size for latency in found] == [1, 2]
    assert all(latency.low <= latency.median <= latency.high for latency in found)


def test_a_detector_s_body_may_be_registered() -> None:
    """A plugin's `self.body = body` is a submodule, which `isinstance` and a protocol do not see
    from Python 3.12: they ask `inspect.getattr_static`.
    """

    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.structure: dict[str, Any] = {}
            self.first: dict[str, Any] = {}
            self.body = nn.Identity()

        def passes(self) -> list[Any]:
            return []

        def hold(self, loaded: Any) -> None: ...

    own = Own()
    with pytest.raises(AttributeError):
        inspect.getattr_static(own, "body")
    assert detects(own)
    del own.body
    assert not detects(own)
