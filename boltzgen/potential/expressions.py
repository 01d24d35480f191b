"""OpenMM's expression language on tensors: whatever depends on parameters alone is computed once.

The language (OpenMM's Lepton) is arithmetic with ``^``, functions, and definitions after semicolons:
``"4*eps*(a^2-a); a=(sigma/r)^6"``. Python's own parser reads it once ``^`` is spelled ``**``.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from boltzgen.potential.coordinates import Unsupported

Function = Callable[..., Tensor]


def _step(x: Tensor) -> Tensor:
    return (x >= 0).to(x.dtype)


def _power(x: Tensor, exponent: Tensor | float) -> Tensor:
    """Small whole powers by multiplication: faster, and defined for a negative base."""
    if not isinstance(exponent, Tensor) or exponent.ndim == 0:
        k = float(exponent)
        if k == 0.5:
            return torch.sqrt(x)
        if k.is_integer() and abs(k) <= 64:
            return _whole_power(x if k >= 0 else 1.0 / x, abs(int(k)))
    return torch.pow(x, exponent)


def _whole_power(x: Tensor, k: int) -> Tensor:
    if k == 0:
        return torch.ones_like(x)
    if k == 1:
        return x
    half = _whole_power(x, k // 2)
    return half * half * x if k % 2 else half * half


_FUNCTIONS: dict[str, Function] = {
    **{name: getattr(torch, name) for name in ("sqrt", "exp", "log", "sin", "cos", "tan", "asin", "acos")},
    **{name: getattr(torch, name) for name in ("atan", "sinh", "cosh", "tanh", "erf", "erfc", "abs")},
    **{name: getattr(torch, name) for name in ("floor", "ceil", "atan2")},
    "sec": lambda x: 1.0 / torch.cos(x),
    "csc": lambda x: 1.0 / torch.sin(x),
    "cot": lambda x: 1.0 / torch.tan(x),
    "square": lambda x: x * x,
    "cube": lambda x: x * x * x,
    "recip": lambda x: 1.0 / x,
    "step": _step,
    "delta": lambda x: (x == 0).to(x.dtype),
    "min": lambda a, b: torch.where(a < b, a, b),
    "max": lambda a, b: torch.where(a > b, a, b),
}
_OPERATORS: dict[type, Function] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Pow: _power,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}


@dataclass(eq=False)
class _Call:
    """A function of arguments of which at least one depends on a variable."""

    function: Function
    arguments: tuple[_Node, ...]


@dataclass(eq=False)
class _Select:
    """``if_true`` where ``condition`` is not zero, ``if_false`` elsewhere."""

    condition: _Node
    if_true: _Node
    if_false: _Node


_Node = Tensor | float | str | _Call | _Select
"""A constant, the name of a variable, or an operation on nodes."""


class Expression:
    """A scalar expression, evaluated for many rows and configurations at once.

    text
        In OpenMM's language.
    constants
        float64 values of parameters: scalars, or columns ``(R, 1)``, one value per row.
    variables
        Names that are given at evaluation, as ``(R, B)`` tensors.
    functions
        Tabulated functions by name.
    like
        A tensor with the dtype and device of the evaluation. Raises Unsupported on anything unknown.
    """

    def __init__(
        self,
        text: str,
        constants: Mapping[str, Tensor | float],
        variables: tuple[str, ...],
        like: Tensor,
        functions: Mapping[str, Function] | None = None,
    ) -> None:
        self.text = text
        self._constants = {k: torch.as_tensor(v, dtype=torch.float64) for k, v in constants.items()}
        self._variables = variables
        self._functions = _FUNCTIONS | dict(functions or {})
        main, self._definitions = _parse(text)
        self._known: dict[str, _Node] = {}
        self._reciprocals: dict[str | int, _Node] = {}
        self._root = _cast(self._fold(main), like, {})

    def __call__(self, **variables: Tensor) -> Tensor:
        """Values ``(R, B)``, or a constant's own shape where no variable appears."""
        return _evaluate(self._root, variables, {})

    @property
    def constant(self) -> Tensor | None:
        """The value, if it depends on no variable."""
        return self._root if isinstance(self._root, Tensor) else None

    def _fold(self, node: ast.expr) -> _Node:
        match node:
            case ast.Constant(value=bool() | int() | float() as value):
                return torch.tensor(float(value), dtype=torch.float64)
            case ast.Name(id=name):
                return self._lookup(name[1:])
            case ast.UnaryOp(op=op, operand=operand) if type(op) in _OPERATORS:
                return _apply(_OPERATORS[type(op)], self._fold(operand))
            case ast.BinOp(left=left, op=ast.Div(), right=right):
                return self._quotient(self._fold(left), self._fold(right))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
                return _apply(_OPERATORS[type(op)], self._fold(left), self._fold(right))
            case ast.Call(func=ast.Name(id=name), args=args, keywords=[]):
                return self._call(name[1:], [self._fold(argument) for argument in args])
        raise Unsupported(f"the expression '{self.text}' uses {ast.unparse(node)}")

    def _quotient(self, numerator: _Node, denominator: _Node) -> _Node:
        """A product with one reciprocal of each denominator: gradients of quotients would divide again."""
        if isinstance(numerator, Tensor) and isinstance(denominator, Tensor):
            return numerator / denominator
        reciprocal = self._reciprocal(denominator)
        return reciprocal if _is_one(numerator) else _apply(operator.mul, numerator, reciprocal)

    def _reciprocal(self, node: _Node) -> _Node:
        match node:
            case Tensor():
                return 1.0 / node
            case str() if f"1/{node}" in self._variables:
                return f"1/{node}"
            case _Call(function=function, arguments=(base, exponent)) if function is _power:
                return _apply(_power, self._reciprocal(base), exponent)
            case _Call(function=torch.sqrt, arguments=(square,)):
                return _apply(torch.rsqrt, square)
            case _Call(
                function=operator.mul, arguments=(factor, _Call(function=torch.reciprocal) as inverse)
            ):
                return _apply(operator.mul, self._reciprocal(factor), inverse.arguments[0])
        key = node if isinstance(node, str) else id(node)
        return self._reciprocals.setdefault(key, _apply(torch.reciprocal, node))

    def _lookup(self, name: str) -> _Node:
        if name in self._definitions and name not in self._known:
            self._known[name] = self._fold(self._definitions.pop(name))
        if name in self._known:
            return self._known[name]
        if name in self._variables:
            return name
        if name in self._constants:
            return self._constants[name]
        raise Unsupported(f"the expression '{self.text}' uses the unknown name {name}")

    def _call(self, name: str, arguments: list[_Node]) -> _Node:
        if name == "select" and len(arguments) == 3:
            condition, if_true, if_false = arguments
            if all(isinstance(argument, Tensor) for argument in arguments):
                return torch.where(condition != 0, if_true, if_false)  # type: ignore[arg-type]
            return _Select(condition, if_true, if_false)
        if name not in self._functions:
            raise Unsupported(f"the expression '{self.text}' uses the unknown function {name}")
        if name == "log" and not isinstance(arguments[0], Tensor):
            return _Call(_Log.apply, (arguments[0], self._reciprocal(arguments[0])))
        return _apply(self._functions[name], *arguments)


def names_in(text: str) -> set[str]:
    """Every identifier of an expression, functions and definitions included."""
    return set(re.findall(r"(?<![\w.])[A-Za-z_]\w*", text))


def _parse(text: str) -> tuple[ast.expr, dict[str, ast.expr]]:
    """The main expression and the definitions. Names get a leading underscore: ``or`` is one of them."""
    python = re.sub(r"(?<![\w.])[A-Za-z_]\w*", lambda match: "_" + match.group(), text).replace("^", "**")
    main, *rest = (part.strip() for part in python.split(";"))
    try:
        definitions = {}
        for part in filter(None, rest):
            name, value = part.split("=", 1)
            definitions[name.strip()[1:]] = ast.parse(value.strip(), mode="eval").body
        return ast.parse(main, mode="eval").body, definitions
    except (SyntaxError, ValueError) as error:
        raise Unsupported(f"the expression '{text}' cannot be read") from error


def _apply(function: Function, *arguments: _Node) -> _Node:
    """A constant now if all arguments are constants, an operation for later otherwise."""
    if all(isinstance(argument, Tensor) for argument in arguments):
        return function(*arguments)
    return _Call(function, arguments)


def _is_one(node: _Node) -> bool:
    return isinstance(node, Tensor) and node.ndim == 0 and float(node) == 1.0


def _cast(node: _Node, like: Tensor, done: dict[int, _Node]) -> _Node:
    """The same operations with constants in the dtype and on the device of the evaluation."""
    if id(node) not in done:
        match node:
            case Tensor():
                done[id(node)] = node.to(like)
            case _Call():
                arguments = tuple(_cast(argument, like, done) for argument in node.arguments)
                if node.function in _OPERATORS.values():
                    arguments = tuple(_plain(argument) for argument in arguments)
                done[id(node)] = _Call(node.function, arguments)
            case _Select():
                parts = (node.condition, node.if_true, node.if_false)
                done[id(node)] = _Select(*(_cast(part, like, done) for part in parts))
            case _:
                return node
    return done[id(node)]


def _plain(node: _Node) -> _Node:
    """A scalar constant as a number, which arithmetic takes at no cost."""
    return float(node) if isinstance(node, Tensor) and node.ndim == 0 else node


def _evaluate(node: _Node, variables: Mapping[str, Tensor], known: dict[int, Tensor]) -> Any:
    if isinstance(node, Tensor | float):
        return node
    if isinstance(node, str):
        return variables[node]
    if id(node) not in known:
        if isinstance(node, _Call):
            values = [_evaluate(argument, variables, known) for argument in node.arguments]
            known[id(node)] = node.function(*values)
        else:
            chosen = _evaluate(node.condition, variables, known) != 0
            if_true = _evaluate(node.if_true, _where_chosen(variables, chosen), {})
            if_false = _evaluate(node.if_false, _where_chosen(variables, ~chosen), {})
            known[id(node)] = torch.where(chosen, if_true, if_false)
    return known[id(node)]


def _where_chosen(variables: Mapping[str, Tensor], chosen: Tensor) -> dict[str, Tensor]:
    """The variables, with no derivative where a branch is not chosen: there it may well be NaN."""
    return {name: _Guard.apply(value, chosen) for name, value in variables.items()}


class _Log(torch.autograd.Function):
    """The logarithm of a value whose reciprocal is known: no division for its derivative."""

    @staticmethod
    def forward(x: Tensor, reciprocal: Tensor) -> Tensor:
        return torch.log(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (reciprocal,) = ctx.saved_tensors
        return gradient * reciprocal, None


class _Guard(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, chosen: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (chosen,) = ctx.saved_tensors
        return torch.where(chosen, gradient, torch.zeros_like(gradient)), None
