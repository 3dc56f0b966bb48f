"""What variants there are and what each takes, read from source text: nothing is imported.

One variant is one file ``NAME.py`` in the folder of its kind, with one public function named like
the kind. Its keyword-only parameters are its schema, its docstring is its documentation. People's
own files join by ``plug``, or by an entry point of an installed package.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, PydanticUserError, ValidationError, create_model
from pydantic_core import SchemaError

from spaces import installed
from spaces.annotations import Unreadable, evaluated, literal
from spaces.errors import Place, Problem, SpaceError, VariantError, listed, nearest, shown
from spaces.explain import problems

_ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {
    "mapping": _ROOT / "spaces" / "mappings",
    "placement": _ROOT / "spaces" / "placements",
    "attention": _ROOT / "trainers" / "attention",
    "backbone": _ROOT / "trainers" / "backbones",
    "dataset": _ROOT / "trainers" / "datasets",
    "task": _ROOT / "trainers" / "tasks",
    "detector": _ROOT / "trainers" / "detectors",
}
CALLED_WITH = {
    "mapping": ("channels", "stage"),
    "placement": ("site",),
    "attention": ("channels",),
    "backbone": ("attend", "channels_in", "image_size"),
    "dataset": ("files", "part"),
    "task": ("classes", "label_smoothing"),
    "detector": ("body", "classes"),
}
TAKEN = {
    "attention": ("position", "placement", "mapping"),
    "backbone": ("pretrained",),
    "dataset": ("root", "split_seed", "val", "subset", "image_size"),
    "task": ("detector",),
}
"""Keys of a space file that a parameter of that kind cannot be called, beside ``name``."""
SIZE = "kernel_size"
HEAD = "detector"
BESIDES = {"attention": SIZE, "task": HEAD}
"""What an attention and a task are given besides, by this name, where their signature has it: the
size that a mapping gives, and the detector that is the network's head."""
FROM = {"attention": "the mapping", "task": "the space"}
Goal = Literal["max", "min"]
UNSAID: dict[str, Goal] = {"accuracy": "max", "loss": "min"}
"""What a task reports whose file has no ``METRICS``, as that of classification."""
_SCENIC = ("task", "dataset")
"""Kinds whose files say what is known of images, or asked: ``TARGETS``."""
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_plugins: dict[tuple[str, str], Path] = {}


@dataclass(frozen=True)
class _Source:
    """What the text of a variant's file says."""

    parameters: tuple[str, ...]
    model: type[BaseModel]
    doc: str
    blocks: dict[Any, tuple[int, ...]]
    channels: dict[Any, tuple[int, ...]]
    metrics: dict[str, Goal]
    heads: tuple[str, ...]
    targets: frozenset[str]
    needs: dict[str, str]


def names(kind: str) -> list[str]:
    """The variants of a kind, in alphabetical order, plugins and installed ones among them."""
    plugged = (name for of, name in _plugins if of == kind)
    return sorted({*_own(kind), *plugged, *installed.modules(kind)})


def path(kind: str, name: str) -> Path:
    """The variant's file. Raises VariantError for a name that there is not.

    A plugin comes before an installed variant of its name; either needs a name that is not ours.
    """
    if (kind, name) in _plugins:
        return _plugins[kind, name]
    if name in _own(kind):
        return FOLDERS[kind] / f"{name}.py"
    if name in installed.modules(kind):
        return _installed(kind, name)
    known = names(kind)
    raise VariantError(
        (
            "name",
            f"no {kind} named {name!r}{nearest(name, known)} "
            f"(there are: {listed(known)}; one of your own: --plugin FILE.py)",
        )
    )


def model(kind: str, name: str) -> type[BaseModel]:
    """The variant's parameters as a strict pydantic model, ``name`` among them."""
    return _read(kind, path(kind, name)).model


def doc(kind: str, name: str) -> str:
    """The variant's docstring."""
    return _read(kind, path(kind, name)).doc


def accepts(kind: str, name: str, parameter: str) -> bool:
    """Whether the variant's function has a parameter of that name, keyword-only or not."""
    return parameter in _read(kind, path(kind, name)).parameters


def required(kind: str, name: str) -> set[str]:
    """The parameters that the variant has no default for."""
    fields = model(kind, name).model_fields
    return {key for key, field in fields.items() if field.is_required()} - {"name"}


def blocks(params: dict[str, Any]) -> tuple[int, ...] | None:
    """Blocks per stage of a backbone, from the literal ``BLOCKS = {depth: (...)}`` in its file.

    The key is None where the backbone has no depth. None for a file without the literal.
    """
    return _read("backbone", path("backbone", params["name"])).blocks.get(params.get("depth"))


def channels(params: dict[str, Any]) -> tuple[int, ...] | None:
    """Channels per stage of a backbone at width 1, where attention stands at position `final`.

    From the literal ``CHANNELS = {depth: (...)}`` in its file; None for a file without it.
    """
    return _read("backbone", path("backbone", params["name"])).channels.get(params.get("depth"))


def depths(name: str) -> tuple[int | None, ...]:
    """The depths that a backbone's ``BLOCKS`` lists, None for one without depth."""
    return tuple(_read("backbone", path("backbone", name)).blocks)


def metrics(task: str) -> dict[str, Goal]:
    """What a task reports of the images that judge, and which way each is better.

    From the literal ``METRICS = {"box_ap": "max", ...}`` in its file; the first is what networks
    are judged by, and what goes up is a share, 0..1. A file without it reports `UNSAID`. Raises
    VariantError for a task that there is not.
    """
    return dict(_read("task", path("task", task)).metrics)


def heads(task: str) -> list[str]:
    """The detectors that fit a task, the usual one first; none where it takes no detector.

    From the literal ``DETECTORS = ("faster_rcnn", ...)`` in its file, and people's own, which are
    not known to fit only one.
    """
    if not accepts("task", task, HEAD):
        return []
    ours = _own(HEAD)
    said = _read("task", path("task", task)).heads
    return [*said, *(name for name in names(HEAD) if name not in {*ours, *said})]


def targets(kind: str, name: str) -> frozenset[str]:
    """What a dataset says of its images, or a task asks of them: ``labels``, ``boxes``, ``masks``.

    From the literal ``TARGETS`` in its file, a word or several; labels without it.
    """
    return _read(kind, path(kind, name)).targets


def needs(task: str) -> dict[str, str]:
    """Library -> extra of this package that brings it, of those that a task cannot do without.

    From the literal ``NEEDS`` in its file.
    """
    return dict(_read("task", path("task", task)).needs)


def check(kind: str, params: dict[str, Any]) -> dict[str, Any]:
    """``params`` (``name`` among them) completed with the variant's defaults, in JSON types.

    Raises VariantError whose ``key`` is the dotted key inside ``params``.
    """
    name = params.get("name")
    if not isinstance(name, str):
        there = listed(names(kind))
        wrong = "required key is missing" if name is None else f"not a name (got {shown(name)})"
        raise VariantError(("name", f"{wrong} (allowed: {there})"))
    parameters = model(kind, name)
    try:
        return parameters.model_validate(params).model_dump(mode="json")
    except ValidationError as error:
        found = problems(error, params, parameters, _beside(kind, name))
        raise VariantError(*((".".join(map(str, at)), said) for at, said in found)) from None


def plug(file: str | Path) -> None:
    """Add a person's FILE.py: its stem is the variant's name, the function it defines its kind.

    Raises SpaceError for a file that cannot be read, defines none or several of the kinds, or
    bears the name of a variant that there is already.
    """
    file = Path(file).expanduser().resolve()
    function = _only_function(file)
    kind = function.name
    if file != _plugins.get((kind, file.stem), file) or (FOLDERS[kind] / file.name).exists():
        raise _refused(file, f"there is a {kind} named {file.stem!r} already; rename the file")
    _read.cache_clear()
    _examine(file, function)
    _plugins[kind, file.stem] = file


def _only_function(file: Path) -> ast.FunctionDef:
    """The one function of a person's file that is named like a kind. Raises SpaceError."""
    try:
        tree = ast.parse(file.read_bytes())
    except OSError as error:
        raise _refused(file, f"cannot be read ({error.strerror})") from None
    except SyntaxError as error:
        raise _refused(file, error.msg, error.lineno or 1, error.offset or 1) from None
    except (ValueError, RecursionError, MemoryError) as error:  # NULs, too deep
        raise _refused(file, f"no Python: {error}") from None
    functions = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name in FOLDERS]
    kinds = [function.name for function in functions]
    if len(kinds) != 1 or not _NAME.fullmatch(file.stem):
        raise _refused(
            file,
            f"not a variant (got functions: {listed(kinds) or 'none'}; allowed: a file name like "
            f"my_variant.py and one function out of {listed(FOLDERS)})",
        )
    return functions[0]


def _examine(file: Path, function: ast.FunctionDef) -> None:
    """Raise SpaceError unless the file's parameters can be read and the function be called."""
    try:
        _read(function.name, file)
        _callable(function.name, function)
    except Unreadable as error:
        raise _refused(file, str(error), error.line, error.column) from None
    except (ValueError, TypeError, NameError, SchemaError, PydanticUserError) as error:
        last = str(error).strip().rpartition("\n")[2].strip()
        raise _refused(file, f"no parameter of a variant: {last}") from None


def plugins() -> tuple[Path, ...]:
    """The files added by ``plug``, so that a worker process can add them too."""
    return tuple(_plugins.values())


def digest(kind: str, name: str) -> str:
    """The sha256 of the source of a plugin or an installed variant, in hex; "" for our own."""
    if name in _own(kind):
        return ""
    return hashlib.sha256(path(kind, name).read_bytes()).hexdigest()


def _beside(kind: str, name: str) -> Sequence[str]:
    """The keys that a space file may give the variant besides its own parameters."""
    if kind == "task":
        return TAKEN[kind] if accepts(kind, name, HEAD) else ()
    if kind != "attention":
        return TAKEN.get(kind, ())
    if name == "none":
        return ()
    sized = accepts("attention", name, SIZE)
    return [key for key in TAKEN["attention"] if sized or key != "mapping"]


def _callable(kind: str, function: ast.FunctionDef) -> None:
    """Raise Unreadable where the function cannot be called as its kind is."""
    arguments = function.args
    given = [*arguments.posonlyargs, *arguments.args]
    wanted = CALLED_WITH[kind]
    if kind in BESIDES:
        given = [argument for argument in given if argument.arg != BESIDES[kind]]
        for argument in arguments.kwonlyargs:
            if argument.arg == BESIDES[kind]:
                raise Unreadable(
                    argument, f"{argument.arg} comes from {FROM[kind]}: put it before the `*`"
                )
    for argument in arguments.kwonlyargs:
        if argument.arg in ("name", *TAKEN.get(kind, ())) or argument.arg.startswith("_"):
            raise Unreadable(argument, f"{argument.arg} cannot be a parameter: call it otherwise")
    for own in given[len(wanted) :]:
        said = f"{own.arg} would never be given: put `*, ` before `{own.arg}`"
        raise Unreadable(own, f"{said} (a space file sets what stands behind the star)")
    if len(given) < len(wanted) and arguments.vararg is None:
        got = f"got {listed(a.arg for a in given) or 'none'}"
        raise Unreadable(function, f"a {kind} is called with {listed(wanted)} ({got})")


def _refused(file: Path, message: str, line: int = 1, column: int = 1) -> SpaceError:
    return SpaceError([Problem(Place(str(file), line, column), "", message)])


@cache
def _installed(kind: str, name: str) -> Path:
    """The file of an installed variant, which can be read and called as its kind is."""
    file = installed.source(kind, name)
    try:
        function = _only_function(file)
        if function.name != kind:
            raise _refused(file, f"{function.name}, but installed as {kind}", function.lineno)
        _examine(file, function)
    except SpaceError as error:
        raise VariantError(("name", str(error))) from None
    return file


@cache
def _own(kind: str) -> frozenset[str]:
    """The variants in the kind's folder; read once, as every config asks for them."""
    files = FOLDERS[kind].glob("[a-z]*.py")
    return frozenset(file.stem for file in files if f"\ndef {kind}(" in file.read_text())


@cache
def _read(kind: str, file: Path) -> _Source:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    function = functions[kind]
    fields: dict[str, Any] = {"name": (Literal[file.stem], ...)}
    arguments = function.args
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        if argument.annotation is None:
            raise Unreadable(argument, f"parameter {argument.arg} has no annotation")
        value = ... if default is None else literal(default)
        fields[argument.arg] = (evaluated(argument.annotation), value)
    strict = ConfigDict(
        strict=True, frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=()
    )
    return _Source(
        parameters=tuple(a.arg for a in (*arguments.args, *arguments.kwonlyargs)),
        model=create_model(f"{kind}_{file.stem}", __config__=strict, **fields),
        doc=ast.get_docstring(function) or ast.get_docstring(tree) or "",
        blocks=_literal(tree, "BLOCKS"),
        channels=_literal(tree, "CHANNELS"),
        metrics=_metrics(tree) if kind == "task" else {},
        heads=_words(tree, "DETECTORS", ()) if kind == "task" else (),
        targets=frozenset(_words(tree, "TARGETS", ("labels",)) if kind in _SCENIC else ()),
        needs=_needs(tree) if kind == "task" else {},
    )


def _literal(tree: ast.Module, name: str) -> dict[Any, Any]:
    """What a file assigns to ``name`` at its top; nothing where it does not."""
    value = _assigned(tree, name)
    return {} if value is None else ast.literal_eval(value)


def _assigned(tree: ast.Module, name: str) -> ast.expr | None:
    """The expression that a file last gives ``name`` at its top, with or without an annotation."""
    found = None
    for node in tree.body:
        if not isinstance(node, ast.Assign | ast.AnnAssign):
            continue
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            found = node.value
    return found


def _words(tree: ast.Module, name: str, unsaid: tuple[str, ...]) -> tuple[str, ...]:
    """The text or texts that a file gives ``name``. Raises Unreadable where they are none."""
    value = _assigned(tree, name)
    if value is None:
        return unsaid
    said = literal(value)
    words = (said,) if isinstance(said, str) else said
    if not isinstance(words, tuple | list | set) or not all(isinstance(w, str) for w in words):
        raise Unreadable(value, f"{name} is {ast.unparse(value)} (allowed: a text, or several)")
    return tuple(words)


def _needs(tree: ast.Module) -> dict[str, str]:
    """The libraries that a task's file names. Raises Unreadable where they are none."""
    value = _assigned(tree, "NEEDS")
    if value is None:
        return {}
    said = literal(value)
    pairs = said.items() if isinstance(said, dict) else [(None, None)]
    if not all(isinstance(word, str) for pair in pairs for word in pair):
        allowed = 'allowed: {"module": "extra"}'
        raise Unreadable(value, f"NEEDS is {ast.unparse(value)} ({allowed})")
    return dict(said)


def _metrics(tree: ast.Module) -> dict[str, Goal]:
    """What a task's file says that it reports. Raises Unreadable where that is none."""
    value = _assigned(tree, "METRICS")
    if value is None:
        return UNSAID
    said = literal(value)
    if not isinstance(said, dict) or not said:
        raise Unreadable(value, f'METRICS is {shown(said)} (allowed: {{"name": "max"}}, ...)')
    for name, goal in said.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise Unreadable(value, f"METRICS: no metric's name (got {shown(name)}; allowed: a-z_)")
        if goal not in ("max", "min"):
            got = f"got {shown(goal)}; allowed: max, min"
            raise Unreadable(value, f"METRICS: which way {name} is better ({got})")
    if next(iter(said.values())) != "max":
        wrong = "METRICS: networks are judged by the first, and it goes up"
        raise Unreadable(value, f"{wrong} (got min; allowed: max, of 0..1)")
    return said
