"""The type an annotation means, from its syntax tree: names from a fixed list, nothing executed."""

from __future__ import annotations

import ast
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)

from spaces.kernels import KernelSize

NAMES: dict[str, Any] = {
    "int": int,
    "float": float,
    "bool": bool,
    "str": str,
    "list": list,
    "tuple": tuple,
    "Path": Path,
    "Literal": Literal,
    "Annotated": Annotated,
    "PositiveInt": PositiveInt,
    "NonNegativeInt": NonNegativeInt,
    "PositiveFloat": PositiveFloat,
    "NonNegativeFloat": NonNegativeFloat,
    "KernelSize": KernelSize,
}


def evaluated(node: ast.expr) -> Any:
    """The type. Raises ValueError, naming the line, for anything but the types of ``NAMES``."""
    match node:
        case ast.Name(id) if id in NAMES:
            return NAMES[id]
        case ast.Constant(None):
            return None
        case ast.BinOp(left, ast.BitOr(), right):
            return reduce(or_, (_arm(evaluated(left)), _arm(evaluated(right))))
        case ast.Subscript(ast.Name("Literal"), index):
            return Annotated[Literal[ast.literal_eval(index)], _exactly(ast.literal_eval(index))]
        case ast.Subscript(ast.Name("Annotated"), ast.Tuple([kind, *fields])):
            return Annotated[(evaluated(kind), *map(_field, fields))]
        case ast.Subscript(ast.Name("list" | "tuple" as name), ast.Tuple(parts)):
            return NAMES[name][tuple(... if _dots(part) else evaluated(part) for part in parts)]
        case ast.Subscript(ast.Name("list" | "tuple" as name), part):
            return NAMES[name][evaluated(part)]
    raise ValueError(
        f"line {node.lineno}: {ast.unparse(node)} is no type that a variant's parameter may have "
        f"(allowed: {', '.join(NAMES)}, None, Field)"
    )


def _dots(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is ...


def _exactly(literals: Any) -> BeforeValidator:
    """Refuse what only compares equal to a literal: 20.0 for 20, true for 1."""
    known = literals if isinstance(literals, tuple) else (literals,)
    kinds = {type(literal) for literal in known}

    def check(value: Any) -> Any:
        if value in known and type(value) not in kinds:
            raise ValueError(", ".join(map(str, known)))
        return value

    return BeforeValidator(check)


def _arm(kind: Any) -> Any:
    return type(None) if kind is None else kind


def _field(node: ast.expr) -> Any:
    match node:
        case ast.Call(ast.Name("Field"), [], keywords):
            values = {k.arg: ast.literal_eval(k.value) for k in keywords if k.arg}
            return Field(**values)
    raise ValueError(f"line {node.lineno}: {ast.unparse(node)} is no Field(...)")
