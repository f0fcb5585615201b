"""The pages of the reference, made of the code itself: config keys, commands, records, frames' columns, Python names.

python docs/reference_pages.py FOLDER
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, get_args, get_origin

import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo

import trainers.config
from sweep.axes import Axis
from sweep.cli import main
from sweep.config import SweepConfig
from trainers.config import TrialConfig
from trainers.fields import number_text
from trainers.presets import PRESETS
from trainers.record import REQUIRED, kinds
from trainers.record.forms import FORMS

#: What a user imports from: package -> what it is for.
PACKAGES = {
    "sweep": "plan and launch a sweep",
    "analysis": "what the records say",
    "trainers": "trained networks, and what they were tested on",
}

#: Columns of `analysis.load_trials`, in its order; AXES stands for the axes, METRIC for a measured one.
TRIAL_COLUMNS = {
    "trial_id": "the trial's id, a hash of its config",
    "outcome": "completed, diverged, pruned, out_of_memory, failed, preempted, interrupted, paused or cancelled; "
    "told from the records alone: never_started, unfinished and superseded",
    "reason": "why, in one line; empty for completed",
    "method": "the choice in the four slots, in words: PGD-AT, TRADES-AWP+S2O, DEAT, ...",
    "seed": "of initialisation, order, augmentation and random starts",
    "AXES": "a column for each key in which trials differ, such as `optimizer.lr`; NaN where the trial's method does "
    "not read the key. `epochs` is called planned_epochs there, and `workers` batch_norm_parts",
    "lr_batch_ratio": "learning rate / batch size, 1/image",
    "epochs": "epochs done",
    "best_epoch": "the epoch with the best val_robust, the earliest of equals",
    "last_METRIC": "at the last evaluated epoch; metrics are those of an epoch's record. Accuracies are fractions",
    "best_METRIC": "at best_epoch; NaN where not measured",
    "seconds": "of training, compiling, evaluation, checkpoints and measuring the dynamics",
    "memory_bytes": "that its process took of a GPU; NaN where it did not have one alone",
    "host": "where it last started",
    "device": "on what: cpu, or the GPU's name",
    "code_version": "hash of the sources of `trainers` that trained it",
    "workers": "processes that trained it together; 0: it never began",
    "arithmetic": "on what its last bits depend besides: precision, engine, versions, processor, threads",
    "attempts": "how often it was started",
    "from_trial": "the shorter trial from whose end it went on; empty: none",
    "pruned_rung": "of a pruned trial the rung at which it ended, from 1; NaN where its rule has none",
    "pruned_rank": "its place among those at the rung, 1 is best",
    "pruned_share": "share of its epochs that were trained, a fraction",
    "pruned_by": "the rule's name",
}


def pages() -> dict[str, str]:
    """Every page of the reference: file name -> text in Markdown."""
    return {
        "config.md": config_page(),
        "presets.md": presets_page(),
        "commands.md": commands_page(),
        "records.md": records_page(),
        "frames.md": frames_page(),
        "python.md": python_page(),
    }


def write(folder: Path) -> None:
    """Writes the pages into a folder; those that are there already stay untouched, so that nothing is built anew."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def plain(text: str) -> str:
    """Text as a cell of a table, or a paragraph, of Markdown: nothing in it is markup but its backticks."""
    parts = re.split(r"(`[^`]*`)", " ".join(text.split()))
    escaped = (part if part.startswith("`") else re.sub(r"([*_<\[\]])", r"\\\1", part) for part in parts)
    return "".join(escaped).replace("|", "\\|")


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table of Markdown, of cells that are Markdown already."""
    names = list(head)
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


# Config keys


def config_page() -> str:
    """Every key of a config: values, default, meaning with its unit, source."""
    parts = [
        "# Config keys",
        "Made of the code that reads them (`SweepConfig` and `TrialConfig`). `sweep schema` prints the same for "
        "editors. A default `none` stands for what the description says. [How a config is written](../configs.md).",
        "## The sweep",
        *_sections(SweepConfig, ""),
        "## An axis of `space`",
        "`optimizer.lr: [0.1, 0.2]` is short for `optimizer.lr: {grid: [0.1, 0.2]}`.",
        _keys(Axis, ""),
        "## The trial",
        "All of these stand under `trial:`, and each can be an axis of `space` but those that change no number.",
        *_sections(TrialConfig, "trial."),
        "## Sources",
        table(("source", "is"), ([f"[{name}]", plain(text)] for name, text in sources().items())),
    ]
    return "\n\n".join(parts) + "\n"


def _sections(model: type[BaseModel], prefix: str) -> Iterator[str]:
    """The keys of a model that are values, then a section for each that is a part of its own."""
    yield _keys(model, prefix)
    for name, field in model.model_fields.items():
        part = _part(field.annotation)
        if part is not None and part is not TrialConfig:
            yield f"### `{prefix}{name}`"
            yield plain(f"{field.description or ''} {(part.__doc__ or '').partition(chr(10) * 2)[0]}")
            yield from _sections(part, f"{prefix}{name}.")


def _keys(model: type[BaseModel], prefix: str) -> str:
    properties = model.model_json_schema()["properties"]
    rows = [
        _row(prefix + name, field, properties.get(name, {}))
        for name, field in model.model_fields.items()
        if _part(field.annotation) is None or set(_values(properties[name])) - {"none", "list of values"}
    ]
    if not any(row[-1] for row in rows):
        rows = [row[:-1] for row in rows]
    return table(("key", "values", "default", "what it is", "source")[: len(rows[0])], rows) if rows else ""


def _row(key: str, field: FieldInfo, schema: Mapping[str, Any]) -> list[str]:
    description, source = field.description or "", ""
    cited = re.fullmatch(r"(.*\S)\s+\[([^\[\]]*)\]", description, re.DOTALL)
    if cited and any(name in cited[2] for name in (*sources(), "of each code")):
        description, source = cited[1], cited[2]
    values = list(dict.fromkeys(_values(schema)))
    if "number" in values and "text" in values:
        values.remove("text")  # such as 8/255, which is a number
    limits = _bounds({name: getattr(rule, name) for rule in field.metadata for name in _LIMITS if hasattr(rule, name)})
    said = " or ".join(one + limits if one in ("number", "whole number") else one for one in values)
    return [f"`{key}`", said or "see there", _default(field), plain(description), plain(source)]


def _part(annotation: Any) -> type[BaseModel] | None:
    """The model whose keys a key has, or each of a list of them; of a mapping, whose keys are a user's, none."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner = () if get_origin(annotation) is dict else get_args(annotation)
    return next(filter(None, map(_part, inner)), None)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "must be given"
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"`{number_text(value)}`"
    return f"`{value if isinstance(value, str) else json.dumps(value)}`" if value != "" else "empty"


def _values(schema: Mapping[str, Any]) -> Iterator[str]:
    """What a value may be, in words, of its JSON schema."""
    for choice in schema.get("anyOf", ()):
        yield from _values(choice)
    if "enum" in schema or "const" in schema:
        yield ", ".join(f"`{one}`" for one in schema.get("enum", [schema.get("const")]))
    elif (kind := schema.get("type")) == "null":
        yield "none"
    elif kind == "array":
        yield f"list of {' or '.join(dict.fromkeys(_values(schema.get('items', {})))) or 'values'}"
    elif kind in _WORDS:
        yield _WORDS[kind]


_WORDS = {
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "string": "text",
    "object": "mapping",
}

_LIMITS = {"ge": "from {}", "gt": "over {}", "le": "to {}", "lt": "under {}"}


def _bounds(limits: Mapping[str, Any]) -> str:
    """Those that a reader may meet: no seed comes to 2^63."""
    return "".join(
        f" {text.format(f'{limits[key]:g}')}" for key, text in _LIMITS.items() if limits.get(key, 1e18) < 1e15
    )


def sources() -> dict[str, str]:
    """What the short names of sources in the descriptions stand for."""
    found = re.findall(r"^    \[(\w+)\]\s+(.*)$", trainers.config.__doc__ or "", re.MULTILINE)
    return {name: text.strip() for name, text in found}


def presets_page() -> str:
    """What each preset sets, and where in its paper's code that stands."""
    parts = [
        "# Presets",
        "`trial: {preset: NAME}` sets all of these; what is set beside it wins. A source is the argument or the "
        "function of the paper's code that sets the value. [What presets are for](../recipes.md#presets).",
    ]
    for name, preset in PRESETS.items():
        rows = [[f"`{key}`", f"`{_shown(value)}`", plain(source)] for key, (value, source) in preset.values.items()]
        parts += [
            f"## `{name}`",
            f"{plain(preset.paper)}. Code: {plain(preset.code)}.",
            table(("key", "value", "source"), rows),
        ]
        for data, values in preset.on.items():
            said = ", ".join(f"`{key}` {_shown(value)} ({plain(source)})" for key, (value, source) in values.items())
            parts.append(f"On `{data}`: {said}.")
        if preset.lacks:
            parts.append(f"Of its code no key says: {plain('; '.join(preset.lacks))}.")
    return "\n\n".join(parts) + "\n"


def _shown(value: Any) -> str:
    return number_text(value) if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)


# Commands


def commands_page() -> str:
    """Every command with its options, as `--help` has them."""
    parts = [
        "# Commands",
        plain(main.help or ""),
        "Each has `--help`. [Exit codes, and how a launch goes on](../running.md#exit-codes).",
    ]
    for name, command in sorted(leaves(main)):
        context = click.Context(command, info_name=f"sweep {name}", **main.context_settings)
        parts += [f"## `sweep {name}`", f"```text\n{command.get_usage(context).removeprefix('Usage: ')}\n```"]
        parts += _paragraphs(command.help)
        if rows := [_option(option, context) for option in command.params if isinstance(option, click.Option)]:
            parts.append(table(("option", "what it is"), rows))
        parts += _paragraphs(command.epilog)
    return "\n\n".join(parts) + "\n"


def leaves(group: click.Group, before: str = "") -> Iterator[tuple[str, click.Command]]:
    """Every command of a group that is no group itself, with its name behind `sweep`."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from leaves(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


def _paragraphs(text: str | None) -> list[str]:
    """A help text; what click is told not to wrap (a line of \\b before it) is shown as it stands."""
    parts = re.split(r"\n\s*\n", inspect.cleandoc(text or ""))
    return [_unwrapped(part[2:]) if part.startswith("\b\n") else plain(part) for part in parts if part]


def _unwrapped(text: str) -> str:
    head, _, lines = text.partition("\n")
    if head == "Examples:":
        return f"Examples:\n\n```sh\n{inspect.cleandoc(lines)}\n```"
    return f"```text\n{text}\n```"


def _option(option: click.Option, context: click.Context) -> list[str]:
    names, meaning = option.get_help_record(context) or ("", "")
    return [f"`{names}`".replace("|", "\\|"), plain(meaning)]


# Records


def records_page() -> str:
    """Every kind of line of records.jsonl, key by key."""
    said, meanings = dict(_kinds_in_words()), _meanings()
    parts = [
        "# Records",
        "`records.jsonl` holds a JSON object a line, appended by one writer: the only thing that analysis reads. A key "
        "in bold must be there. A kind or a key that is not known here was written by newer code: readers warn of it.",
    ]
    for kind in REQUIRED:
        rows = [
            [f"**`{key}`**" if key in REQUIRED[kind] else f"`{key}`", plain(rule.words), meanings[kind].get(key, "")]
            for key, rule in FORMS[kind].items()
        ]
        parts += [f"## `{kind}`", plain(said.get(kind, "")), table(("key", "holds", "meaning"), rows)]
    return "\n\n".join(parts) + "\n"


def _kinds_in_words() -> Iterator[tuple[str, str]]:
    """What the reader's own docstring says of each kind."""
    import trainers.record

    block = re.search(r"\n\n((?:    .+\n)+)", trainers.record.__doc__ or "")
    for one in re.split(r"\n    (?=\w)", f"\n{block[1]}" if block else "")[1:]:
        kind, _, text = one.partition(" ")
        yield kind, text


def _meanings() -> dict[str, dict[str, str]]:
    """By kind what the records' own attributes say of each key: the text below it, in the source."""
    tree = ast.parse(inspect.getsource(kinds))
    texts = {node.name: dict(_attribute_texts(node)) for node in tree.body if isinstance(node, ast.ClassDef)}
    found = {kind: texts.get(f"{kind.capitalize()}Record", {}) for kind in REQUIRED}
    return found | {"outcome": texts["OutcomeRecord"] | texts["PrunedRecord"]}


def _attribute_texts(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for one, after in zip(node.body, node.body[1:], strict=False):
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name) and isinstance(after, ast.Expr):
            yield one.target.id, plain(str(ast.literal_eval(after.value)))


# Frames and Python


def frames_page() -> str:
    """The columns of the frames of trials and epochs; the others' are in their functions' docstrings."""
    epoch = [[f"`{key}`", plain(rule.words), _meanings()["epoch"].get(key, "")] for key, rule in FORMS["epoch"].items()]
    trial = [[f"`{name}`" if name.islower() else name, plain(text)] for name, text in TRIAL_COLUMNS.items()]
    return (
        "\n\n".join(
            [
                "# Columns of the frames",
                "`analysis.load_trials` has a row a trial, `load_epochs` a row an epoch. `sweep results --format csv` "
                "and `--epochs` write the same. The other frames: [Python](python.md).",
                "## Trials",
                table(("column", "what it is"), trial),
                "With several objectives there is `pareto` too: True, False, or empty where the cell cannot be judged.",
                "## Epochs",
                "`trial_id`, `method`, `seed`, the axes, `lr_batch_ratio` and `outcome` as above, then what the "
                "epoch's record holds but for `right` and `time`. train\\_ accuracies are running means over the "
                "epoch's batches, each seen before its update; val\\_ and test\\_ ones are measured after the epoch, "
                "in eval mode.",
                table(("column", "holds", "what it is"), epoch),
            ]
        )
        + "\n"
    )


def python_page() -> str:
    """Every name that a user imports, with its docstring."""
    parts = [
        "# Python",
        "What a user imports. Shapes, units and sources are in each docstring. "
        "Examples: [results](../results.md#in-python).",
    ]
    for package, purpose in PACKAGES.items():
        names = getattr(import_module(package), "__all__", [])
        if names:
            parts += [f"## `{package}`", f"To {purpose}." if package == "sweep" else f"For {purpose}."]
        for name in sorted(names, key=str.lower):
            parts += _named(package, name)
    parts += ["## What is raised", _described("exception", "trainers.errors.UserError")]
    return "\n\n".join(parts) + "\n"


def _named(package: str, name: str) -> list[str]:
    """A name with its docstring; of another name for a class, that of the class."""
    thing = getattr(import_module(package), name)
    if not isinstance(thing, type):
        return [_described("function", f"{package}.{name}")]
    if thing.__name__ == name:
        return [_described("class", f"{package}.{name}")]
    return [f"`{package}.{name}` is", _described("class", f"{thing.__module__}.{thing.__name__}")]


def _described(kind: str, name: str) -> str:
    return f"```{{eval-rst}}\n.. auto{kind}:: {name}\n```"


if __name__ == "__main__":
    write(Path(sys.argv[1]))
