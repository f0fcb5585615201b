"""Who is told of a sweep while it runs: trackers, and a command of the user's. Nothing of it is part of a trial."""

from __future__ import annotations

import shlex
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from trainers.fields import Frozen, PathText, Whole
from trainers.visible import brief

TrackerName = Literal["tensorboard", "mlflow", "wandb", "trackio"]

TRACKERS: tuple[TrackerName, ...] = get_args(TrackerName)

#: What stands for the summary among the words of a notice's command.
SUMMARY = "{summary}"

#: Which keys are read by which trackers alone.
_OF = {
    "folder": ("tensorboard",),
    "project": ("mlflow", "wandb", "trackio"),
    "uri": ("mlflow",),
    "entity": ("wandb",),
    "mode": ("wandb",),
}


class TrackerConfig(Frozen):
    """A program beside the sweep that shows its trials, each as a run. Keys and passwords come by the environment."""

    name: TrackerName = Field(
        description="tensorboard: event files. mlflow: a server, or a file of SQLite. wandb: Weights & Biases. "
        "trackio: a database of this user's, which trackio's own page shows."
    )
    project: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._ -]{0,99}$",
        description="mlflow, wandb, trackio: under which name runs are kept; MLflow calls it an experiment. none: the "
        "sweep's name.",
    )
    folder: PathText | None = Field(
        None, description="tensorboard: where event files lie, as FOLDER/SWEEP/TRIAL. none: DIR/trackers/tensorboard."
    )
    uri: str | None = Field(
        None,
        min_length=1,
        description="mlflow: address of the server. none: MLFLOW_TRACKING_URI, or else the file "
        "DIR/trackers/mlflow/mlflow.db.",
    )
    entity: str | None = Field(
        None, min_length=1, description="wandb: the user or team whose project it is. none: your own default."
    )
    mode: Literal["online", "offline"] | None = Field(
        None,
        description="wandb: offline: files in DIR/trackers/wandb, which `wandb sync` sends later. none: WANDB_MODE, or "
        "else online.",
    )

    @model_validator(mode="after")
    def _read(self) -> Self:
        for key, names in _OF.items():
            if getattr(self, key) is not None and self.name not in names:
                raise ValueError(f"{key}: is read by {' and '.join(names)}, and name is {self.name}; leave it out")
        return self


class NotifyConfig(Frozen):
    """A command that tells somebody how the sweep goes."""

    command: str = Field(
        description=f"Run without a shell; {SUMMARY} stands for a line that says how the sweep went, always one word."
    )
    after_failures: Whole | None = Field(
        None, ge=1, description="Run as well once so many trials of a launch have failed. none: at its end alone."
    )

    @field_validator("command")
    @classmethod
    def _words(cls, command: str) -> str:
        try:
            words = shlex.split(command)
        except ValueError as error:
            raise ValueError(f"must be a command, got {brief(command)}: {str(error).lower()}") from None
        if not words:
            raise ValueError("must be a command, got no word")
        if SUMMARY in words[0]:
            raise ValueError(f"must begin with a program, got {SUMMARY}")
        return command

    def words(self, summary: str) -> list[str]:
        """The command's words with the summary in its place.

        >>> NotifyConfig(command="mail -s 'sweep: {summary}' me").words("2 failed; rm -r /")
        ['mail', '-s', 'sweep: 2 failed; rm -r /', 'me']
        """
        return [word.replace(SUMMARY, summary) for word in shlex.split(self.command)]


def _named(value: Any) -> Any:
    """A name alone is a tracker with nothing set."""
    return {"name": value} if isinstance(value, str) else value


def _listed(value: Any) -> Any:
    if isinstance(value, str | dict):
        raise ValueError(f"must be a list such as [tensorboard, {{name: mlflow}}], got {brief(value)}")
    return value


def _once(trackers: tuple[TrackerConfig, ...]) -> tuple[TrackerConfig, ...]:
    names = [one.name for one in trackers]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"each once, got {twice} twice; keep one of the two")
    return trackers


def _commanded(value: Any) -> Any:
    """Words alone are a command."""
    if isinstance(value, str):
        return {"command": value}
    if value is None or isinstance(value, dict | NotifyConfig):
        return value
    raise ValueError(f"must be a command, or a mapping such as {{command: ..., after_failures: 3}}, got {brief(value)}")


Trackers = Annotated[
    tuple[Annotated[TrackerConfig, BeforeValidator(_named, json_schema_input_type=TrackerName | TrackerConfig)], ...],
    BeforeValidator(_listed),
    AfterValidator(_once),
]
Notify = Annotated[NotifyConfig | None, BeforeValidator(_commanded, json_schema_input_type=str | NotifyConfig | None)]
