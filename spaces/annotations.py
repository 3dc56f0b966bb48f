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

from spaces.gates import Gate, Pool
from spaces.kernels import KernelSize
from spaces.width import Width

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
    "Gate": Gate,
    "KernelSize": KernelSize,
    "Pool": Pool,
    "Width": Width,
}


class Unreadable(ValueError):
    """Source text that says something else than it may; ``line`` and ``column`` count from 1."""

    def __init__(self, node: ast.AST, message: str) -> None:
        super().__init__(message)
        self.line: int = getattr(node, "lineno", 1)
        self.column: int = getattr(node, "col_offset", 0) + 1


def evaluated(node: ast.expr) -> Any:
    """The type. Raises Unreadable for anything but the types of ``NAMES``."""
    match node:
        case ast.Name(id) if id in NAMES:
            return NAMES[id]
        case ast.Constant(None):
            return None
        case ast.BinOp(left, ast.BitOr(), right):
            return reduce(or_, (_arm(evaluated(left)), _arm(evaluated(right))))
        case ast.Subscript(ast.Name("Literal"), index):
            return Annotated[Literal[literal(index)], _exactly(literal(index))]
        case ast.Subscript(ast.Name("Annotated"), ast.Tuple([kind, *fields])):
            return Annotated[(evaluated(kind), *map(_field, fields))]
        case ast.Subscript(ast.Name("list" | "tuple" as name), ast.Tuple(parts)):
            return NAMES[name][tuple(... if _dots(part) else evaluated(part) for part in parts)]
        case ast.Subscript(ast.Name("list" | "tuple" as name), part):
            return NAMES[name][evaluated(part)]
    said = f"{ast.unparse(node)} is no type that a variant's parameter may have"
    raise Unreadable(node, f"{said} (allowed: {', '.join(NAMES)}, None, Field)")


def literal(node: ast.expr) -> Any:
    """The value of a literal. Raises Unreadable for anything that would have to be run."""
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError):
        said = f"{ast.unparse(node)} is no literal (allowed: numbers, texts, lists and the like)"
        raise Unreadable(node, said) from None


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
            values = {k.arg: literal(k.value) for k in keywords if k.arg}
            return Field(**values)
    raise Unreadable(node, f"{ast.unparse(node)} is no Field(...)")
