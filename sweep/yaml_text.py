"""YAML text <-> plain values, so that a number is read as a person reads it, or refused.

PyYAML follows YAML 1.1, where 010 is 8, 1:30 is 90, and no, off and 2024-01-01 are no text. Here numbers have decimal
digits alone, only true and false are truth values, and days are text, as in YAML 1.2 (https://yaml.org/spec/1.2.2,
section 10.3.2). What is written here reads the same under either.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import yaml

from trainers.visible import brief

_INT, _FLOAT, _BOOL = (f"tag:yaml.org,2002:{kind}" for kind in ("int", "float", "bool"))
#: Of YAML 1.1 alone: yes, no, on, off; days; and = as a value of its own.
_DROPPED = (_BOOL, "tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:value")
#: Those that a text may name.
_TAGS = (None, "!", _INT, _FLOAT, "tag:yaml.org,2002:str")
_CIRCLE = "an alias (*name) holds itself; write its values out"
#: What YAML 1.1 takes for a number that is one to everybody.
_PLAIN = re.compile(r"[-+]?(0|[1-9][0-9]*|[0-9]+\.[0-9]*([eE][-+][0-9]+)?)|\.[0-9]+([eE][-+][0-9]+)?|[-+]?\.[a-zA-Z]+")


#: Characters of a text, and of what its aliases write out: a thousand times what a sweep needs, read in seconds.
LONGEST = 1_000_000

#: Lists and mappings within each other.
DEEPEST = 100

#: Characters of a number, mappings that one merges, and a hundred times as many keys.
_MOST = 400


class Misread(yaml.MarkedYAMLError):
    """A number that YAML reads as another one than a person, or readers differently."""


class _Loader(yaml.SafeLoader):
    """YAML's safe loader; a key that stands twice is an error, too: the first would be lost in silence."""

    yaml_implicit_resolvers = {  # noqa: RUF012 (PyYAML's own attribute)
        first: [(tag, pattern) for tag, pattern in pairs if tag not in _DROPPED]
        for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    _depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if self._depth == DEEPEST:
            raise Misread(None, None, f"lists or mappings stand {DEEPEST} deep in each other", event.start_mark)
        if (tag := getattr(event, "tag", None)) not in _TAGS:
            raise Misread(None, None, f"the tag {tag}: no value has one; leave it out", event.start_mark)
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        merged = [value.value for key, value in node.value if key.tag == "tag:yaml.org,2002:merge"]
        if len(merged) == 0:
            super().flatten_mapping(node)
            return
        if max(map(len, merged)) <= _MOST:
            super().flatten_mapping(node)
            if len(node.value) <= _MOST:
                return
        raise Misread(None, None, f"<<: merges more than {_MOST} keys", node.start_mark)

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                raise yaml.composer.ComposerError(
                    None, None, f"duplicate key {key.value!r}: give each key once", key.start_mark
                )
            seen.add(key.value)
        return node

    def number(self, node: yaml.ScalarNode) -> float:
        """The number, where there are no two opinions of it.

        Raises:
            Misread: there are.
        """
        if len(node.value) > _MOST:
            raise Misread(None, None, f"a number of {len(node.value)} characters, which no key takes", node.start_mark)
        if not _PLAIN.fullmatch(node.value):
            resolved: Any = self.resolve(yaml.ScalarNode, node.value, (True, False))  # type: ignore[no-untyped-call]
            if resolved not in (_INT, _FLOAT):
                raise Misread(None, None, f"{brief(node.value)} is no number; leave its tag out", node.start_mark)
            raise Misread(None, None, _two_opinions(node.value), node.start_mark)
        read = self.construct_yaml_int if node.tag == _INT else self.construct_yaml_float
        number: float = read(node)
        return number


class _Dumper(yaml.SafeDumper):
    """YAML's safe dumper, but text that the loader above refuses as a number stands in quotes."""


_Loader.add_implicit_resolver(_BOOL, re.compile(r"(true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
for _end in (_Loader, _Dumper):  # 008 is text in YAML 1.1, and 8 to a person; 010 is a number already
    _end.add_implicit_resolver(_INT, re.compile(r"[-+]?0[0-9_]+$"), list("-+0"))
for _tag in (_INT, _FLOAT):
    _Loader.add_constructor(_tag, _Loader.number)


def _two_opinions(text: str) -> str:
    if re.fullmatch(r"[-+]?0[0-9_]+", text):
        meant, why = int(text.replace("_", "")), "a leading zero makes a number octal for some readers of YAML"
    else:
        meant, why = yaml.safe_load(text), "readers of YAML differ on it"
    return f"{text}: {why}; write {meant} if that is meant, or {text!r} in quotes for text"


def parsed(text: str) -> Any:
    """The plain values that a YAML text stands for.

    >>> parsed("{a: [1, 0.5, 1.0e-3], b: no, c: 2024-01-01, d: true}")
    {'a': [1, 0.5, 0.001], 'b': 'no', 'c': '2024-01-01', 'd': True}

    Raises:
        Misread: a number that readers of YAML read differently.
        yaml.YAMLError: no YAML, or a key that stands twice.
        ValueError: an alias that holds itself, or a text, or what its aliases stand for, that is too long.
    """
    if len(text) > LONGEST:
        raise ValueError(f"longer than {LONGEST:,} characters")
    try:
        values = yaml.load(text, Loader=_Loader)
    except RecursionError:
        raise ValueError(_CIRCLE) from None
    if _size(values, {}, ()).length > LONGEST:
        raise ValueError(f"its aliases (*name) stand for more than {LONGEST:,} characters")
    return values


class _Size(NamedTuple):
    """Of a value that is written out, each alias of it anew: about how many characters, and how deep."""

    length: int
    depth: int


def _size(value: Any, known: dict[int, _Size], above: tuple[int, ...]) -> _Size:
    """The size of a value.

    Raises:
        ValueError: it holds itself, or aliases make it too deep.
    """
    if not isinstance(value, (dict, list)):
        return _Size(len(value) if isinstance(value, str) else 1, 0)
    if id(value) in above:
        raise ValueError(_CIRCLE)
    if id(value) not in known:
        parts = [*value, *value.values()] if isinstance(value, dict) else value
        sizes = [_size(part, known, (*above, id(value))) for part in parts]
        known[id(value)] = _Size(2 + sum(one.length for one in sizes), 1 + max((one.depth for one in sizes), default=0))
    if len(above) + known[id(value)].depth > DEEPEST:
        raise ValueError(f"its aliases (*name) stand over {DEEPEST} deep in each other")
    return known[id(value)]


def written(values: Any) -> str:
    """Plain values as YAML text, which `parsed` and any other reader of YAML read back as the same."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
