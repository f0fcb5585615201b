"""Text without its secrets, for everything that is written down or shown of a command, an address or an error."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

#: What stands in place of a secret.
BLANK = "***"

#: Names of variables and keys whose values are secrets: WANDB_API_KEY, HF_TOKEN, db.password, AWS_ACCESS_KEY_ID, ...
_NAME = r"[\w.-]*(?:passw(?:or)?d|passphrase|pwd|secret|token|credential|(?:api|access|private|auth)_?key)[\w.-]*"
_SECRET_NAME = re.compile(_NAME, re.IGNORECASE)
#: From where a word begins: else a long one, as of a traceback, takes the square of its length.
_ASSIGNED = re.compile(rf"(?<![\w.-])({_NAME}\s*[=:]\s*)(?!\s)([^\s&'\"]+)", re.IGNORECASE)

#: scheme://USER:PASSWORD@host, also where the password has an unescaped / or @, and scheme://TOKEN@host.
_PASSWORD = re.compile(r"(://[^\s:/@]*:)[^\s'\"]+@")
_USER = re.compile(r"(://)[^\s:/@]+@")

#: Tokens that their issuers made to be known: GitHub, GitLab, Hugging Face, OpenAI and its like, Slack, AWS.
_TOKEN = re.compile(
    r"\b(?:gh[opsu]_|github_pat_|glpat-|hf_|sk-|xox[abps]-)[\w-]{10,}|\b(?:AKIA|ASIA)[A-Z0-9]{12,}",
)

#: Characters of the shortest value of a variable, or of a key of a config, that is taken for a secret by its name.
_SHORTEST = 8


def blanked(text: str) -> str:
    """The text with passwords in URLs, NAME=VALUE of secret names, known kinds of tokens and the environment's blanked.

    >>> blanked("redis://me:pa/ss@head:6379 and WANDB_API_KEY=0123 at 10.0.0.1:6379")
    'redis://me:***@head:6379 and WANDB_API_KEY=*** at 10.0.0.1:6379'
    """
    for value in sorted(_of_environment(), key=len, reverse=True):
        text = text.replace(value, BLANK)
    return _by_form(text)


def command_line(words: Sequence[str]) -> str:
    """The words as they are typed, secrets blanked: of NAME=VALUE all of the value, spaces included.

    >>> command_line(["sweep", "launch", "a.yaml", "--set", "name=two words", "--set", "db.password=two words"])
    "sweep launch a.yaml --set 'name=two words' --set 'db.password=***'"
    """
    return shlex.join(map(_word, words))


def secret_key(values: Mapping[Any, Any]) -> str | None:
    """The dotted key of nested mappings and lists whose value nobody should write down, by its name or its form.

    >>> secret_key({"model": {"token": "mean", "tokens": 12345678}, "data": {"root": "s3://me:password@bucket"}})
    'data.root'
    """
    left: list[tuple[str, Any]] = [("", values)]
    while left:
        key, value = left.pop()
        if isinstance(value, Mapping):
            left += [(f"{key}.{name}" if key else str(name), each) for name, each in value.items()]
        elif isinstance(value, list | tuple):
            left += [(key, each) for each in value]
        elif isinstance(value, str) and (_by_form(value) != value or (_is_secret(key) and len(value) >= _SHORTEST)):
            return key
    return None


def _is_secret(key: str) -> bool:
    return _SECRET_NAME.fullmatch(key.rpartition(".")[2]) is not None


def _word(word: str) -> str:
    name, equals, _ = word.partition("=")
    return f"{name}={BLANK}" if equals and _SECRET_NAME.fullmatch(name) else blanked(word)


def _by_form(text: str) -> str:
    text = _USER.sub(rf"\1{BLANK}@", _PASSWORD.sub(rf"\1{BLANK}@", text))
    return _TOKEN.sub(BLANK, _ASSIGNED.sub(rf"\1{BLANK}", text))


def _of_environment() -> set[str]:
    named = {value for name, value in os.environ.items() if _SECRET_NAME.fullmatch(name)}
    return {value for value in named if len(value) >= _SHORTEST and not value.startswith(("/", "~"))}  # no paths
