"""Mutants: a file with one mechanical fault. Which there are, and a sample of them.

A fault is an operator of cosmic-ray, or one of the four below, at one place. Left out is what is no fault: annotations,
assertions, `@overload`, text (f-strings), and keywords that only check (`strict`, `frozen`).
"""

from __future__ import annotations

import ast
import difflib
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Operator
from cosmic_ray.operators.provider import OperatorProvider
from parso.python.tree import Name
from parso.tree import NodeOrLeaf

#: Characters shown before and after a change.
AROUND = 60

Changes = Iterator[tuple[NodeOrLeaf, str]]
"""Of a node: where each change begins, and the text that takes the node's place."""
Faults = dict[int, dict[tuple[int, int], list[tuple[str, int]]]]
"""Line -> place -> (operator, which of its occurrences in the file)."""


class Rewrite(Operator):
    """An operator that puts text in place of a node."""

    def __init__(self, changes: Callable[[NodeOrLeaf], Changes]) -> None:
        self._changes = changes

    def mutation_positions(self, node: NodeOrLeaf) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
        """Where its changes begin and end."""
        for place, _ in self._changes(node):
            yield place.start_pos, place.end_pos

    def mutate(self, node: NodeOrLeaf, index: int) -> NodeOrLeaf:
        """The text, after the same white space."""
        return Name(list(self._changes(node))[index][1], node.start_pos, prefix=node.get_first_leaf().prefix)

    @classmethod
    def examples(cls) -> tuple[()]:
        """None: the tests have them."""
        return ()


def force_condition(node: NodeOrLeaf) -> Changes:
    """Takes one arm of an `if`, of a conditional expression or of a comprehension's filter; skips a `while`."""
    before = getattr(node.get_previous_sibling(), "value", "") if node.parent else ""
    for value in {"if": ("True", "False"), "elif": ("True", "False"), "while": ("False",)}.get(before, ()):
        yield node, value


def delete_statement(node: NodeOrLeaf) -> Changes:
    """Leaves out a call, an update in place, or the setting of an attribute or item."""
    if node.parent is None or node.parent.type != "simple_stmt":
        return
    sets = node.type == "expr_stmt" and node.children[1].type == "operator"
    local = sets and node.children[1].value == "=" and node.children[0].type not in ("atom_expr", "power")
    if node.type in ("atom_expr", "power") or (sets and not local):
        yield node, "pass"


def swap_name(node: NodeOrLeaf) -> Changes:
    """Calls the counterpart of a function."""
    pairs = (("min", "max"), ("any", "all"), ("minimum", "maximum"), ("floor", "ceil"), ("mean", "sum"))
    for one, other in (*pairs, *(pair[::-1] for pair in pairs)):
        if node.type == "name" and node.value == one and node.get_next_leaf().value == "(":
            yield node, other


def change_arguments(node: NodeOrLeaf) -> Changes:
    """Leaves out a keyword argument, or swaps two positional ones next to each other that are written alike."""
    given = node.children[::2] if node.type == "arglist" else []
    texts = [one.get_code(include_prefix=False) for one in given]
    for index, one in enumerate(given):
        after = index + 1
        if one.type == "argument" and "=" in one.children:
            yield one, ", ".join(texts[:index] + texts[after:])
        elif after < len(given) and one.type == given[after].type != "string":
            yield one, ", ".join([*texts[:index], texts[after], texts[index], *texts[after + 1 :]])


def operators() -> dict[str, Operator]:
    """All, by name.

    Of cosmic-ray's that exchange an operator, only those for one of its own kind: any test sees `<<` for `-`.
    """
    kinds = ("Add Sub Mul Div FloorDiv Mod Pow", "BitOr BitAnd BitXor", "Eq NotEq Lt LtE Gt GtE", "Is IsNot")
    own = (force_condition, delete_statement, swap_name, change_arguments)
    found: dict[str, Operator] = {function.__name__: Rewrite(function) for function in own}
    provider = OperatorProvider()
    for name in provider:
        cls = provider[name]
        kind, *two = name.split("_")
        exchanges = kind in ("ReplaceBinaryOperator", "ReplaceComparisonOperator")
        if not cls.arguments() and (not exchanges or any(set(two) <= set(each.split()) for each in kinds)):
            found[name] = cls()
    return found


def _left_out(source: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """From where to where no fault is planted, as (line, column) from 1 and 0."""
    nodes: list[Any] = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Assert() | ast.JoinedStr() | ast.Import() | ast.ImportFrom():
                nodes.append(node)
            case ast.keyword(arg="strict" | "frozen"):
                nodes.append(node)
            case ast.arg(annotation=ast.expr() as one) | ast.AnnAssign(annotation=one):
                nodes.append(one)
            case ast.FunctionDef(decorator_list=[ast.Name(id="overload") as decorator]):
                node.lineno, node.col_offset = decorator.lineno, decorator.col_offset - 1  # from its @ on
                nodes.append(node)
            case ast.FunctionDef(returns=ast.expr() as one):
                nodes.append(one)
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                nodes.append(node)
    lines = source.splitlines()

    def place(line: int, offset: int) -> tuple[int, int]:
        return line, len(lines[line - 1].encode()[:offset].decode())

    return [(place(n.lineno, n.col_offset), place(n.end_lineno, n.end_col_offset)) for n in nodes]


def faults(source: str) -> Faults:
    """All that can be planted in a file."""
    left_out, nodes, found = _left_out(source), list(ast_nodes(get_ast(source))), Faults()
    for name, operator in operators().items():
        places = [(start, node) for node in nodes for start, _ in operator.mutation_positions(node)]
        for occurrence, (place, node) in enumerate(places):
            marker = node.parent is not None and node.parent.type == "parameters"  # the `*` before keywords
            if not marker and not any(start <= place < end for start, end in left_out):
                found.setdefault(place[0], {}).setdefault(place, []).append((name, occurrence))
    return found


@dataclass(frozen=True)
class Mutant:
    """A file with one fault."""

    file: str
    line: int
    operator: str
    source: str
    diff: tuple[str, ...]

    def __str__(self) -> str:
        """Its place, and the lines that it changes, without what stays the same far from the change."""
        old, new = (" ".join(line[1:].strip() for line in self.diff if line[0] == sign) for sign in "-+")
        start = max(_common(old, new) - AROUND, 0)
        end = max(_common(old[:start:-1], new[:start:-1]) - AROUND, 0)
        old, new = (f"{'…' * (start > 0)}{text[start : len(text) - end]}{'…' * (end > 0)}" for text in (old, new))
        return f"{self.file}:{self.line}: {self.operator}: {old} -> {new}"


def _common(one: str, other: str) -> int:
    """How many characters they begin with are the same."""
    return next((index for index, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), 0)


def drawn(sources: Mapping[str, str], seed: int, count: int) -> Iterator[Mutant]:
    """So many different mutants, or all there are."""
    rng, known, all_operators = random.Random(seed), {file: {source} for file, source in sources.items()}, operators()
    trees = {file: ast.dump(ast.parse(source)) for file, source in sources.items()}
    places = {(file, line): found for file in sources for line, found in faults(sources[file]).items()}
    while count and places:
        file, line = where = rng.choice(list(places))
        place = rng.choice(list(places[where]))
        operator, occurrence = places[where][place].pop(rng.randrange(len(places[where][place])))
        places[where] = {key: left for key, left in places[where].items() if left}
        places = {key: found for key, found in places.items() if found}
        mutated = mutate_code(sources[file], all_operators[operator], occurrence)
        try:
            same = mutated in known[file] or ast.dump(ast.parse(mutated)) == trees[file]
            compile(mutated, file, "exec", dont_inherit=True)
        except SyntaxError:
            continue
        if not same:
            known[file].add(mutated)
            count -= 1
            lines = difflib.unified_diff(sources[file].splitlines(), mutated.splitlines(), lineterm="", n=0)
            yield Mutant(file, line, operator, mutated, tuple(list(lines)[2:]))
