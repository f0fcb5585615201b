"""What a sweep chooses by: one objective or several, each with the direction in which it is better."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, TypeAdapter, model_validator

from trainers.fields import Frozen

#: Measured on the validation split, never on the test set.
Metric = Literal["val_robust", "val_clean", "val_robust_loss", "val_clean_loss"]

#: Of several objectives one may be what a trial costs: no epoch's metric, but of the whole trial.
SECONDS = "seconds"


class Objective(Frozen):
    """What is measured of a trial, and whether more or less of it is better."""

    name: Literal[Metric, "seconds"] = Field(
        description="A validation metric at the last epoch; seconds: what the whole trial took, training, compiling, "
        "evaluation, checkpoints and measuring, as `sweep results` shows it."
    )
    mode: Literal["max", "min"] = Field(description="max for an accuracy, min for a loss and for seconds.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.mode == "max") == self.name.endswith(("loss", SECONDS)):
            raise ValueError(f"mode: must be {'min' if self.mode == 'max' else 'max'} for {self.name}")
        return self

    @property
    def worst(self) -> float:
        """That of a trial which diverged: no accuracy, and a loss, or a cost, that none can beat."""
        return 0.0 if self.mode == "max" else float("inf")


def metric_or_list(value: Any) -> Any:
    """The `metric` of a sweep: a name, or a list of objectives, each named once, the first a validation metric.

    Raises:
        ValueError: it is neither.
    """
    if not isinstance(value, list | tuple):
        return _NAME.validate_python(value)
    objectives = _LIST.validate_python(list(value))
    names = [one.name for one in objectives]
    if len(set(names)) < len(names):
        raise ValueError(f"each objective once, got {', '.join(names)}")
    if names[:1] == [SECONDS]:
        raise ValueError(
            "the first objective chooses the best cells, and seconds cannot; name a validation metric first"
        )
    return objectives


_NAME: TypeAdapter[str] = TypeAdapter(Metric)
_LIST = TypeAdapter(Annotated[tuple[Objective, ...], Field(min_length=1)])
