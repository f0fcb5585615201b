"""Constraints on points: `batch_size * optimizer.lr <= 10`, in a small language of its own.

It has Python's grammar and meaning, of which little is let in: dotted keys of the trial, numbers, quoted text, true,
false and none; + - * / // % **, comparisons, and, or, not; min, max and abs. Nothing is executed: the text is parsed,
and what the parser made of it is walked. Numbers are 64-bit floats, so that no power takes long or grows large.
"""

from __future__ import annotations

import ast
import functools
import math
import operator
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from trainers.fields import number_text
from trainers.visible import brief

#: Characters of an expression, how deep it is nested, and how many a sweep has, at most: more than one writes by hand.
LONGEST, DEEPEST, MOST = 1000, 50, 100

#: By what part of the larger one two numbers may differ and still be equal: 3 * 0.1 <= 0.3 holds, as on paper.
CLOSE = 1e-9

ValueOf: TypeAlias = Callable[[str], Any]
_Part: TypeAlias = Callable[[ValueOf], Any]

_WORDS = {"true": True, "false": False, "none": None, "null": None}
_ARITHMETIC: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_SIGNS: dict[type[ast.AST], Callable[[Any], Any]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}
#: One equals sign by itself, and text in quotes, in which it means nothing.
_EQUALS, _QUOTED = re.compile(r"(?<![=<>!])=(?![=<>!])"), re.compile(r"'[^']*'|\"[^\"]*\"")
_FUNCTIONS: dict[str, Callable[[Sequence[float]], float]] = {"min": min, "max": max, "abs": lambda one: abs(one[0])}


class Undefined(ValueError):
    """At some values the expression is neither true nor false."""


class Constraint:
    """One expression, parsed."""

    def __init__(self, text: str) -> None:
        """Parses it.

        Raises:
            ValueError: it is none, or has what is not let in.
        """
        self.text = text
        self._keys: dict[str, None] = {}
        self._holds = _truth(self._part(_parsed(text), 0))
        if not self._keys:
            raise ValueError(f"{brief(text)}: must name a key of the trial, such as batch_size")

    @property
    def keys(self) -> tuple[str, ...]:
        """The dotted keys that it reads."""
        return tuple(self._keys)

    def compared(self) -> Iterator[tuple[str, float]]:
        """Each key that stands alone on one side of a comparison, with a number that stands alone on another."""
        for node in ast.walk(_parsed(self.text)):
            sides = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
            keys = [ast.unparse(side) for side in sides if isinstance(side, ast.Name | ast.Attribute)]
            numbers = [side.value for side in sides if isinstance(side, ast.Constant)]
            for key in keys:
                yield from ((key, float(one)) for one in numbers if isinstance(one, int | float))

    def holds(self, value_of: ValueOf) -> bool:
        """Whether it is true.

        Args:
            value_of: dotted key -> value; asked for those only that decide it.

        Raises:
            Undefined: it compares or reckons with what cannot be compared or reckoned with.
        """
        return bool(self._holds(value_of))

    def _part(self, node: ast.AST, depth: int) -> _Part:
        """What works one node out; every kind of node that is let in stands here."""
        if depth > DEEPEST:
            raise ValueError(f"{brief(self.text)}: must be nested at most {DEEPEST} deep; write several constraints")
        parts = functools.partial(self._part, depth=depth + 1)
        match node:
            case ast.Constant(value=bool() | str() | None as value):
                return lambda _: value
            case ast.Constant(value=int() | float() as value):
                number = _finite(value)
                return lambda _: number
            case ast.Name(id=word) if word in _WORDS:
                return lambda _: _WORDS[word]
            case ast.Name() | ast.Attribute():
                return self._key(node)
            case ast.BoolOp(op=ast.And(), values=values):
                inner = [_truth(parts(value)) for value in values]
                return lambda at: all(one(at) for one in inner)
            case ast.BoolOp(op=ast.Or(), values=values):
                inner = [_truth(parts(value)) for value in values]
                return lambda at: any(one(at) for one in inner)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                inside = _truth(parts(operand))
                return lambda at: not inside(at)
            case ast.UnaryOp(op=sign, operand=operand) if type(sign) in _SIGNS:
                return _reckoned(lambda one: _SIGNS[type(sign)](one[0]), [parts(operand)])
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
                return _reckoned(lambda two: _ARITHMETIC[type(op)](*two), [parts(left), parts(right)])
            case ast.Compare(left=left, ops=ops, comparators=others) if all(type(op) in _COMPARED for op in ops):
                return _chain([parts(one) for one in (left, *others)], [_COMPARED[type(op)] for op in ops])
            case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS:
                if (len(args) == 1) != (name == "abs"):
                    raise ValueError(f"{brief(self.text)}: {name} takes {'one number' if name == 'abs' else 'several'}")
                return _reckoned(_FUNCTIONS[name], [parts(one) for one in args])
        raise ValueError(
            f"{brief(self.text)}: has {self._source(node)}, which is not let in; what is: keys of the trial, "
            "numbers, quoted text, true, false, none, + - * / // % **, < <= > >= == !=, and, or, not, min, max, abs"
        )

    def _source(self, node: ast.AST) -> str:
        return brief(ast.get_source_segment(_one_line(self.text), node) or type(node).__name__)

    def _key(self, node: ast.AST) -> _Part:
        names: list[str] = []
        while isinstance(node, ast.Attribute):
            names.insert(0, node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            raise ValueError(f"{brief(self.text)}: a dot stands within keys of the trial alone, such as optimizer.lr")
        key = ".".join([node.id, *names])
        self._keys[key] = None
        return lambda at: at(key)


def _parsed(text: str) -> ast.expr:
    if len(text) > LONGEST:
        raise ValueError(f"must have at most {LONGEST:,} characters, got {len(text):,}; write several constraints")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd escapes in quoted text
            return ast.parse(_one_line(text), mode="eval").body
    except SyntaxError as error:
        why = error.msg.partition("(")[0].strip()
    except (ValueError, RecursionError, MemoryError):  # NUL; nested deeper than the parser goes
        why = "cannot be parsed"
    meant = [sign[::-1] for sign in ("=<", "=>", "=!") if sign in text]
    meant += ["=="] if _EQUALS.search(_QUOTED.sub("", text)) else []
    turned = f"; did you mean {meant[0]}?" if meant else ""
    raise ValueError(f"{brief(text)}: must be an expression such as batch_size * optimizer.lr <= 10: {why}{turned}")


def _one_line(text: str) -> str:
    """The text, which YAML may have in several lines."""
    return text.replace("\n", " ").strip()


def _finite(value: float | complex) -> float:
    """A result as a float.

    Raises:
        Undefined: there is none.
    """
    if isinstance(value, complex):
        raise Undefined("is no real number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise Undefined("has a number that is too large")
    return number


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Undefined(f"reckons with {_shown(value)}, which is no number")
    return float(value)


def _reckoned(function: Callable[[Sequence[float]], Any], parts: Sequence[_Part]) -> _Part:
    def value(at: ValueOf) -> float:
        numbers = [_number(part(at)) for part in parts]
        try:
            return _finite(function(numbers))
        except ZeroDivisionError:
            raise Undefined("divides by zero") from None
        except OverflowError:
            raise Undefined("has a number that is too large") from None

    return value


def _truth(part: _Part) -> _Part:
    def value(at: ValueOf) -> bool:
        result = part(at)
        if not isinstance(result, bool):
            raise Undefined(f"is {_shown(result)} where it must be true or false")
        return result

    return value


def _chain(parts: Sequence[_Part], compared: Sequence[Callable[[Any, Any], bool]]) -> _Part:
    """a < b <= c, as in Python: a < b and b <= c."""

    def value(at: ValueOf) -> bool:
        left = parts[0](at)
        for compare, part in zip(compared, parts[1:], strict=True):
            right = part(at)
            if not compare(left, right):
                return False
            left = right
        return True

    return value


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    return "text" if isinstance(value, str) else "nothing" if value is None else "a list"


def _shown(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case int() | float():
            return number_text(value)
        case str():
            return f"text, {brief(value)}"
        case None:
            return "none"
    return f"a list, {brief(value)}"


def _equal(one: Any, other: Any) -> bool:
    if one is None or other is None:
        return one is other
    if _kind(one) != _kind(other):
        raise Undefined(f"compares {_shown(one)}, with {_shown(other)}")
    if isinstance(one, int | float):
        return math.isclose(one, other, rel_tol=CLOSE)
    return bool(list(one) == list(other) if isinstance(one, list | tuple) else one == other)


def _less(one: Any, other: Any) -> bool:
    for value in (one, other):
        if _kind(value) != "a number":
            raise Undefined(f"asks which is larger of {_shown(one)} and {_shown(other)}")
    return bool(one < other) and not _equal(one, other)


_COMPARED: dict[type[ast.AST], Callable[[Any, Any], bool]] = {
    ast.Eq: _equal,
    ast.NotEq: lambda one, other: not _equal(one, other),
    ast.Lt: _less,
    ast.GtE: lambda one, other: not _less(one, other),
    ast.Gt: lambda one, other: _less(other, one),
    ast.LtE: lambda one, other: not _less(other, one),
}


@functools.lru_cache(maxsize=2 * MOST)
def constraint(text: str) -> Constraint:
    """The text, parsed once.

    >>> constraint("batch_size * optimizer.lr <= 10").holds({"batch_size": 64, "optimizer.lr": 0.1}.__getitem__)
    True

    Raises:
        ValueError: see `Constraint`.
    """
    try:
        return Constraint(text)
    except Undefined as error:
        raise ValueError(f"{brief(text)}: {error}") from None


def _listed(value: Any) -> Any:
    if not isinstance(value, str | list | tuple):
        none = "; write []" if value is None else ""
        raise ValueError(f"must be an expression, or a list of them, got {brief(value)}{none}")
    return [_parses(value)] if isinstance(value, str) else value


def _parses(value: str) -> str:
    constraint(value)
    return value


#: `where` in a config: one expression, or a list of them, all of which must hold.
Constraints: TypeAlias = Annotated[
    tuple[Annotated[str, AfterValidator(_parses)], ...],
    Field(max_length=MOST),
    BeforeValidator(_listed),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]
