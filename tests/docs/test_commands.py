"""Every command in the documentation is one: it parses, its files are there, and what it sets are keys."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
from pathlib import Path

import click
import pytest
from doc_pages import ROOT, Block, blocks, commands

from sweep.cli import main
from sweep.config_file import load

#: Programs of others that the pages call.
OTHERS = {
    *("cp", "docker", "export", "git", "helm", "kubectl", "mkdir", "pip", "printf", "ray", "rsync", "sbatch", "scp"),
    *("mlflow", "source", "squeue", "ssh", "tar", "tensorboard", "trackio"),
}

SHELL = blocks("sh")
EVERY = [(block, words) for block in SHELL for words in commands(block)]
OURS = [(block, words[words.index("sweep") :]) for block, words in EVERY if "sweep" in words[:2]]

#: Files that commands name and pages show: such a block has the file's name above it.
SHOWN = {block.mark: block.text for block in blocks("yaml") if re.fullmatch(r"\w+\.yaml", block.mark)}


def name(value: object) -> str:
    return str(value) if isinstance(value, Block) else " ".join(value)[:60] if isinstance(value, list) else ""


@pytest.mark.parametrize(("block", "words"), OURS, ids=name)
def test_a_command_of_ours_parses(
    block: Block, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for file, text in SHOWN.items():
        Path(file).write_text(text)
    command: click.Command = main
    context, rest = click.Context(main, info_name="sweep", **main.context_settings), words[1:]
    while isinstance(command, click.Group):
        found = command.get_command(context, rest[0])
        assert found is not None, f"{block}: sweep has no command {rest[0]}"
        command, rest = found, rest[1:]
    for parameter in command.params:  # which look into a run
        monkeypatch.setattr(parameter, "callback", None)
    command.make_context(words[1], rest, parent=context)


@pytest.mark.parametrize(("block", "words"), OURS, ids=name)
def test_what_a_command_sets_are_keys_of_its_config(block: Block, words: list[str]) -> None:
    configs = [ROOT / word for word in words if word.startswith("configs/")]
    assert all(config.is_file() for config in configs)
    overrides = [value for word, value in itertools.pairwise(words) if word == "--set"]
    config = (configs or [ROOT / "configs" / "ratio.yaml"])[0]
    if words[1] in ("plan", "launch", "slurm"):
        load(config, tuple(overrides))


def test_every_other_command_is_known_and_what_it_names_is_there() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for block, words in EVERY:
        while re.fullmatch(r"[A-Z_]+=.*", words[0]):
            words = words[1:]
        if words[0] == "make":
            assert re.search(rf"^{words[1]}:", makefile, re.MULTILINE), f"{block}: make {words[1]}"
        elif words[0] == "python":
            file = f"{words[2]}/__main__.py" if words[1] == "-m" else words[1]
            assert (ROOT / file).is_file(), f"{block}: {file}"
        else:
            assert words[0] in {"sweep", *OTHERS}, f"{block}: {words[0]}"


def test_bash_reads_every_block() -> None:
    bash = shutil.which("bash")
    assert bash
    assert len(OURS) > 100
    text = "\n".join(block.text for block in SHELL)
    done = subprocess.run([bash, "-n"], input=text, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
