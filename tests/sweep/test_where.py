"""The language of `where`: what it means, what it lets in, and that nothing hostile in it is executed or slow."""

from __future__ import annotations

import contextlib
import math
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweep.where import DEEPEST, LONGEST, Undefined, constraint

AT: dict[str, Any] = {
    "batch_size": 64,
    "optimizer.lr": 0.1,
    "optimizer.name": "sgd",
    "deterministic": True,
    "evaluation.radius": None,
    "schedule.milestones": [5, 7],
}


def holds(text: str, **at: Any) -> bool:
    return constraint(text).holds((AT | at).__getitem__)


@pytest.mark.parametrize(
    "text",
    [
        "batch_size * optimizer.lr <= 10",
        "batch_size == 64 and optimizer.lr < 0.2",
        "not batch_size > 64",
        "32 < batch_size <= 64",
        "optimizer.name == 'sgd' or optimizer.lr > 1",
        'optimizer.name != "deat"',
        "min(batch_size, 10, 3) == 3",
        "max(batch_size, 128) == 128",
        "abs(optimizer.lr - 1) < 0.95",
        "batch_size // 10 == 6 and batch_size % 10 == 4",
        "batch_size ** 0.5 == 8",
        "-batch_size < +1e-4",
        "deterministic",
        "deterministic == true",
        "evaluation.radius == none",
        "evaluation.radius == None or evaluation.radius < 1",
        "batch_size != none",
        "schedule.milestones != none",
        "  batch_size\n > 1",
    ],
)
def test_what_holds_there_holds(text: str) -> None:
    assert holds(text)
    assert not holds(f"not ({text.strip()})")


def test_numbers_equal_on_paper_are_equal() -> None:
    assert 3 * 0.1 > 0.3
    for sign in ("<=", "==", ">="):
        assert holds(f"3 * optimizer.lr {sign} 0.3")
    for sign in ("<", "!=", ">"):
        assert not holds(f"3 * optimizer.lr {sign} 0.3")


@settings(deadline=None)
@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.floats(0.001, 1e3))
def test_arithmetic_is_pythons(a: float, b: float, c: float) -> None:
    text = "(a.a + b.b) * c.c - a.a // c.c + b.b % c.c"
    expected = (a + b) * c - a // c + b % c
    difference = constraint(f"abs({text} - d.d) <= 0.001").holds(
        {"a.a": a, "b.b": b, "c.c": c, "d.d": expected}.__getitem__
    )
    assert difference


def test_a_constraint_knows_the_keys_that_it_reads_and_asks_only_for_those_that_decide() -> None:
    one = constraint("optimizer.name == 'deat' and optimizer.k1 * optimizer.k1 < 2")
    assert one.keys == ("optimizer.name", "optimizer.k1")
    assert not one.holds({"optimizer.name": "sgd"}.__getitem__)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optimizer.name < 3", "asks which is larger of text, 'sgd' and 3"),
        ("optimizer.name == 3", "compares text, 'sgd', with 3"),
        ("optimizer.name * 3 > 1", "reckons with text, 'sgd', which is no number"),
        ("deterministic + 1 > 1", "reckons with true, which is no number"),
        ("deterministic == 1", "compares true, with 1"),
        ("evaluation.radius < 3", "asks which is larger of none and 3"),
        ("batch_size", "is 64 where it must be true or false"),
        ("batch_size and true", "is 64 where it must be true or false"),
        ("1 / (batch_size - 64) > 0", "divides by zero"),
        ("batch_size % 0 > 0", "divides by zero"),
        ("9 ** 9 ** 9 ** 9 > batch_size", "has a number that is too large"),
        ("9 ** 9 ** batch_size > 1", "has a number that is too large"),
        ("1e308 * batch_size > 1", "has a number that is too large"),
        ("(-8) ** 0.5 > batch_size", "is no real number"),
        ("schedule.milestones > 3", "asks which is larger of 3 and a list, [5, 7]"),
    ],
)
def test_what_is_neither_true_nor_false_says_why(text: str, message: str) -> None:
    with pytest.raises(Undefined) as caught:
        holds(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "text",
    [
        *("__import__('os').system('true') == 0", "open('x')", "print(batch_size)", "min(batch_size)", "abs(1, 2)"),
        *("batch_size if true else 1", "[batch_size]", "batch_size in (1, 2)", "(lambda: 1)()", "x := batch_size"),
        *("batch_size.__class__()", "f'{batch_size}'", "b'a' == batch_size", "1j < batch_size", "... == batch_size"),
        *("batch_size @ 2 > 1", "batch_size << 9 > 1", "batch_size & 1", "~batch_size", "batch_size is none"),
        *("(1).real < batch_size", "min(*batch_size)", "min(1, key=batch_size)", "'a'.join(batch_size)"),
        *("", " ", "batch_size <", "1 < 2", "true", "batch_size = 3", "a; b", "import os", "\0", "batch_size < 1e999"),
        *("(" * 300 + "batch_size" + ")" * 300, "-" * 900 + "batch_size > 1", "not " * 200 + "batch_size"),
        *("batch_size > 1" + " and batch_size > 1" * 500, "[" * 400, "9" * 999 + " < batch_size"),
        "batch_size + " * (DEEPEST + 1) + "1 > 0",
    ],
)
def test_what_is_not_let_in_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        constraint(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700


#: What expressions are made of, and what they are not.
_TOKENS = st.sampled_from(
    [
        *"()+-*/%<>=,.'\"[]{}:;\\\n\0@~^&|!",
        *("**", "//", "<=", "==", "!=", " and ", " or ", "not ", "min(", "abs(", "9", "9**9", "1e308", "0x", "__"),
        *("batch_size", "optimizer.lr", "optimizer.name", "true", "none", "lambda ", "f'"),
    ]
)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("method = 'DEAT'", "=="),
        ('batch_size > 16 and method = "a == b"', "=="),
        ("batch_size =< 3", "<="),
        ("batch_size == == 3", ""),
        ("method == 'a=b' and", ""),
    ],
)
def test_a_sign_that_was_meant_otherwise_is_named(text: str, meant: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        constraint(text)
    assert str(caught.value).partition("; did you mean ")[2] == (f"{meant}?" if meant else "")


def test_a_constraint_knows_the_numbers_that_it_compares_its_keys_with() -> None:
    one = constraint("0.1 < optimizer.lr <= 50 and not (batch_size == 'a') or val_robust > 2 * 30")
    assert sorted(one.compared()) == [("optimizer.lr", 0.1), ("optimizer.lr", 50.0)]


@settings(deadline=None)
@given(st.lists(_TOKENS, max_size=40).map("".join) | st.text(max_size=LONGEST + 1))
def test_any_text_is_an_answer_or_one_line_at_once(text: str) -> None:
    start = time.process_time()
    with contextlib.suppress(ValueError):
        assert constraint(text).holds(lambda key: AT.get(key, math.pi)) in (True, False)
    assert time.process_time() - start < 1
