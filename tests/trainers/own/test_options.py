"""The options of a user's own code are those of its signature."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from trainers.config import ModelConfig
from trainers.errors import UserError
from trainers.own.options import arguments

GIVEN = {"num_classes": 10, "channels": 1, "image_size": (8, 8)}


class Options(BaseModel):
    width: int = 3
    names: list[str] = []


class Net:
    def __init__(
        self,
        num_classes: int,
        width: int,
        *,
        rate: float = 0.5,
        kind: Literal["a", "b"] = "a",
        sizes: tuple[int, ...] = (),
    ) -> None: ...


def together(num_classes: int, options: Options) -> None: ...


def free(**values: Any) -> None: ...


def half_free(channels: int, **values: Any) -> None: ...


def read(target: Any, **options: Any) -> dict[str, Any]:
    return arguments(target, ModelConfig.model_validate({"name": "./n.py:N", **options}), "model", GIVEN)


def test_what_the_sweep_offers_is_passed_where_the_signature_has_it() -> None:
    assert read(Net, width=2) == {"num_classes": 10, "width": 2}
    assert read(free, width=2) == read(half_free, width=2) == {**GIVEN, "width": 2}


def test_values_are_read_by_their_annotations() -> None:
    assert read(Net, width=2, rate="1e-3", sizes=[1, 2], kind="b") == {
        "num_classes": 10, "width": 2, "rate": 0.001, "sizes": (1, 2), "kind": "b",
    }  # fmt: skip


@pytest.mark.parametrize("value", ["01", "0123", "2024/05", "1.10", "3"])
def test_text_stays_text_where_it_may_stand(value: str) -> None:
    def load(fold: str, kind: str | int = "", folds: tuple[str, ...] = (), anything: Any = None) -> None: ...

    options = {"fold": value, "kind": value, "folds": [value]}
    assert read(load, **options) == options | {"folds": (value,)}


def test_text_is_a_number_where_only_a_number_may_stand_in_lists_too() -> None:
    def adam(rate: float, size: int, betas: tuple[float, float], steps: list[int], plain=0, more=()) -> None: ...  # type: ignore[no-untyped-def]

    options = {"rate": "8/255", "size": "16", "betas": [0.9, "1e-3"], "steps": ["3"], "plain": "3", "more": ["1e-3"]}
    assert read(adam, **options) == {
        "rate": 8 / 255, "size": 16, "betas": (0.9, 0.001), "steps": [3], "plain": 3.0, "more": ["1e-3"],
    }  # fmt: skip


def test_without_an_annotation_text_that_begins_with_0_and_a_digit_stays_text() -> None:
    texts = {"a": "01", "b": "0123", "c": "2024/05", "d": "-007"}
    assert read(free, **texts) == {**GIVEN, **texts}


def test_a_trials_identity_holds_what_yaml_leaves_text_as_the_number(tmp_path: Path) -> None:
    def kept(value: Any) -> Any:
        return ModelConfig.model_validate({"name": "./n.py:N", "x": value}).options["x"]

    assert [kept(value) for value in ("1e-4", "8/255", "1.5e3", 3, 0.5)] == [1e-4, 8 / 255, 1500.0, 3, 0.5]
    assert [kept(value) for value in ("3", "0.5", ["1e-3"])] == ["3", "0.5", ["1e-3"]]


def test_one_parameter_that_is_a_pydantic_model_takes_all_options() -> None:
    assert read(together, width=4, names=["x"]) == {"num_classes": 10, "options": Options(width=4, names=["x"])}
    with pytest.raises(UserError, match=r"^model\.width: must be a whole number, got 'wide'$"):
        read(together, width="wide")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"widht": 2}, "model.widht: ./n.py:N has no such option; did you mean 'width'?"),
        ({}, "model.width: ./n.py:N needs it, for it has no default; set it"),
        ({"width": 2.5}, "model.width: must be a valid integer, got 2.5"),
        ({"width": True}, "model.width: must be a valid integer, got True"),
        ({"width": 2, "kind": "c"}, "model.kind: must be 'a' or 'b', got 'c'"),
        ({"width": 2, "num_classes": 3}, "model.num_classes: is given to ./n.py:N by the sweep, "),
    ],
)  # fmt: skip
def test_other_options_are_refused_in_one_line(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as caught:
        read(Net, **options)
    assert str(caught.value).startswith(said)


def test_a_key_of_a_built_in_choice_alone_is_an_option_of_ones_own(tmp_path: Path) -> None:
    from trainers.config import ObjectiveConfig

    own = ObjectiveConfig.model_validate({"name": "./n.py:N", "beta": 2.0, "vertex": 2.0})
    assert own.options == {"beta": 2.0, "vertex": 2.0}
    assert ObjectiveConfig.model_validate(own.model_dump()) == own
    assert ObjectiveConfig.model_validate({"name": "./n.py:N"}).options == {}


def test_what_a_papers_own_choice_alone_reads_is_no_option_of_ones_own() -> None:
    from trainers.config import TrialConfig

    own = {part: {"name": "./n.py:N"} for part in ("model", "objective", "optimizer", "schedule")}
    trial = TrialConfig.model_validate({"preset": "trades", **own})
    assert [getattr(trial, part).options for part in own] == [{}] * 4
    assert trial.optimizer.weight_decay == TrialConfig(preset="trades").optimizer.weight_decay
