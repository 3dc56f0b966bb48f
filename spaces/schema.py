"""JSON Schema of a space file, for editors: made from the models and signatures that check it."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel

from spaces import catalogue
from spaces.arms import NAME as ARM
from spaces.config import NAME, Attention, Backbone, Dataset, Training
from spaces.objectives import everywhere
from spaces.settings import Search

Schema = dict[str, Any]
DRAFT = "http://json-schema.org/draft-07/schema#"
DEFINITIONS = "#/definitions/"
ARMS: Schema = {
    "description": "A comparison: each arm by its name, with the keys that it replaces. Every hole "
    "but the blocks takes its default.",
    "type": "object",
    "minProperties": 1,
    "propertyNames": {"pattern": f"^{ARM.pattern}$"},
    "additionalProperties": {"type": "object"},
}
BLOCKS: Schema = {
    "description": "Holes that stay open in a comparison: every arm is trained at every value.",
    "type": "array",
    "items": {"type": "string"},
}
DROPPED = ("title", "discriminator", "default")


def schema() -> Schema:
    """The schema, in draft 07. Every value but names may be replaced by a hole.

    It knows what one value may be; what depends on several (a stage that the backbone lacks) is
    for ``spaces.load`` to say.
    """
    definitions: dict[str, Schema] = {"number": _numeric("number"), "integer": _numeric("integer")}
    search = _plain(Search, definitions)
    search["properties"]["objectives"] = _objectives(search["properties"]["objectives"])
    training = _open(_plain(Training, definitions))
    for name in (
        "SGD",
        "AdamW",
        "Cosine",
        "Step",
        "Milestones",
        "OneCycle",
        "Constant",
        "Augmentation",
    ):
        definitions[name] = _open(definitions[name])
    properties = {
        "name": {"type": "string", "pattern": f"^{NAME.pattern}$"},
        "task": _task(definitions),
        "dataset": _component("dataset", _fields(Dataset, definitions), definitions),
        "backbone": _component("backbone", _fields(Backbone, definitions), definitions),
        "attention": _attention(definitions),
        "training": training,
        "arms": ARMS,
        "blocks": BLOCKS,
        "search": search,
    }
    return {
        "$schema": DRAFT,
        "title": "eca-search space",
        "type": "object",
        "required": ["name", "dataset", "backbone", "training"],
        "additionalProperties": False,
        "properties": properties,
        "definitions": definitions,
    }


def text() -> str:
    """The schema as the file ``schema.json`` holds it."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


def _plain(model: type[BaseModel], definitions: dict[str, Schema]) -> Schema:
    """A model's own schema; the models inside it go to the definitions."""
    made = model.model_json_schema(ref_template=DEFINITIONS + "{model}")
    for name, inner in made.pop("$defs", {}).items():
        definitions[name] = _tidy(inner)
    tidied: Schema = _tidy(made)
    return tidied


def _tidy(node: Any) -> Any:
    """Without what editors have no use for, and with doc strings on one line."""
    if isinstance(node, list):
        return [_tidy(inner) for inner in node]
    if not isinstance(node, dict):
        return node
    tidied: Schema = {
        key: {name: _tidy(inner) for name, inner in value.items()}
        if key == "properties"
        else _tidy(value)
        for key, value in node.items()
        if key not in DROPPED
    }
    if "description" in node:
        tidied["description"] = " ".join(node["description"].split())
    return tidied


def _fields(model: type[BaseModel], definitions: dict[str, Schema]) -> dict[str, Schema]:
    properties = _plain(model, definitions)["properties"]
    return {key: value for key, value in properties.items() if key != "name"}


def _component(kind: str, shared: dict[str, Schema], definitions: dict[str, Schema]) -> Schema:
    """One of the kind's variants by name, or a choice of them."""
    variants = [_variant(kind, name, shared, definitions) for name in catalogue.names(kind)]
    definitions[kind] = {"anyOf": variants}
    return _or_choice({"$ref": DEFINITIONS + kind})


def _variant(
    kind: str, name: str, shared: dict[str, Schema], definitions: dict[str, Schema]
) -> Schema:
    made = _plain(catalogue.model(kind, name), definitions)
    made = _open({**made, "properties": {**made["properties"], **shared}})
    made["description"] = " ".join(catalogue.doc(kind, name).split("\n\n")[0].split())
    return made


def _attention(definitions: dict[str, Schema]) -> Schema:
    for kind in ("placement", "mapping"):
        _component(kind, {}, definitions)
    null = {"type": "null"}
    keys = {
        "position": _fields(Attention, {})["position"],
        "placement": {"anyOf": [{"$ref": DEFINITIONS + "placement"}, null]},
        "mapping": {"anyOf": [{"$ref": DEFINITIONS + "mapping"}, null]},
    }
    variants = []
    for name in catalogue.names("attention"):
        sized = catalogue.accepts("attention", name, "kernel_size")
        own = {
            key: null if name == "none" or (key == "mapping" and not sized) else value
            for key, value in keys.items()
        }
        variants.append(_variant("attention", name, own, definitions))
    definitions["attention"] = {"anyOf": variants}
    return _or_choice({"$ref": DEFINITIONS + "attention"})


def _task(definitions: dict[str, Schema]) -> Schema:
    """A task by name, with a detector where it takes one: by its name alone, or whole."""
    _component("detector", {}, definitions)
    variants = []
    for name in catalogue.names("task"):
        heads = catalogue.heads(name)
        named = [{"enum": heads}, {"$ref": DEFINITIONS + "detector"}]
        own = {catalogue.HEAD: {"anyOf": named}} if heads else {}
        variants.append(_variant("task", name, own, definitions))
    definitions["task"] = {"anyOf": variants}
    return _or_choice({"$ref": DEFINITIONS + "task"})


def _open(made: Schema) -> Schema:
    """A mapping whose every value, except its name, may be a hole."""
    properties = {
        key: value if key == "name" else _or_hole(value)
        for key, value in made.get("properties", {}).items()
    }
    return {**made, "properties": properties}


def _or_hole(value: Schema) -> Schema:
    arms = value.get("anyOf", [value])
    lists = [arm for arm in arms if arm.get("type") == "array"]
    kinds = {arm.get("type") for arm in arms} & {"integer", "number"}
    numeric = ["integer", "number"] if "number" in kinds else sorted(kinds)
    elements = [{**arm, "items": _or_hole(arm["items"])} for arm in lists]
    plain = [arm for arm in arms if arm not in lists]
    holes = [_choice(value), *map(_subset, lists), *({"$ref": DEFINITIONS + k} for k in numeric)]
    return {"anyOf": [*plain, *elements, *holes]}


def _or_choice(component: Schema) -> Schema:
    return {"anyOf": [component, _choice(component)]}


def _choice(option: Schema) -> Schema:
    options: Schema = {"type": "array", "minItems": 1, "items": option}
    return _hole({"choice": options, "default": {}}, "choice", "One of the options.")


def _subset(array: Schema) -> Schema:
    elements = {"type": "array", "minItems": 1, "uniqueItems": True, "items": array["items"]}
    some = {"type": "array", "items": array["items"]}
    keys: Schema = {"subset": elements, "always": some, "default": some}
    said = "Any of the elements, or none; those in `always` are taken in any case."
    return _hole(keys, "subset", said)


def _numeric(kind: str) -> Schema:
    name = {"number": "float", "integer": "int"}[kind]
    interval = {"type": "array", "minItems": 2, "maxItems": 2, "items": {"type": kind}}
    step = {"anyOf": [{"type": kind, "exclusiveMinimum": 0}, {"type": "null"}]}
    keys: Schema = {
        name: interval,
        "step": step,
        "log": {"type": "boolean"},
        "default": {"type": kind},
    }
    return _hole(keys, name, "A number of the closed interval [low, high].")


def _hole(properties: dict[str, Schema], key: str, description: str) -> Schema:
    return {
        "description": description,
        "type": "object",
        "required": [key],
        "additionalProperties": False,
        "properties": properties,
    }


def _objectives(made: Schema) -> Schema:
    """Metrics by name, each in the long or the short form."""
    long = made["additionalProperties"]
    metrics = {
        metric: {"anyOf": [long, *({"const": way} for way in sorted(ways))]}
        for metric, ways in everywhere().items()
    }
    made = {key: value for key, value in made.items() if key != "additionalProperties"}
    return {**made, "minProperties": 1, "additionalProperties": False, "properties": metrics}
