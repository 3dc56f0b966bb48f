"""COCO's format: what is read of it, what training and judging see of it, what is refused."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools import mask as oracle

import trainers
from spaces.config import Config
from spaces.errors import VariantError
from trainers import data
from trainers.batches import open_batches
from trainers.datasets import DatasetError
from trainers.datasets.scenes import Scenes
from trainers.datasets.zipped import plain
from trainers.outlines import decoded, encoded, runs
from trainers.uneven import Scaling, grouped, scaled

Draw = Callable[..., Path]
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECA_SEARCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def root(draw: Draw, tmp_path: Path) -> Path:
    """Sixteen drawn images, two of them empty, and eight for the test part."""
    return draw(tmp_path / "drawn")


def config(root: Path, task: str = "instance_segmentation", **changed: Any) -> Config:
    """A detector for the three drawn categories."""
    recipe = {"epochs": 1, "batch_size": 4, "optimizer": {"name": "sgd", "lr": 0.01}}
    return Config.model_validate(
        {
            "name": "t",
            "task": {"name": task},
            "dataset": {"name": "coco", "root": str(root), "classes": 3, "image_size": 48}
            | {"workers": 0, "val": 0.3}
            | changed.pop("dataset", {}),
            "backbone": {"name": "resnet", "depth": 18, "width": 0.25},
            "training": recipe | changed,
        }
    )


def scenes(config: Config, part: data.Part = "train") -> Scenes:
    """The images of a part."""
    found = data.read(config.dataset, part)
    assert isinstance(found, Scenes)
    return found


def annotations(root: Path) -> dict[str, Any]:
    """What the file of the train part says."""
    told: dict[str, Any] = json.loads((root / "annotations/instances_train2017.json").read_text())
    return told


def rewritten(root: Path, told: Any) -> Path:
    """The folder with other annotations of the train part."""
    text = told if isinstance(told, str) else json.dumps(told)
    (root / "annotations/instances_train2017.json").write_text(text)
    return root


def test_labels_are_numbered_by_the_categories_ids(root: Path) -> None:
    """Ids 3, 5, 9 are labels 1, 2, 3, in whatever order the file has them; boxes are as written."""
    told, found = annotations(root), scenes(config(root))
    assert found.categories == ("kind 3", "kind 5", "kind 9")
    numbers = {3: 1, 5: 2, 9: 3}
    for place, number in enumerate(found.ids.tolist()):
        own = [each for each in told["annotations"] if each["image_id"] == number]
        rows = found.inside(place)
        assert found.objects.labels[rows].tolist() == [numbers[each["category_id"]] for each in own]
        assert found.objects.boxes[rows].tolist() == [each["bbox"] for each in own]
        assert found.objects.areas[rows].tolist() == [each["area"] for each in own]
        assert [found.objects.outlines.one(row) for row in range(rows.start, rows.stop)] == [
            each["segmentation"] for each in own
        ]


def test_images_without_objects_are_not_taught(root: Path) -> None:
    """Two of sixteen are left out; of the test part, on which papers report, none is."""
    whole = config(root)
    assert len(scenes(whole).paths) == 14
    assert len(scenes(whole, "test").paths) == 8
    told = annotations(root)
    for each in told["annotations"]:
        if each["image_id"] == 17:
            each["bbox"][2] = 1  # not wider than a pixel: torchvision's reference leaves it out
    assert 17 not in scenes(config(rewritten(root, told))).ids
    assert len(scenes(config(root)).paths) == 13


def test_crowds_and_empty_boxes_are_not_taught(root: Path) -> None:
    """The judge knows of them all the same."""
    told = annotations(root)
    flat = {**told["annotations"][1], "id": 99, "bbox": [5, 5, 0, 9]}
    outside = {**flat, "id": 100, "bbox": [500, 5, 9, 9]}
    told["annotations"] += [flat, outside]
    found = scenes(config(rewritten(root, told)))
    index = np.arange(len(found.paths))
    taught = Scaling(found, index, 60, [False] * len(index), masks=True)
    judged = Scaling(found, index, 60, None, masks=True)
    owners = [each["image_id"] for each in told["annotations"]]
    for place, number in enumerate(found.ids.tolist()):
        known = judged[place][1]["known"]
        assert len(known["objects"]) == owners.count(number)
        left_out = {7: 1, flat["image_id"]: 2}.get(number, 0)
        target = taught[place][1]
        assert len(target["boxes"]) == len(target["labels"]) == len(target["masks"])
        assert len(target["boxes"]) == owners.count(number) - left_out
        assert sum(each["iscrowd"] for each in known["objects"]) == (number == 7)


def test_a_sliver_that_a_mirror_rounds_away_is_not_taught(root: Path) -> None:
    """A millionth of a pixel at the left edge is none at the right one in float32: no empty box."""
    told = annotations(root)
    sliver = {**told["annotations"][1], "id": 99, "iscrowd": 0, "bbox": [-5, 9, 5.000001, 20]}
    told["annotations"].append(sliver)
    found = scenes(config(rewritten(root, told)))
    place = found.ids.tolist().index(sliver["image_id"])
    counts = []
    for flip in (False, True):
        flips = [flip] * len(found.paths)
        target = Scaling(found, np.arange(len(flips)), 48, flips, masks=True)[place][1]
        assert (target["boxes"][:, 2:] > target["boxes"][:, :2]).all()
        assert len(target["boxes"]) == len(target["labels"]) == len(target["masks"])
        counts.append(len(target["boxes"]))
    assert counts[0] - counts[1] == 1


@pytest.mark.parametrize("flip", [False, True])
def test_boxes_and_masks_move_with_the_pixels(root: Path, flip: bool) -> None:
    """Scaled to 90 pixels from 60: every object's colour lies where its box and its mask are."""
    found = scenes(config(root))
    index = np.arange(len(found.paths))
    colours = {1: (30, 200, 30), 2: (40, 40, 220), 3: (220, 30, 30)}
    for place in range(len(index)):
        pixels, target = Scaling(found, index, 90, [flip] * len(index), masks=True)[place]
        assert pixels.shape[:2] == target["masks"].shape[1:] == scaled(*found.sizes[place], 90)
        last = len(target["labels"]) - 1  # the one drawn over the others
        if last < 0:
            continue
        mask = target["masks"][last].bool()
        rows, columns = torch.nonzero(mask, as_tuple=True)
        box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert [float(x) for x in box] == pytest.approx(target["boxes"][last].tolist(), abs=1)
        colour = torch.tensor(colours[int(target["labels"][last])])
        inside = pixels[mask].float().median(0).values
        torch.testing.assert_close(inside, colour.float(), atol=3, rtol=0)


def test_the_shorter_side_is_the_size(root: Path) -> None:
    """Unless the longer one would be more than 5/3 of it, as papers have 800 and 1333."""
    assert scaled(480, 640, 800) == (800, 1067)
    assert scaled(640, 480, 800) == (1067, 800)
    assert scaled(300, 1000, 800) == (400, 1333)
    training, judging = open_batches(config(root), CPU)
    for images, _ in [*training.shuffled(0, 1), *judging.ordered()]:
        assert all(min(image.shape[1:]) == 48 for image in images)


def test_outlines_are_masks_as_pycocotools_makes_them(data: Path) -> None:
    """All of coco-tiny, polygons and crowds, pixel for pixel; and there and back again."""
    archive = data / "coco-tiny/coco-tiny.zip"
    with zipfile.ZipFile(archive) as opened:
        told = json.loads(opened.read("annotations/instances_val2017.json"))
    sizes = {image["id"]: (image["height"], image["width"]) for image in told["images"]}
    for each in told["annotations"]:
        height, width = sizes[each["image_id"]]
        theirs = oracle.frPyObjects(each["segmentation"], height, width)
        if isinstance(theirs, list):
            theirs = oracle.merge(theirs)
        ours = runs(each["segmentation"], height, width)
        mask = decoded([ours], height, width)
        assert np.array_equal(mask[0], oracle.decode(theirs))
        assert encoded(mask) == [{"size": [height, width], "counts": theirs["counts"]}]


def looked_through(config: Config) -> None:
    """Take every training image into hand."""
    training, judging = open_batches(config, CPU)
    list(judging.ordered())
    for epoch in (1, 2, 3):  # a partial batch waits for the next
        list(training.shuffled(0, epoch))


BAD_OUTLINES = {
    "text": "nonsense",
    "numbers": [1, 2, 3],
    "odd": [[1, 2, 3, 4, 5, 6, 7]],
    "of another size": {"size": [5, 5], "counts": [25]},
    "too short": {"size": [60, 80], "counts": [25]},
    "negative": {"size": [60, 80], "counts": [-1, 4801]},
    "halves": {"size": [60, 80], "counts": [2400.5, 2399.5]},
    "cut off": {"size": [60, 80], "counts": "PPPPPPPP"},
    "a number": {"size": [60, 80], "counts": 5},
    "endless": [[10**400, 2, 3, 4, 5, 6]],
}


@pytest.mark.parametrize("outline", BAD_OUTLINES.values(), ids=BAD_OUTLINES.keys())
def test_a_bad_outline_is_an_error_of_one_line(root: Path, outline: Any) -> None:
    """With the image that it is in, where outlines are asked for; a detector does not need it."""
    told = annotations(root)
    told["annotations"][0] |= {"segmentation": outline, "iscrowd": 0}
    rewritten(root, told)
    open_batches(config(root, "detection"), CPU)
    everything = config(root, dataset={"workers": 2 * isinstance(outline, str)})
    with pytest.raises(
        DatasetError, match=r"dataset\.root: an object in 0{12}\.png has no outline"
    ):
        looked_through(everything)


def test_groups_are_of_one_kind() -> None:
    """As many batches as without groups, each of one kind but for the last, no image twice."""
    order = torch.randperm(103, generator=torch.Generator().manual_seed(0))
    wide = [place % 3 > 0 for place in range(103)]
    batches = grouped(order, wide, 8)
    assert [len(batch) for batch in batches] == [8] * (103 // 8)
    assert len(set(torch.cat(batches).tolist())) == 8 * len(batches)
    for batch in batches[:-1]:
        assert len({wide[place] for place in batch.tolist()}) == 1
    assert all(torch.equal(*both) for both in zip(batches, grouped(order, wide, 8), strict=True))
    assert len(grouped(order, [True] * 103, 8)) == 12
    assert grouped(order[:7], wide, 8) == []


def same(one: Any, other: Any) -> bool:
    """Equal images and targets, to the bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def test_it_does_not_matter_how_many_decode(root: Path) -> None:
    """No worker or three: the same batches, and the rest of an epoch after some of it."""
    recipe = {"augmentation": {"flip": True}}
    seen = []
    for workers in (0, 3):
        training, judging = open_batches(config(root, dataset={"workers": workers}, **recipe), CPU)
        seen.append([list(training.shuffled(3, 1)), list(judging.ordered())])
    assert same(*seen)
    (first, second), _ = seen[0]
    assert same([second], list(training.shuffled(3, 1, 1)))
    assert not same([first, second], list(training.shuffled(3, 2)))
    assert not same([first, second], list(training.shuffled(4, 1)))


def test_every_image_judges_once_by_itself(root: Path) -> None:
    """One at a time, with its id and its size on disk; the test part where that judges."""
    for sources in ((), data.sources(config(root).dataset, "test")):
        training, judging = open_batches(config(root), CPU, sources)
        batches = list(judging.ordered())
        assert all(len(images) == len(targets) == 1 for images, targets in batches)
        known = {targets[0]["known"]["id"] for _, targets in batches}
        assert len(known) == len(batches) == judging.count == (8 if sources else 4)
        assert training.count == (14 if sources else 10)


def test_a_zip_is_unpacked_once(root: Path, tmp_path: Path) -> None:
    """The same images under the same digest, wherever; members that point elsewhere are not."""
    inside = tmp_path / "zipped"
    inside.mkdir()
    with zipfile.ZipFile(inside / "drawn.zip", "w") as made:
        for file in sorted(root.rglob("*.*")):
            made.write(file, file.relative_to(root))
        made.writestr("../outside.png", b"no")
        made.writestr("annotations/../../outside.png", b"no")
    first, again = (scenes(config(inside)) for _ in range(2))
    assert first.manifest == again.manifest == scenes(config(root)).manifest
    assert first.paths[0].is_relative_to(tmp_path / "cache")
    assert not list(tmp_path.rglob("outside.png"))
    assert scenes(config(inside / "drawn.zip")).manifest == first.manifest
    (inside / "drawn.zip").write_bytes((inside / "drawn.zip").read_bytes()[:-200])
    with pytest.raises(DatasetError, match=r"^dataset\.root: .*drawn\.zip cannot be unpacked"):
        scenes(config(inside))


def zipped(root: Path, file: Path, how: int) -> list[zipfile.ZipInfo]:
    """A zip of the folder."""
    with zipfile.ZipFile(file, "w", how) as made:
        for each in sorted(root.rglob("*.*")):
            made.write(each, each.relative_to(root))
        return made.infolist()


@pytest.mark.parametrize("how", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_a_damaged_zip_is_one_line(root: Path, tmp_path: Path, how: int) -> None:
    """Also where it is the packed bytes that cannot be read."""
    file = tmp_path / "drawn.zip"
    member = max(zipped(root, file, how), key=lambda each: each.compress_size)
    raw = bytearray(file.read_bytes())
    start = member.header_offset + 30 + len(member.filename) + 9 * (how == zipfile.ZIP_LZMA)
    raw[start : start + 40] = b"\xff" * 40
    file.write_bytes(raw)
    with pytest.raises(DatasetError, match=r"^dataset\.root: .*drawn\.zip cannot be unpacked"):
        scenes(config(file))


def test_any_plain_name_is_unpacked(root: Path, tmp_path: Path) -> None:
    """Spaces and letters of any language; what a killed process left beside it is removed."""
    told = annotations(root)
    names = [f"Bild {place} ü Straße.png" for place in range(len(told["images"]))]
    for image, name in zip(told["images"], names, strict=True):
        (root / "train2017" / image["file_name"]).rename(root / "train2017" / name)
        image["file_name"] = name
    rewritten(root, told)
    zipped(root, tmp_path / "drawn.zip", zipfile.ZIP_STORED)
    found = scenes(config(tmp_path / "drawn.zip"))
    assert {path.name for path in found.paths} <= set(names)
    folder = found.paths[0].parent.parent
    left = folder.with_name(f".{folder.name}.0123")
    folder.rename(left)
    assert scenes(config(tmp_path / "drawn.zip")).paths == found.paths
    assert not left.exists()


@pytest.mark.parametrize("name", ["../a", "a/../b", "/a", "a//b", ".a", "a/.b", "a\\b", ""])
def test_names_that_are_not_plain(name: str) -> None:
    """None of them is unpacked."""
    assert not plain(name)


def test_the_digest_tells_the_data(root: Path, tmp_path: Path) -> None:
    """It goes along where the folder is moved; other annotations or another image are others."""
    first = data.digest(config(root).dataset)
    moved = Path(shutil.copytree(root, tmp_path / "moved"))
    layout = {"annotations": "said/{part}.json", "images": "shown/{part}"}
    (moved / "said").mkdir()
    (moved / "shown").mkdir()
    for part in ("train", "val"):
        (moved / f"annotations/instances_{part}2017.json").rename(moved / f"said/{part}.json")
        (moved / f"{part}2017").rename(moved / f"shown/{part}")
    there = config(moved, dataset=layout)
    assert data.digest(there.dataset) == first
    assert trainers.run_key(there, first) == trainers.run_key(config(root), first)
    told = annotations(root)
    told["annotations"][3]["bbox"][0] += 1
    assert data.digest(config(rewritten(root, told)).dataset) != first
    next((moved / "shown/train").iterdir()).write_bytes(b"changed")
    assert data.digest(there.dataset) != first


def test_a_nodes_own_copy_is_read(root: Path, tmp_path: Path) -> None:
    """With `cache` each image that is needed is read from there, and is the right one."""
    far = open_batches(config(root), CPU)[1]
    near = open_batches(config(root, dataset={"cache": str(tmp_path / "disk")}), CPU)[1]
    assert all(path.is_relative_to(tmp_path / "disk") for path in near.scenes.paths)  # type: ignore[attr-defined]
    assert same(list(far.ordered()), list(near.ordered()))


def changed(**lists: Any) -> Callable[[dict[str, Any]], Any]:
    """Annotations with other lists."""
    return lambda told: {**told, **lists}


def first(name: str, **fields: Any) -> Callable[[dict[str, Any]], Any]:
    """Annotations whose first entry of a list says something else."""
    return lambda told: {**told, name: [{**told[name][0], **fields}, *told[name][1:]]}


WRONG: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "no JSON": (lambda told: json.dumps(told)[:-9], r"dataset\.root: .* is no JSON"),
    "no object": (lambda told: [told], r"no annotations as COCO's: no list of categories"),
    "no images": (changed(images=None), r"no list of images"),
    "text for images": (changed(images=["a"]), r"no list of images"),
    "no categories": (changed(categories=[]), r"dataset\.classes: .* 0 categories \(got 3\)"),
    "unknown category": (
        first("annotations", category_id=4),
        r"annotations\[0\] is of category 4, which is none of its categories",
    ),
    "unknown image": (
        first("annotations", image_id=8),
        r"annotations\[0\] is of image 8, which is none of its images",
    ),
    "missing file": (first("images", file_name="no.png"), r"image 'no\.png' is not in the folder"),
    "path elsewhere": (first("images", file_name="../x.png"), r"'\.\./x\.png' is not in the fol"),
    "one id twice": (first("images", id=17), r"two images have one id"),
    "no name": (first("images", file_name=7), r"images\[0\] has no file_name.*\(got 7\)"),
    "endless id": (first("images", id=2**70), r"images\[0\] has no id, .*\(got 11805"),
    "endless height": (first("images", height=2**63), r"images\[0\] has no height, .*\(got 922"),
    "endless category": (first("categories", id=-(2**70)), r"categories\[0\] has no id"),
    "crowd of text": (
        first("annotations", iscrowd="0"),
        r'annotations\[0\] has a wrong iscrowd \(got "0"; allowed 0, 1\)',
    ),
    "area below": (
        first("annotations", area=-1),
        r"annotations\[0\] has an area that is never judged \(got -1; allowed 0\.\.1e\+10\)",
    ),
    "area above": (first("annotations", area=1.1e10), r"\(got 1\.1e\+10; allowed 0\.\."),
    "no height": (first("images", height=0), r"an image has no height or no width"),
    "box of three": (
        first("annotations", bbox=[1, 2, 3]),
        r"annotations\[0\] has no bbox of 4 num",
    ),
    "box of text": (
        first("annotations", bbox=[1, 2, 3, "x"]),
        r"annotations\[0\] has no bbox of 4",
    ),
    "endless box": (
        first("annotations", bbox=[1, 2, 3, 1e999]),
        r"annotations\[0\] has no bbox of 4",
    ),
    "area of text": (first("annotations", area="x"), r"annotations\[0\] has no area of 1 num"),
    "no objects": (changed(annotations=[]), r"has no image with an object in it"),
}


@pytest.mark.parametrize(("change", "said"), WRONG.values(), ids=WRONG.keys())
def test_wrong_annotations_are_one_line(
    root: Path, change: Callable[[dict[str, Any]], Any], said: str
) -> None:
    """Which begins with the key and names the file."""
    rewritten(root, change(annotations(root)))
    with pytest.raises(DatasetError, match=said) as raised:
        trainers.fits(config(root))
    assert "\n" not in str(raised.value)
    assert "instances_train2017.json" in str(raised.value)
    assert str(raised.value).startswith("dataset.")


def test_missing_parts_are_short_errors(root: Path, tmp_path: Path) -> None:
    """No folder of images; an image that is another than its annotations say, or none at all."""
    image = root / "train2017" / f"{0:012}.png"
    image.write_bytes((root / "train2017" / f"{1:012}.png").read_bytes())
    with pytest.raises(DatasetError, match="is 80 high and 60 wide, its annotations say 60 and 80"):
        looked_through(config(root))
    image.write_bytes(b"no image")
    with pytest.raises(DatasetError, match="cannot be decoded"):
        looked_through(config(root))
    shutil.rmtree(root / "train2017")
    with pytest.raises(DatasetError, match=r"is there, no image .*train2017/\*"):
        trainers.fits(config(root))
    with pytest.raises(DatasetError, match=r"dataset\.root: no coco data; looked in"):
        trainers.fits(config(tmp_path / "nowhere"))
    (tmp_path / "bare" / "train2017").mkdir(parents=True)
    with pytest.raises(DatasetError, match=r"train2017 is there, but no .*train2017\.json"):
        trainers.fits(config(tmp_path / "bare"))


def test_the_parts_have_annotations_of_their_own(root: Path) -> None:
    """A file for both would have `confirm` judge by what was trained on; folders may be one."""
    one = {"annotations": "annotations/instances_train2017.json"}
    with pytest.raises(ValueError, match=r"annotations: not allowed here.*part"):
        config(root, dataset=one)
    assert config(root, dataset={"images": "all"}).dataset.params["images"] == "all"
    named = {"annotations": "{part}.json", "images": "photographs"}
    with pytest.raises(DatasetError, match=r"for \{part\}\.json and photographs/"):
        trainers.fits(config(root, dataset=named))


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "crop": (
        {"augmentation": {"crop": 4}},
        "training.augmentation.crop: detection sees whole images (got 4; allowed 0)",
    ),
    "cutout": (
        {"augmentation": {"cutout": 8}},
        "training.augmentation.cutout: detection sees whole images (got 8; allowed 0)",
    ),
    "label smoothing": (
        {"label_smoothing": 0.1},
        "training.label_smoothing: detectors have none (got 0.1; allowed 0)",
    ),
}


@pytest.mark.parametrize(("recipe", "said"), REFUSED.values(), ids=REFUSED.keys())
def test_what_detectors_cannot_have_is_refused(
    root: Path, recipe: dict[str, Any], said: str
) -> None:
    """Before any data are looked at, and with them."""
    refused = config(root, "detection", **recipe)
    for check in (trainers.foresee, trainers.fits, lambda config: next(trainers.train(config))):
        with pytest.raises(VariantError) as raised:
            check(refused)
        assert str(raised.value) == said


PAIRS = {
    "detection": ({"name": "digits"}, "boxes", r"labels \(allowed: classification\)"),
    "instance_segmentation": ({"name": "cifar10"}, "masks", r"labels \(allowed: classification\)"),
    "classification": ({"name": "coco"}, "labels", r"boxes, masks \(allowed: detection, inst"),
}


@pytest.mark.parametrize("task", PAIRS)
def test_a_task_that_the_data_do_not_teach_is_refused(task: str) -> None:
    """With the tasks that would do, when a config is made, whether the data are there or not."""
    dataset, asked, told = PAIRS[task]
    whole = config(Path("/nowhere"), "detection").model_dump(mode="json")
    said = rf"task\.name: {task} asks for {asked}, and {dataset['name']} has {told}"
    with pytest.raises(ValueError, match=said):
        Config.model_validate(whole | {"task": {"name": task}, "dataset": dataset})


def test_objects_without_outlines_are_boxes_alone(root: Path) -> None:
    """Instance segmentation refuses them before it trains; detection does not mind."""
    told = annotations(root)
    for each in told["annotations"][2:]:
        del each["segmentation"]
    rewritten(root, told)
    trainers.fits(config(root, "detection"))
    with pytest.raises(DatasetError, match=r"objects have no outline, the first of them in 0+1\."):
        trainers.fits(config(root))


def test_images_that_judge_hold_an_object(root: Path) -> None:
    """Of which a single crowd is none: no average precision is defined."""
    told = annotations(root)
    for each in told["annotations"]:
        each["iscrowd"] = 1
    with pytest.raises(VariantError, match=r"dataset\.val: no object in the 4 images that judge"):
        trainers.fits(config(rewritten(root, told), "detection"))


def test_a_test_part_without_objects_is_the_datas_fault(root: Path) -> None:
    """No other share of validation could help."""
    file = root / "annotations/instances_val2017.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "annotations": []}))
    whole = config(root, "detection")
    for check in (
        lambda: trainers.fits(whole, "test"),
        lambda: open_batches(whole, CPU, data.sources(whole.dataset, "test")),
    ):
        with pytest.raises(DatasetError, match=r"^dataset\.root: no object in the 8 images that j"):
            check()


def test_the_test_part_has_the_same_categories(root: Path) -> None:
    """Otherwise its labels would mean something else."""
    file = root / "annotations/instances_val2017.json"
    told = json.loads(file.read_text())
    told["categories"][0]["name"] = "another"
    file.write_text(json.dumps(told))
    trainers.fits(config(root, "detection"))
    with pytest.raises(DatasetError, match="the test part has other categories"):
        trainers.fits(config(root, "detection"), "test")
