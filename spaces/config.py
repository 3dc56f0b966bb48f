"""Config: one point of a space, everything but the search. What each key means, with units."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from spaces import catalogue, writer
from spaces.errors import VariantError, listed, nearest, shown
from spaces.fit import misfits, targets, widths
from spaces.site import POSITIONS

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,79}")
RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?")


class Strict(BaseModel):
    """Frozen; unknown keys, silent conversions, NaN and infinity are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def _file(path: str) -> str:
    if not path.strip() or "://" in path or "\0" in path:
        raise ValueError("the path of a file on a disk that every worker sees")
    return path


class Component(Strict):
    """A variant by name, beside it the parameters of its own (``params``).

    As part of a Config it is completed with the variant's defaults, so that what means the same
    is equal.
    """

    model_config = ConfigDict(frozen=True, extra="allow", strict=True, allow_inf_nan=False)

    name: str

    @property
    def params(self) -> dict[str, Any]:
        """The variant's own parameters."""
        return dict(self.__pydantic_extra__ or {})


class Attention(Component):
    """Which module, where in a block, in which blocks, and with which kernel size.

    ``position`` and ``placement`` are None for ``{name: none}``; ``mapping`` is None for an
    attention without kernel_size.
    """

    position: Literal["final", "mid", "pre", "post", "shortcut"] | None = None
    placement: Component | None = None
    mapping: Component | None = None


class Backbone(Component):
    """The network around the attention.

    ``pretrained`` is a file of weights to start from, PyTorch's or safetensors'; every worker reads
    it at this path.
    """

    pretrained: Annotated[str, AfterValidator(_file)] | None = None


class Dataset(Component):
    """The images. ``val`` is the share of the training images that validation takes.

    ``root`` is the folder they lie in, ``split_seed`` draws the validation images, ``subset``
    keeps that many of the training images, ``image_size`` is in pixels (null: the dataset's own).
    """

    root: str | None = None
    split_seed: int = Field(default=0, ge=0, lt=2**32)
    val: float = Field(default=0.1, gt=0, lt=1)
    subset: int | None = Field(default=None, ge=10, le=100_000_000)
    image_size: int | None = Field(default=None, ge=4, le=4096)


class SGD(Strict):
    """Stochastic gradient descent; the weight decay is that of He et al. (2016) and ECA-Net."""

    name: Literal["sgd"]
    lr: float = Field(gt=0, le=100)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = False
    weight_decay: float = Field(default=1e-4, ge=0, le=1)


class AdamW(Strict):
    """Adam with decoupled weight decay, with the defaults of torch."""

    name: Literal["adamw"]
    lr: float = Field(gt=0, le=100)
    weight_decay: float = Field(default=0.01, ge=0, le=1)


class Cosine(Strict):
    """From lr to 0 along half a cosine, after a linear warm-up."""

    name: Literal["cosine"] = "cosine"
    warmup_epochs: int = Field(default=0, ge=0)


class Step(Strict):
    """lr times ``gamma`` after every ``step_size`` epochs, after a linear warm-up."""

    name: Literal["step"]
    step_size: int = Field(default=30, ge=1)
    gamma: float = Field(default=0.1, gt=0, le=1)
    warmup_epochs: int = Field(default=0, ge=0)


class Milestones(Strict):
    """lr times ``gamma`` after each of these epochs, after a linear warm-up.

    The warm-up is in steps, as MMDetection has it for detectors (500 of them).
    """

    name: Literal["milestones"]
    epochs: list[Annotated[int, Field(ge=1)]] = Field(min_length=1, max_length=32)
    gamma: float = Field(default=0.1, gt=0, le=1)
    warmup_steps: int = Field(default=0, ge=0, le=1_000_000)

    @model_validator(mode="after")
    def _in_order(self) -> Milestones:
        if any(a >= b for a, b in pairwise(self.epochs)):
            said = (
                f"not in order (got {shown(self.epochs)}; allowed: each later than the one before)"
            )
            raise VariantError(("epochs", said))
        return self


class OneCycle(Strict):
    """Up to lr over the first ``pct_start`` of training, then down (Smith and Topin 2018).

    It starts at lr / ``div_factor`` and ends at that divided by ``final_div_factor``.
    """

    name: Literal["one_cycle"]
    pct_start: float = Field(default=0.3, gt=0, lt=1)
    div_factor: float = Field(default=25.0, ge=1)
    final_div_factor: float = Field(default=1e4, ge=1)


class Constant(Strict):
    """lr throughout, after a linear warm-up."""

    name: Literal["constant"]
    warmup_epochs: int = Field(default=0, ge=0)


class Augmentation(Strict):
    """What training does to images; sizes in pixels, 0 and false for nothing.

    ``flip`` mirrors half of them, ``crop`` pads by so many pixels and cuts the size out again,
    ``cutout`` blanks a square of that side.
    """

    flip: bool = False
    crop: int = Field(default=0, ge=0, le=512)
    cutout: int = Field(default=0, ge=0, le=4096)


class Training(Strict):
    """The recipe. ``ema`` is the decay of averaged weights, ``grad_clip`` the largest norm.

    ``accumulate`` cuts each batch into so many parts whose gradients add up to the whole batch's:
    less memory for the same step. Batch norm takes its mean and variance of one part at a time, so
    where a network has it the parts are another recipe, as smaller batches are.

    ``compile`` has PyTorch compile the backbone's blocks in training. It is meant for GPUs: on a
    CPU a small network's steps take longer by it. Each kind of block takes some 10 seconds at
    first, later trials of a node find it there. Needed are a C++ compiler, for a GPU Triton and a
    C compiler. Sums are in another order, so eager and compiled trainings differ in the last digits
    and have run keys of their own.
    """

    epochs: int = Field(ge=1, le=100_000)
    batch_size: int = Field(default=128, ge=2, le=65_536)
    accumulate: int = Field(default=1, ge=1, le=32_768)
    optimizer: Annotated[SGD | AdamW, Field(discriminator="name")]
    schedule: Annotated[
        Cosine | Step | Milestones | OneCycle | Constant, Field(discriminator="name")
    ] = Cosine()
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    augmentation: Augmentation = Augmentation()
    precision: Literal["float32", "bf16", "fp16"] = "float32"
    ema: float | None = Field(default=None, gt=0, lt=1)
    grad_clip: float | None = Field(default=None, gt=0)
    compile: bool = False

    @model_validator(mode="after")
    def _parts_have_two(self) -> Training:
        if 2 * self.accumulate > self.batch_size:
            most = self.batch_size // 2
            said = f"a part has less than 2 images (got {self.accumulate}; allowed: 1 to {most})"
            raise VariantError(("accumulate", said))
        return self

    @model_validator(mode="after")
    def _warms_up_in_time(self) -> Training:
        last = getattr(self.schedule, "epochs", [0])[-1]
        if last >= self.epochs:
            allowed = f"less than epochs, {self.epochs}, or schedule: {{name: cosine}}"
            said = f"never reached (got {last}; allowed: {allowed})"
            raise VariantError(("schedule.epochs", said))
        warmup = getattr(self.schedule, "warmup_epochs", 0)
        if warmup >= self.epochs:
            raise VariantError(
                (
                    "schedule.warmup_epochs",
                    f"out of range (got {warmup}; allowed: less than epochs, {self.epochs})",
                )
            )
        return self


def _named(name: str) -> str:
    if not NAME.fullmatch(name):
        raise ValueError("a-z 0-9 . _ -, at most 80 of them, the first a letter or digit")
    if ".." in name or name.endswith(".") or RESERVED.fullmatch(name):
        raise ValueError("a name that is a folder's on every system: no .., no final dot, no con")
    return name


def _under(key: str, kind: str, params: dict[str, Any]) -> dict[str, Any]:
    """catalogue.check with ``key`` before the keys of its errors."""
    try:
        return catalogue.check(kind, params)
    except VariantError as error:
        raise VariantError(*((f"{key}.{at}", said) for at, said in error.problems)) from None


def _task(component: Component) -> Component:
    head = catalogue.HEAD
    heads = catalogue.heads(component.name) if component.name in catalogue.names("task") else []
    own = {key: value for key, value in component.model_dump().items() if key != head or not heads}
    update = catalogue.check("task", own)
    if heads:
        update[head] = _detector(component.name, component.params.get(head), heads)
    return component.model_copy(update=update)


def _detector(task: str, given: Any, heads: Sequence[str]) -> dict[str, Any]:
    """The detector of a task with all its parameters: written as a name, or as a component."""
    key = catalogue.HEAD
    component = given if isinstance(given, dict) else {"name": heads[0] if given is None else given}
    name = component.get("name")
    if name not in heads:
        at = f"{key}.name" if isinstance(given, dict) and "name" in given else key
        near = nearest(name, heads)
        said = f"{task} has no such detector{near} (got {shown(name)}; allowed: {listed(heads)})"
        raise VariantError((at, said))
    return _under(key, "detector", component)


def _backbone(backbone: Backbone) -> Backbone:
    found = widths(backbone.params.get("width"))
    try:
        completed = catalogue.check("backbone", {"name": backbone.name, **backbone.params})
    except VariantError as error:
        known = "width" if found else ""  # said already, with the bounds
        found += [(at, said) for at, said in error.problems if at.split(".")[0] != known]
        completed = {}
    if found:
        raise VariantError(*found)
    return backbone.model_copy(update=completed)


def _dataset(dataset: Dataset) -> Dataset:
    own = {"name": dataset.name, **dataset.params}
    return dataset.model_copy(update=catalogue.check("dataset", own))


def _attention(attention: Attention) -> Attention:
    update = catalogue.check("attention", {"name": attention.name, **attention.params})
    if attention.name == "none":
        given = [key for key in ("position", "placement", "mapping") if getattr(attention, key)]
        if given:
            raise VariantError(*((key, "name: none takes no such key") for key in given))
        return attention
    update["position"] = attention.position or POSITIONS[0]
    placement = attention.placement or Component(name="everywhere")
    where = _under("placement", "placement", placement.model_dump())
    if where["name"] in ("stages", "blocks"):  # sets, both of them; a plugin's list has an order
        where[where["name"]] = sorted(where[where["name"]])
    update["placement"] = Component(**where)
    if catalogue.accepts("attention", attention.name, "kernel_size"):
        mapping = attention.mapping or Component(name="log2")
        update["mapping"] = Component(**_under("mapping", "mapping", mapping.model_dump()))
    elif attention.mapping:
        raise VariantError(("mapping", f"{attention.name} has no kernel size to map to"))
    return attention.model_copy(update=update)


class Config(Strict):
    """One network and how it is trained: a space with every hole filled.

    ``model_dump(mode="json")`` and ``model_validate`` are inverse to each other.
    """

    name: Annotated[str, AfterValidator(_named)]
    task: Annotated[Component, AfterValidator(_task)] = Field(
        default=Component(name="classification"), validate_default=True
    )
    dataset: Annotated[Dataset, AfterValidator(_dataset)]
    backbone: Annotated[Backbone, AfterValidator(_backbone)]
    attention: Annotated[Attention, AfterValidator(_attention)] = Field(
        default=Attention(name="none"), validate_default=True
    )
    training: Training

    @model_validator(mode="after")
    def _parts_fit(self) -> Config:
        found = misfits(
            self.backbone.model_dump(), self.attention.model_dump(), self.task.model_dump()
        )
        found += targets(self.task.name, self.dataset.name)
        if found:
            raise VariantError(*found)
        return self

    def plain(self) -> dict[str, Any]:
        """The config as a space file writes it: attention that stands nowhere is none."""
        written: dict[str, Any] = self.model_dump(mode="json")
        placement = written["attention"].get("placement") or {}
        if [] in (placement.get("stages"), placement.get("blocks")):
            written["attention"] = {"name": "none"}
        return written

    def to_yaml(self) -> str:
        """A space file without holes: this one network."""
        return writer.dump(self.plain())
