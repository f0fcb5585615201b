"""YAML: a number is what a person reads, or refused; what is written is read back by everybody."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from sweep.yaml_text import Misread, parsed, written
from trainers.fields import parse_number

READ = {
    **{"0": 0, "-0": 0, "+5": 5, "128": 128, "-3": -3},
    **{"0.1": 0.1, "5.": 5.0, ".5": 0.5, "00.5": 0.5, "08.5": 8.5, "1.0e-05": 1e-5, "-2.5e+3": -2500.0},
    **{".inf": float("inf"), "-.inf": float("-inf")},
    **{"true": True, "False": False, "~": None, "null": None, "": None},
    **{text: text for text in ("yes", "no", "on", "off", "No", "y", "n", "=", "none", "inf", "nan")},
    **{text: text for text in ("2024-01-01", "2024-13-45", "2001-12-14t21:59:43.10-05:00", "08:30", "0o17", "1,000")},
}


@pytest.mark.parametrize(("text", "value"), READ.items())
def test_plain_text_is_what_a_person_reads(text: str, value: Any) -> None:
    found = parsed(text)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "value"), {"8/255": 8 / 255, "1e3": 1e3, "1.5e3": 1500.0, "-.5": -0.5, "010/255": 10 / 255}.items()
)
def test_numbers_that_yaml_leaves_as_text_are_read_as_the_same_by_their_keys(text: str, value: float) -> None:
    assert parsed(text) == text
    assert parse_number(text) == value


@pytest.mark.parametrize(
    ("text", "meant"),
    {
        **{"008": "8", "016": "16", "010": "10", "000": "0", "-010": "-10", "+07": "7", "0_7": "7", "0_": "0"},
        **{"1_000": "1000", "1_": "1", "2024_01_01": "20240101", "1_0.5": "10.5", "0.1_": "0.1", ".5_": "0.5"},
        **{"0x10": "16", "-0x1f": "-31", "0b11": "3", "1:30": "90", "190:20:30": "685230", "1:30.5": "90.5"},
        **{"!!int 010": "10", "!!int 1:30": "90"},
    }.items(),
)
def test_a_number_of_which_there_are_two_readings_is_refused_with_what_to_write(text: str, meant: str) -> None:
    with pytest.raises(Misread) as caught:
        parsed(f"a: 1\nb: [{text}]")
    assert f"; write {meant} if that is meant, or " in str(caught.value.problem)
    assert caught.value.problem_mark is not None
    assert caught.value.problem_mark.line == 1


def test_the_lists_that_were_read_as_octal_are_refused() -> None:
    for text in ("batch_size: [008, 016, 032, 064]", "seeds: [000, 001, 010]", "weight_decay: [0,001]"):
        with pytest.raises(Misread, match="a leading zero makes a number octal"):
            parsed(text)


TEXTS = [*READ, "8/255", "1e3", "008", "016", "1_000", "1:30", "0x10", "<<", ".nan", " a", "a: b", "# a", "- a", "ä\n"]


@pytest.mark.parametrize("reader", [parsed, yaml.safe_load])
@pytest.mark.parametrize("text", TEXTS)
def test_text_is_written_so_that_every_reader_gives_it_back(text: str, reader: Any) -> None:
    assert reader(written({"a": [text], text: 1})) == {"a": [text], text: 1}


@pytest.mark.parametrize("reader", [parsed, yaml.safe_load])
@pytest.mark.parametrize("value", [0, -7, 10**20, 1e-5, 1e16, 0.1, 1 / 3, 5e-324, -0.0, 1e300, True, None, [], {}])
def test_values_are_written_so_that_every_reader_gives_them_back(value: Any, reader: Any) -> None:
    found = reader(written([value]))
    assert repr(found) == repr([value])
