"""What a user did wrong, said in one line: where, what must hold, what was got, the way out."""

from __future__ import annotations

import difflib
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, Self, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from trainers.visible import brief

Model = TypeVar("Model", bound=BaseModel)

# A validator that looks at several keys starts its message with the one to change: `root: needed for ...`.
_NAMED = re.compile(r"([a-z_0-9]+(?:\.[a-z_0-9]+)*): ")

# Where a message names another key: with the section that it stands in, or as the way out, `set tau: 0`.
_OTHER_KEY = re.compile(r"(?<=set )[a-z_0-9]+(?=: )|(?<![\w./])[a-z_0-9]+(?:\.[a-z_0-9]+)+")

# What pydantic calls the mistake -> what is said of it; `got` is the input, the other names are of its context.
_MESSAGES = {
    "invalid_key": "a key must be text, got {got}; put it in quotes",
    "missing": "missing; this key has no default",
    "value_error": "{error}",
    "greater_than": "must be > {gt}, got {got}",
    "greater_than_equal": "must be >= {ge}, got {got}",
    "less_than": "must be < {lt}, got {got}",
    "less_than_equal": "must be <= {le}, got {got}",
    "too_short": "must not be empty, got {got}; give it a value, or leave the key out",
    "too_long": "must have at most {max_length} values, got {got}",
    "string_pattern_mismatch": "must match {pattern}, got {got}",
    "string_type": "must be text, got {got}",
    "tuple_type": "must be a list, got {got}",
    **dict.fromkeys(("bool_parsing", "bool_type"), "must be true or false, got {got}"),
    **dict.fromkeys(("int_parsing", "int_parsing_size", "int_type"), "must be a whole number, got {got}"),
    **dict.fromkeys(("float_parsing", "float_type"), "must be a number, got {got}"),
    **dict.fromkeys(
        ("model_type", "model_attributes_type", "dict_type"), "must be a mapping of keys to values, got {got}"
    ),
}

# What other tools call a value -> what it is called here.
_ALSO_CALLED = {
    **dict.fromkeys(("bayes", "bayesian", "bayesian_optimization", "bo", "gaussian_process", "botorch"), "gp"),
    **dict.fromkeys(("cma-es", "cma_es", "cma"), "cmaes"),
    **dict.fromkeys(("nsga2", "nsga-ii", "nsga_ii", "nsga", "genetic"), "nsgaii"),
    **dict.fromkeys(("sobol", "halton", "quasi_random"), "qmc"),
}

# Features that one looks for by such keys -> what is said of them.
_NOT_YET = {
    **dict.fromkeys(
        ("early_stopping", "pruner", "pruning", "asha", "hyperband", "patience"),
        "no such key; a sweep's stopping, such as stopping.name=asha, ends trials that do worse than others",
    ),
    **dict.fromkeys(
        ("wandb", "tensorboard", "mlflow", "neptune", "comet", "trackers", "tracker", "logger", "logging"),
        "no such key; trackers, a list beside trial, such as trackers: [mlflow], names what trials are sent to",
    ),
    **dict.fromkeys(("report", "html"), "no such key; `sweep report RUN` writes the page: leave it out"),
    **dict.fromkeys(
        (
            "workers",
            "num_workers",
            "nodes",
            "num_nodes",
            "ddp",
            "distributed",
            "world_size",
            "gpus",
            "n_gpus",
        ),
        "no such key; resources.workers: N has N processes train one trial, resources.gpu is each one's",
    ),
    **dict.fromkeys(
        ("compile", "torch_compile", "cuda_graphs"), "no such key; trial.engine: graph or compile is how a step runs"
    ),
}


class UserError(ValueError):
    """Input that only the user can mend; the command line prints it without a traceback and exits with 2."""

    others: Sequence[str] = ()
    """What else is wrong with the same input, a line each."""

    @classmethod
    def of(cls, texts: Iterable[str]) -> Self:
        """All that is wrong with an input: the first is the error's own text."""
        first, *others = dict.fromkeys(texts)
        error = cls(first)
        error.others = others
        return error


class NewerRecords(UserWarning):
    """Lines of a run that a newer version wrote, and that are passed over; the command line says so in one line."""


class Absent(UserError):
    """Data that are not there at all, with which one may plan, and not train."""


#: So many names are more than a reader looks through.
_MANY = 40


def suggestion(word: str, known: Iterable[str]) -> str:
    """The way out of a misspelt word: the nearest known one, or all of them, of many dotted ones the sections.

    >>> suggestion("stepsize", ["radius", "step_size", "steps"])
    "did you mean 'step_size'?"
    >>> suggestion("lr", ["lr_batch_ratio", "optimizer.lr"])
    "did you mean 'optimizer.lr'?"
    """
    names = list(known)
    ends = [name for name in names if name.endswith(f".{word}")]  # as tables head their columns
    if 0 < len(ends) <= 3:
        return f"did you mean {' or '.join(map(repr, ends))}?"
    if near := difflib.get_close_matches(word, names, n=1):
        return f"did you mean {near[0]!r}?"
    if len(names) > _MANY:
        parts = (name.partition(".") for name in names)
        names = list(dict.fromkeys(f"{section}.*" if rest else section for section, _, rest in parts))
    return f"known: {', '.join(names)}"


def unknown_key(key: str, here: Iterable[str], everywhere: Iterable[str]) -> str:
    """What is said of a key that is not known where it stands.

    >>> unknown_key("lr", ["name", "trial"], ["name", "trial", "trial.optimizer", "trial.optimizer.lr"])
    "unknown key; did you mean 'trial.optimizer.lr'?"
    >>> unknown_key("report", [], [])[:43]
    'robustsweep has no such key; `sweep report '
    >>> unknown_key("batch_sizes", ["batch_size", "epochs"], ["trial.batch_size", "trial.dynamics.batch_sizes"])
    "unknown key; did you mean 'batch_size'?"

    Args:
        key: the key, dotted if it is one of an axis.
        here: the keys that are known there.
        everywhere: every dotted key and section of the config.
    """
    if missing := next((_NOT_YET[part] for part in key.lower().split(".") if part in _NOT_YET), None):
        return f"robustsweep has {missing}"
    names, last = list(here), key.rpartition(".")[2]
    by_end: dict[str, list[str]] = defaultdict(list)
    for place in everywhere:
        by_end[place.rpartition(".")[2]].append(place)
    places = by_end.get(last, [])
    if places and places != [last] and difflib.get_close_matches(key, names, cutoff=0.85):
        places = []
    elif not places and not difflib.get_close_matches(key, names):
        places = [place for end in difflib.get_close_matches(last, by_end, 1, 0.75) for place in by_end[end]]
    if places:
        return f"unknown key; did you mean {' or '.join(map(repr, places))}?"
    return f"unknown key; {suggestion(key, names)}"


def written_out(text: str, known: Collection[str], front: Callable[[str], str]) -> str:
    """A message with the keys that it names as a sweep's file has them.

    >>> written_out("is not in data; or set data.download: true", {"data.download"}, lambda key: "trial.")
    'is not in data; or set trial.data.download: true'

    Args:
        text: the message.
        known: the keys that are meant, as the message has them; others are left alone.
        front: of a key what stands before it in the file.
    """
    return _OTHER_KEY.sub(lambda found: (front(found[0]) if found[0] in known else "") + found[0], text)


def validated(model: type[Model], values: Any, where: str = "") -> Model:
    """`model` built from plain `values`.

    Args:
        model: a pydantic model with frozen, extra-forbidding configuration.
        values: a mapping as YAML gives it.
        where: what to put in front of the offending key, such as `configs/ratio.yaml: trial`.

    Raises:
        UserError: one line for the first thing that is wrong; and one for each other key that is.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise UserError.of(_one_line(one, model, where) for one in _of_each_value(error, values)) from None


def _of_each_value(error: ValidationError, values: Any) -> Iterator[Any]:
    """The first error of each value: of one that may be of several kinds pydantic says what it lacks of each."""
    known: list[tuple[Any, ...]] = []
    for one in error.errors(include_url=False):
        place = _place(one, values)
        if not any(place[: len(other)] == other[: len(place)] for other in known):
            known.append(place)
            yield one


def _place(error: Any, values: Any) -> tuple[Any, ...]:
    """Of which value it is: the keys that lead to it, without the names of kinds."""
    place: list[Any] = []
    for part in error["loc"]:
        try:
            values = values[part]
        except (LookupError, TypeError):
            return (*place, part) if error["type"] == "missing" else tuple(place)
        place.append(part)
    return tuple(place)


def _one_line(error: Any, model: type[BaseModel], where: str) -> str:
    location = [str(part) for part in error["loc"] if part != "[key]"]
    key = ".".join(location)
    message = _message(error, model, location)
    if error["type"] == "value_error":
        if named := _NAMED.match(message):
            key, message = f"{key}.{named[1]}".strip("."), message[named.end() :]
        section, inner = location, _model_at(model, location)
        if section and section[-1] in inner.model_fields:  # it is of one key
            section = section[:-1]
        message = written_out(message, set(sections(inner)), lambda _: "".join(f"{part}." for part in section))
    joint = "." if where and key and not where.endswith(": ") else ""
    front = f"{where}{joint}{key}".removesuffix(": ")
    return f"{front}: {message}" if front else message


def _message(error: Any, model: type[BaseModel], location: list[str]) -> str:
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    got = brief(value)
    if kind == "extra_forbidden":
        return unknown_key(location[-1], _fields_at(model, location[:-1]), sections(model))
    if kind == "literal_error":
        names = [name.strip(" '") for name in context["expected"].replace(" or ", ", ").split(",")]
        way_out = _near(value, names) or _own(_model_at(model, location).model_fields.get(location[-1]))
        return f"must be one of {', '.join(names)}; got {got}{way_out}"
    if kind == "string_type" and "[key]" in error["loc"]:
        kind = "invalid_key"
    if kind == "missing" and location[-1].isdigit():
        return f"missing; the list is too short, got {got}"
    expected = error["msg"].removeprefix("Input should be ")
    template = _MESSAGES.get(kind, "must be {expected}, got {got}")
    said = template.format(**{**context, "got": got, "expected": expected})
    if kind == "tuple_type" and isinstance(value, int | float | str | None):
        said += f"; write {'[]' if value is None else f'[{value}]'}"
    named = kind.startswith("model") and isinstance(value, str) and "name" in _fields_at(model, location)
    return f"{said}; {_as_name(value, _model_at(model, location))}" if named else said


def _as_name(word: str, model: type[BaseModel]) -> str:
    """The way out of a word in the place of a mapping that has a name."""
    try:
        model.model_validate({"name": word})
    except ValidationError as error:
        wrong = [one for one in error.errors(include_url=False) if one["loc"] == ("name",)]
        if wrong:
            return f"its name {_message(wrong[0], model, ['name'])}".replace(f"; got {brief(word)}", "")
    return f"did you mean {{name: {word}}}?"


def _own(field: FieldInfo | None) -> str:
    """That a name may be one of the user's own code, where it may: its field says so (`trainers.own.reference`)."""
    example = next((one.example for one in (field.metadata if field else ()) if hasattr(one, "example")), None)
    return "" if example is None else f"; or name code, such as {example}"


def _near(got: Any, names: list[str]) -> str:
    """The way out of a value that is none of those that there are."""
    word = brief(got).strip("'")
    if word.startswith("test_") and (same := word.replace("test", "val", 1)) in names:
        return f"; the test set only reports, and chooses nothing; did you mean {same!r}?"
    called = _ALSO_CALLED.get(word.lower(), word.lower())
    near = [called] if called in names else difflib.get_close_matches(word, names, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _fields_at(model: type[BaseModel], path: list[str]) -> list[str]:
    return [name for name in _model_at(model, path).model_fields if name != "code"]  # which the sweep alone fills in


def _model_at(model: type[BaseModel], path: list[str]) -> type[BaseModel]:
    for part in path:
        if field := model.model_fields.get(part):
            model = _model_in(field.annotation) or model
    return model


def sections(model: type[BaseModel], front: str = "") -> Iterator[str]:
    """Every dotted key of a model and of the models in it, those in between too."""
    for name, field in model.model_fields.items():
        yield f"{front}{name}"
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from sections(field.annotation, f"{front}{name}.")


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model that a field holds, or that the values of its mapping are."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_in, get_args(annotation))), None)
