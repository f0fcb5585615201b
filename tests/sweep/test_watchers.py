"""`trackers` and `notify` of a config: what they may be, and that no trial depends on them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from recorded import trials_of

from sweep.config_file import dump, load
from sweep.watchers import NotifyConfig
from trainers.errors import UserError

Write = Callable[[str], Path]

BASE: dict[str, Any] = {"name": "t", "trial": {"data": {"name": "digits"}}, "space": {"optimizer.lr": [0.1, 0.2]}}
WATCHED: dict[str, Any] = {
    "trackers": ["tensorboard", {"name": "mlflow", "uri": "http://127.0.0.1:5000"}],
    "notify": "mail -s {summary} me",
}


def test_names_alone_and_a_command_alone_are_enough_and_are_written_back(yaml_file: Write, tmp_path: Path) -> None:
    config = load(yaml_file(yaml.safe_dump(BASE | WATCHED)))
    assert [one.name for one in config.trackers] == ["tensorboard", "mlflow"]
    assert config.notify == NotifyConfig(command="mail -s {summary} me")
    (tmp_path / "again.yaml").write_text(dump(config))
    assert load(tmp_path / "again.yaml") == config


def test_ids_are_those_of_the_same_sweep_unwatched_whose_file_does_not_change(yaml_file: Write) -> None:
    without = load(yaml_file(yaml.safe_dump(BASE)))
    watched = load(yaml_file(yaml.safe_dump(BASE | WATCHED)))
    assert [trial.id for trial in trials_of(without)] == [trial.id for trial in trials_of(watched)]
    assert "trackers" not in dump(without)
    assert "notify" not in dump(without)


def test_a_folder_of_event_files_is_kept_as_an_absolute_path(
    yaml_file: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    trackers = {"trackers": [{"name": "tensorboard", "folder": "boards"}]}
    assert load(yaml_file(yaml.safe_dump(BASE | trackers))).trackers[0].folder == str(tmp_path / "boards")


WRONG = {
    "trackers: must be a list such as [tensorboard, {name: mlflow}], got 'mlflow'": {"trackers": "mlflow"},
    "trackers: each once, got wandb twice; keep one of the two": {"trackers": ["wandb", "wandb"]},
    "trackers.0.uri: is read by mlflow, and name is wandb; leave it out": {
        "trackers": [{"name": "wandb", "uri": "http://a"}]
    },
    "trackers.0.project: is read by mlflow and wandb and trackio, and name is tensorboard; leave it out": {
        "trackers": [{"name": "tensorboard", "project": "a"}]
    },
    "trackers.0.key: unknown key": {"trackers": [{"name": "wandb", "key": "a"}]},
    "trackers.0.name: must be one of tensorboard, mlflow, wandb, trackio; got 'aim'": {"trackers": ["aim"]},
    "trackers.uri: must hold no secret": {"trackers": [{"name": "mlflow", "uri": "https://me:password@host"}]},
    "notify: must be a command, or a mapping such as {command: ..., after_failures: 3}, got 3": {"notify": 3},
    "notify.command: must be a command, got 'mail \"me': no closing quotation": {"notify": 'mail "me'},
    "notify.command: must be a command, got no word": {"notify": " "},
    "notify.command: must begin with a program, got {summary}": {"notify": "{summary}"},
    "notify.after_failures: must be >= 1, got 0": {"notify": {"command": "a", "after_failures": 0}},
}


@pytest.mark.parametrize("words", WRONG)
def test_a_mistake_is_named_with_its_key(words: str, yaml_file: Write) -> None:
    with pytest.raises(UserError) as refused:
        load(yaml_file(yaml.safe_dump(BASE | WRONG[words])))
    assert words in str(refused.value)
