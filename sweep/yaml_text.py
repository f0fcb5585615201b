"""YAML text <-> plain values, so that a number is read as a person reads it, or refused.

PyYAML follows YAML 1.1, where 010 is 8, 1:30 is 90, and no, off and 2024-01-01 are no text. Here numbers have decimal
digits alone, only true and false are truth values, and days are text, as in YAML 1.2 (https://yaml.org/spec/1.2.2,
section 10.3.2). What is written here reads the same under either.
"""

from __future__ import annotations

import json
import re
from typing import Any

import yaml

_INT, _FLOAT, _BOOL = (f"tag:yaml.org,2002:{kind}" for kind in ("int", "float", "bool"))
#: Of YAML 1.1 alone: yes, no, on, off; days; and = as a value of its own.
_DROPPED = (_BOOL, "tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:value")
#: What YAML 1.1 takes for a number that is one to everybody.
_PLAIN = re.compile(r"[-+]?(0|[1-9][0-9]*|[0-9]+\.[0-9]*([eE][-+][0-9]+)?)|\.[0-9]+([eE][-+][0-9]+)?|[-+]?\.[a-zA-Z]+")


class Misread(yaml.MarkedYAMLError):
    """A number that YAML reads as another one than a person, or readers differently."""


class _Loader(yaml.SafeLoader):
    """YAML's safe loader; a key that stands twice is an error, too: the first would be lost in silence."""

    yaml_implicit_resolvers = {  # noqa: RUF012 (PyYAML's own attribute)
        first: [(tag, pattern) for tag, pattern in pairs if tag not in _DROPPED]
        for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

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
        if not _PLAIN.fullmatch(node.value):
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
        ValueError: an alias that holds itself.
    """
    values = yaml.load(text, Loader=_Loader)
    try:
        json.dumps(values, default=str)
    except (ValueError, RecursionError):
        raise ValueError("an alias (*name) holds itself; write its values out") from None
    return values


def written(values: Any) -> str:
    """Plain values as YAML text, which `parsed` and any other reader of YAML read back as the same."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
