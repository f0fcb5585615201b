"""How a user's own code is called: what it is given, and the options of the config, checked by its signature."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, PydanticUserError, TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError

from trainers.errors import UserError, suggestion, validated
from trainers.own import snapshot
from trainers.own.reference import OwnPart, number, parse

#: The parameter that, where its annotation is a pydantic model, takes all options as one.
TOGETHER = "options"


def call(part: OwnPart, key: str, given: Mapping[str, Any], *first: Any) -> Any:
    """What the user's own code gives that fills a part of the config.

    Args:
        part: its name, source and options.
        key: the part's: model, data, ...
        given: what the sweep offers, by the names of parameters: those that the signature has are passed, and all of
            them to one that takes `**`.
        first: what is passed in front, by place.

    Raises:
        UserError: the options are not those that it takes; and whatever it raises.
    """
    target = snapshot.load(part.name, part.code, f"{key}.name")  # type: ignore[attr-defined]
    return target(*first, **arguments(target, part, key, given, len(first)))


def takes(target: Callable[..., Any], name: str) -> bool:
    """Whether a callable has a parameter of that name, or takes whatever is named."""
    parameters = _parameters(target)
    return name in parameters or _takes_anything(parameters)


def names(target: Callable[..., Any], name: str) -> bool:
    """Whether a callable has a parameter of that very name."""
    return name in _parameters(target)


def arguments(
    target: Callable[..., Any], part: OwnPart, key: str, given: Mapping[str, Any], first: int = 0
) -> dict[str, Any]:
    """The keywords with which the user's own code is called; see `call`.

    Raises:
        UserError: an option that it does not have, one that it needs and that is missing, or one of another type.
    """
    name = parse(part.name).canonical  # type: ignore[attr-defined]
    if not callable(target):
        raise UserError(f"{key}.name: {name}: must be a class or a function, got {type(target).__name__}")
    parameters = dict(list(_parameters(target).items())[first:])
    anything = _takes_anything(parameters)
    named = {word: one for word, one in parameters.items() if one.kind not in _STARS}
    offered = {word: value for word, value in given.items() if word in named or anything}
    hints, options = _hints(target), part.options
    if clash := next((word for word in options if word in given), None):
        raise UserError(f"{key}.{clash}: is given to {name} by the sweep, and is no option; leave it out")
    together = hints.get(TOGETHER)
    if TOGETHER in named and isinstance(together, type) and issubclass(together, BaseModel):
        return {**offered, TOGETHER: validated(together, options, key)}
    own = {word: one for word, one in named.items() if word not in given}
    if not anything and (unknown := next((word for word in options if word not in own), None)):
        way_out = suggestion(unknown, own) if own else "it takes none"
        raise UserError(f"{key}.{unknown}: {name} has no such option; {way_out}")
    needed = [word for word, one in own.items() if one.default is one.empty and word not in options]
    if needed:
        raise UserError(f"{key}.{needed[0]}: {name} needs it, for it has no default; set it")
    read = {word: _typed(f"{key}.{word}", value, hints[word]) for word, value in options.items() if word in hints}
    return {**offered, **{word: number(value) for word, value in options.items()}, **read}


_STARS = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)


def _parameters(target: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(target).parameters
    except (TypeError, ValueError):  # a callable of C
        return {}


def _takes_anything(parameters: Mapping[str, inspect.Parameter]) -> bool:
    return any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values())


def _hints(target: Callable[..., Any]) -> dict[str, Any]:
    """The annotations that can be worked out."""
    try:
        own: Any = getattr(target, "__init__") if isinstance(target, type) else target  # noqa: B009  (mypy's)
        return get_type_hints(own)
    except Exception:  # names that only a type checker knows
        return {}


def _typed(key: str, value: Any, hint: Any) -> Any:
    """The value as its annotation has it: a list as a tuple; 1 as it is where a fraction may stand; text as a number,
    in lists too, only where text may not stand.

    Raises:
        UserError: it is of another type.
    """
    try:
        adapter = TypeAdapter(hint, config=ConfigDict(strict=True))
    except (PydanticSchemaGenerationError, PydanticUserError):  # no type of plain values
        return value
    try:
        return adapter.validate_json(json.dumps(value))
    except ValidationError as error:
        with suppress(ValidationError):
            return adapter.validate_json(json.dumps(_numbers(value)))
        expected = error.errors()[0]["msg"].removeprefix("Input should be ")
        raise UserError(f"{key}: must be {expected}, got {value!r}") from None


def _numbers(value: Any) -> Any:
    """Text that is a number as that number, whole ones as such, in lists too."""
    if isinstance(value, (list, tuple)):
        return [_numbers(one) for one in value]
    read = number(value)
    return int(read) if read is not value and read.is_integer() else read
