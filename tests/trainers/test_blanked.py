"""What is written down of a command, an address or an error holds no secret."""

from __future__ import annotations

import time

import pytest

from trainers.blanked import blanked, command_line, secret_key


@pytest.mark.parametrize(
    "text",
    [
        "AWS_ACCESS_KEY_ID=PLANTED-0123",
        "AWS_SECRET_ACCESS_KEY=PLANTED-0123",
        "aws_session_token: PLANTED-0123",
        "WANDB_API_KEY=PLANTED-0123",
        "HF_TOKEN=PLANTED-0123",
        "RAY_AUTH_TOKEN=PLANTED-0123",
        "COMET_API_KEY=PLANTED-0123",
        "MLFLOW_TRACKING_PASSWORD=PLANTED-0123",
        "trial.data.password=PLANTED-0123",
        "redis://me:PLANTED-0123@head:6379",
        "redis://:PLAN/TED@0123PLANTED@head:6379",
        "postgresql://PLANTED-0123@db/studies",
        "https://host/path?api_key=PLANTED-0123&x=1",
        "ghp_PLANTED01234567890",
        "hf_PLANTED01234567890",
        "sk-PLANTED01234567890",
        "AKIAPLANTED01234567",
    ],
)
def test_a_secret_of_each_kind_is_blanked(text: str) -> None:
    for shown in (blanked(f"before {text} after"), command_line(["sweep", "--set", text])):
        assert "PLANTED" not in shown
        assert "***" in shown


@pytest.mark.parametrize(
    "text",
    [
        "10.0.0.1:6379",
        "auto",
        "sweep launch a.yaml --set trial.optimizer.lr=0.1",
        "s3://bucket/a/b",
        "ray://head:10001",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert blanked(text) == text


def test_a_value_of_a_secret_variable_is_blanked_wherever_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_OWN_SECRET", "PLANTED-0123")
    assert blanked("--out runs/PLANTED-0123") == "--out runs/***"


def test_a_config_is_searched_in_lists_and_under_dotted_keys() -> None:
    assert secret_key({"space": {"data.root": ["/a", "ftp://me:password@b"]}}) == "space.data.root"
    assert secret_key({"trial": {"model": {"tokens": 128, "token": "cls", "api_key": "0123456789"}}}) == (
        "trial.model.api_key"
    )
    assert secret_key({"trial": {"model": {"tokens": 128, "token": "cls"}}}) is None


def test_a_word_without_end_is_looked_through_at_once() -> None:
    """A traceback may hold one, where code writes what it was given into its error."""
    began = time.monotonic()
    assert blanked("a" * 300_000) == "a" * 300_000
    assert time.monotonic() - began < 10
