"""math.evaluate: arithmetic, exact for integers, over a small part of Python's grammar."""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable
from typing import Annotated, Any, ClassVar

from msgspec import Meta

from sonia.tools.interface import ArgumentsInvalid, ToolFailed
from sonia.tools.tool import Arguments, Grant, Intent, Tool

Number = int | float

MAX_DEPTH = 40
MAX_BITS = 13_000  # about 3,900 digits
MAX_FACTORIAL = 1_000
EXACT_IN_JSON = 2**53

_LETTER_AFTER_DIGIT = re.compile(r"(?<![A-Za-z_])[\d.]+(?![eE][+-]?\d)[A-Za-z]")
_CONSTANTS = {"pi": math.pi, "e": math.e, "tau": math.tau}


class MathEvaluateArguments(Arguments):
    """What to work out."""

    expression: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=500,
            description=(
                "Like (17 * 23) / 2 or sqrt(2)^3. Operators + - * / // % and ** or ^ for powers; "
                "sqrt sin cos tan asin acos atan log (any base, 10 alone) ln exp abs round floor "
                "ceil min max factorial; pi, e, tau. Angles in radians."
            ),
        ),
    ]


class MathEvaluate(Tool[MathEvaluateArguments]):
    """Evaluates by walking the syntax tree; nothing is ever compiled or called by name."""

    name: ClassVar = "math.evaluate"
    description: ClassVar = "Work out an arithmetic expression exactly."
    arguments: ClassVar = MathEvaluateArguments

    async def plan(self, args: MathEvaluateArguments) -> Intent:
        _parse(args.expression)
        return Intent(preview=f"Work out {args.expression}")

    async def run(self, args: MathEvaluateArguments, grant: Grant) -> dict[str, Any]:
        value = evaluate(args.expression)
        fits = isinstance(value, float) or abs(value) <= EXACT_IN_JSON
        return {
            "expression": args.expression,
            "value": value if fits else str(value),
            "exact": isinstance(value, int),
        }


def evaluate(expression: str) -> Number:
    """Raises `ArgumentsInvalid` for what is no arithmetic, `ToolFailed` where it has no value."""
    tree = _parse(expression)
    try:
        return _bounded(_value(tree, 0))
    except ZeroDivisionError as error:
        raise ToolFailed("Division by zero has no value.") from error
    except OverflowError as error:
        raise ToolFailed("The value is too large.") from error
    except (ValueError, TypeError) as error:
        raise ToolFailed(f"It has no real value: {error}.") from error


def _parse(expression: str) -> ast.expr:
    if _LETTER_AFTER_DIGIT.search(expression):
        raise _refused("a number is followed by a letter; write 2*pi, not 2pi")
    try:
        return ast.parse(expression.strip().replace("^", "**"), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise _refused("it can't be read as arithmetic") from error


def _refused(why: str) -> ArgumentsInvalid:
    return ArgumentsInvalid(
        f"math.evaluate: {why}. Write something like (17 * 23) / 2.", field="expression"
    )


def _value(node: ast.expr, depth: int) -> Number:
    if depth > MAX_DEPTH:
        raise _refused("it is nested too deeply")
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return _bounded(value)
        case ast.Name(id=name) if name in _CONSTANTS:
            return _CONSTANTS[name]
        case ast.UnaryOp(op=op) if type(op) in _UNARY:
            return _UNARY[type(op)](_value(node.operand, depth + 1))
        case ast.BinOp(op=op) if type(op) in _BINARY:
            left, right = _value(node.left, depth + 1), _value(node.right, depth + 1)
            return _bounded(_BINARY[type(op)](left, right))
        case ast.Call(func=ast.Name(id=name), keywords=[]) if name in _FUNCTIONS:
            least, most, function = _FUNCTIONS[name]
            if not least <= len(node.args) <= most:
                raise _refused(f"{name} takes {least} to {most} values")
            return _bounded(function(*[_value(item, depth + 1) for item in node.args]))
        case ast.Name(id=name) | ast.Call(func=ast.Name(id=name)):
            raise _refused(f"'{name}' is not known here")
        case _:
            raise _refused("only numbers, + - * / // % ^ and the named functions are known")


def _bounded(value: Number | complex) -> Number:
    if isinstance(value, complex):
        raise ToolFailed("It has no real value.")
    if isinstance(value, int):
        if value.bit_length() > MAX_BITS:
            raise ToolFailed("The value is too large.")
    elif not math.isfinite(value):
        raise ToolFailed("The value is too large.")
    return value


def _power(base: Number, exponent: Number) -> Number | complex:
    if isinstance(base, int) and isinstance(exponent, int) and exponent > 0:
        if base.bit_length() * exponent > 2 * MAX_BITS and abs(base) > 1:
            raise ToolFailed("The value is too large.")
    elif isinstance(base, int) and isinstance(exponent, int):
        return float(base) ** exponent if exponent else 1
    power: Number | complex = base**exponent
    return power


def _factorial(value: Number) -> int:
    if value != int(value) or not 0 <= value <= MAX_FACTORIAL:
        raise ToolFailed(f"factorial takes whole numbers from 0 to {MAX_FACTORIAL}.")
    return math.factorial(int(value))


def _log(value: Number, base: Number = 10) -> float:
    return math.log10(value) if base == 10 else math.log(value, base)


def _sqrt(value: Number) -> Number:
    if isinstance(value, int) and value >= 0 and math.isqrt(value) ** 2 == value:
        return math.isqrt(value)
    return math.sqrt(value)


def _round(value: Number, digits: Number = 0) -> Number:
    places = max(-400, min(400, int(digits)))
    return round(value, places) if places else round(value)


_UNARY: dict[type[ast.unaryop], Callable[[Number], Number]] = {
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
}
_BINARY: dict[type[ast.operator], Callable[[Number, Number], Number | complex]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: _power,
}
_MANY = 32
_FUNCTIONS: dict[str, tuple[int, int, Callable[..., Number]]] = {
    "sqrt": (1, 1, _sqrt),
    "sin": (1, 1, math.sin),
    "cos": (1, 1, math.cos),
    "tan": (1, 1, math.tan),
    "asin": (1, 1, math.asin),
    "acos": (1, 1, math.acos),
    "atan": (1, 1, math.atan),
    "log": (1, 2, _log),
    "ln": (1, 1, math.log),
    "exp": (1, 1, math.exp),
    "abs": (1, 1, abs),
    "round": (1, 2, _round),
    "floor": (1, 1, math.floor),
    "ceil": (1, 1, math.ceil),
    "min": (1, _MANY, min),
    "max": (1, _MANY, max),
    "factorial": (1, 1, _factorial),
}
