"""A user's own code from a config file to trials, and what is said of code that fails."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from analysis.frames.log import read_log
from analysis.frames.trials import load_trials
from sweep.cli import main
from sweep.config_file import dump, load
from sweep.own_code import in_own_process
from sweep.search import checks
from trainers.errors import UserError
from trainers.own import snapshot
from trainers.own.source import source_of

NETS = """
from torch import nn

class MyNet(nn.Module):
    def __init__(self, num_classes, channels, image_size, width: int = 4):
        super().__init__()
        inputs = channels * image_size[0] * image_size[1]
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, num_classes))

    def forward(self, images):
        return self.layers(images)
"""

OBJECTIVE = """from torch.nn import functional as F


class Plain:
    def outer(self, forward, images, adversarial, labels):
        return F.cross_entropy(forward(adversarial), labels)
"""


def failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, seconds: float = 60) -> str:
    """What is said of a file that is imported in a process of its own, in the folder that it lies in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ROBUSTSWEEP_CHECK_SECONDS", str(seconds))
    (tmp_path / "nets.py").write_text(text)
    source = source_of("./nets.py:MyNet")
    with pytest.raises(UserError) as caught:
        in_own_process("trainers.own.snapshot:load", "./nets.py:MyNet", source.hash, "model.name", own=[source])
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\nraise ValueError('no\\nmore')", "nets.py:2: ValueError: no (starting)"),
        ("import sys\n\nsys.exit(3)", "nets.py:3: calls sys.exit (starting)"),
        ("import os\nos._exit(5)", "your own code ended the process that tried it (exit code 5), starting"),
        (
            "import ctypes\nprint('printed')\nctypes.string_at(0)",
            "nets.py:3: your own code ended the process that tried it (signal SIGSEGV), starting",
        ),
        ("import missing_package", "nets.py:1: ModuleNotFoundError: No module named 'missing_package' (starting)"),
        ("x = 1", "model.name: ./nets.py:MyNet: its module has no 'MyNet'; known: x"),
    ],
)
def test_what_fails_is_one_line_with_the_file_and_line(
    text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert failure(tmp_path, monkeypatch, text) == said
    assert capfd.readouterr() == ("", "")


def test_what_hangs_is_ended_with_all_that_it_started_and_says_where_it_stood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = f"import subprocess, time\nsubprocess.Popen(['sh', '-c', 'sleep 13; touch {tmp_path}/late'])\ntime.sleep(60)"
    said = failure(tmp_path, monkeypatch, text, seconds=10)
    assert said.startswith("nets.py:3: your own code did not end within 10 s, starting; mend it, or give it longer: ")
    import time

    time.sleep(5)
    assert not (tmp_path / "late").exists()


def test_what_it_prints_is_dropped_and_what_it_gives_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text("import sys\nprint('out')\nprint('err', file=sys.stderr)\nMyNet = 3")
    source = source_of("./nets.py:MyNet")
    given = in_own_process("trainers.own.snapshot:load", "./nets.py:MyNet", source.hash, own=[source])
    assert given == 3
    assert capfd.readouterr() == ("", "")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sweep_file: Callable[..., Path]) -> Path:
    """A folder with a network of the user's, and a sweep of it beside a built-in one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(NETS)
    values = yaml.safe_load(sweep_file().read_text())
    del values["trial"]["model"]
    values["trial"]["epochs"] = 1
    values["space"] = {
        "model.name": ["small_cnn", "./nets.py:MyNet"],
        "model.width": {"grid": [2, 4], "when": {"model.name": "./nets.py:MyNet"}},
    }
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(values))
    return tmp_path


def sweep(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(main, list(words))
    return done.exit_code, done.output


def test_a_network_of_ones_own_is_an_axis_with_options_and_outlives_its_file(project: Path) -> None:
    import torch

    import trainers

    code, said = sweep("launch", "own.yaml", "--out", "run", "--serial")
    assert code == 0, said
    frame = load_trials(project / "run")
    assert frame["model.name"].tolist() == ["small_cnn", "./nets.py:MyNet", "./nets.py:MyNet"]
    assert frame["model.width"].tolist()[1:] == [2, 4]
    assert "model.code" not in frame
    assert [path.suffix for path in (project / "run" / "code").iterdir()] == [".zip"]

    (project / "nets.py").write_text(NETS + "\n# another state\n")
    code, said = sweep("plan", "own.yaml", "--out", "run", "--rate", "1")
    assert code == 0, said
    assert "finished 1, to resume 0, new 2" in said
    assert "the source of ./nets.py:MyNet changed since 2 trials here" in said
    code, said = sweep("launch", "own.yaml", "--out", "run", "--serial")
    assert code == 0, said
    frame = load_trials(project / "run")
    assert len(frame) == 5
    assert len(set(frame["model.code"].dropna())) == 2
    assert frame.loc[frame["model.name"] == "small_cnn", "model.code"].isna().all()

    (project / "nets.py").unlink()
    code, said = sweep("evaluate", "run", "--attack", "fgsm", "--images", "20", "--serial")
    assert code == 0, said
    own = [record["trial_id"] for record in read_log(project / "run") if record["record"] == "evaluation"]
    assert len(set(own)) == 5
    trial = frame.loc[frame["model.width"] == 4, "trial_id"].iloc[0]
    images, _ = trainers.images(project / "run", trial)
    assert trainers.load(project / "run", trial)(images[:3]).shape == torch.Size([3, 10])


def test_the_id_of_a_trial_hangs_on_source_and_options_and_on_no_folder(project: Path) -> None:
    from sweep.search.inputs import fingerprints
    from sweep.search.trials import fixed_points, planned

    def ids() -> list[str]:
        config = load(Path("own.yaml"))
        return [trial.id for trial in planned(config, fixed_points(config), fingerprints(config))]

    before = ids()
    assert len(set(before)) == 3
    (project / "elsewhere").mkdir()
    (project / "nets.py").rename(project / "elsewhere" / "nets.py")
    text = (project / "own.yaml").read_text()
    (project / "own.yaml").write_text(text.replace("./nets.py", "./elsewhere/nets.py"))
    assert ids() == before
    (project / "elsewhere" / "nets.py").write_text(NETS + "# ")
    after = ids()
    assert after[0] == before[0]
    assert not set(after[1:]) & set(before)


def test_the_dump_means_the_same_from_another_folder(
    project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    config = load(Path("own.yaml"))
    other = tmp_path_factory.mktemp("other")
    (other / "sweep.yaml").write_text(dump(config))
    monkeypatch.chdir(other)
    assert load(Path("sweep.yaml")) == config
    assert source_of("./nets.py:MyNet", Path(str(config.code_folder))).files


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"space.model.width": {"grid": [2], "when": {"model.name": "./nets.py:MyNt"}}}, 
         "space.model.width.when.model.name: no trial has ./nets.py:MyNt; did you mean './nets.py:MyNet'?"),
        ({"space.model.widht": {"grid": [2], "when": {"model.name": "./nets.py:MyNet"}}},
         "space.model.widht: ./nets.py:MyNet has no such option; did you mean 'width'?"),
        ({"space.model.width": {"grid": ["wide"], "when": {"model.name": "./nets.py:MyNet"}}},
         "space.model.width: must be a valid integer, got 'wide'"),
        ({"space.model.width": [2, 4]},
         "space.model.width: only ./nets.py:MyNet has such an option, and model.name is an axis; write model.width: "
         "{grid: [...], when: {model.name: ./nets.py:MyNet}}"),
        ({"space.model.name": ["./nets.py:MyNt"]},
         "space.model.name: ./nets.py:MyNt: its module has no 'MyNt'; did you mean 'MyNet'?"),
        ({"space.model.name": ["./nest.py:MyNet"]}, "space.model.name: ./nest.py: no such file, looked for in "),
        ({"space.model.name": ["./nets.py"]},
         "space.model.name: must be PACKAGE.MODULE:NAME or ./FILE.py:NAME for code of your own, got './nets.py'"),
        ({"space.model.name": ["trainers.nets:MyNet"]},
         "space.model.name: trainers.nets: the name trainers is this package's own; rename yours"),
        ({"space.model.code": ["a"]}, "space.model.code: is filled in by the sweep and cannot be an axis"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_config_is_one_line(wrong: dict[str, object], said: str, project: Path) -> None:
    checks._tried.clear()
    values = yaml.safe_load((project / "own.yaml").read_text())
    if "space.model.name" in wrong:
        del values["space"]["model.width"]
    for key, value in wrong.items():
        values["space"][key.removeprefix("space.")] = value
    (project / "own.yaml").write_text(yaml.safe_dump(values))
    code, output = sweep("plan", "own.yaml", "--rate", "1")
    assert code == 2
    assert said in output
    assert len(output.splitlines()) == 1


def test_another_source_than_the_config_asks_for_is_refused_by_its_key(project: Path) -> None:
    values = yaml.safe_load((project / "own.yaml").read_text())
    values["trial"]["model"] = {"name": "./nets.py:MyNet", "code": "abc"}
    values["space"] = {"model.width": [2]}
    (project / "own.yaml").write_text(yaml.safe_dump(values))
    code, said = sweep("plan", "own.yaml", "--rate", "1")
    assert (code, len(said.splitlines())) == (2, 1), said
    assert said.startswith("sweep: trial.model.code: the source of ./nets.py:MyNet is ")


@pytest.mark.parametrize("cutmix", [[0, 1], [1, 0]])
def test_an_objective_is_tried_with_the_labels_of_each_value_of_cutmix(cutmix: list[int], project: Path) -> None:
    (project / "hard.py").write_text(
        "from torch.nn import functional as F\n\n"
        "class Hard:\n"
        "    def outer(self, forward, images, adversarial, labels):\n"
        "        return F.nll_loss(forward(adversarial).log_softmax(1), labels)\n"
    )
    values = yaml.safe_load((project / "own.yaml").read_text())
    values["trial"]["objective"] = {"name": "./hard.py:Hard"}
    values["space"] = {"data.cutmix": cutmix}
    (project / "own.yaml").write_text(yaml.safe_dump(values))
    code, said = sweep("plan", "own.yaml", "--rate", "1")
    assert (code, len(said.splitlines())) == (2, 1), said
    assert said.startswith("sweep: hard.py:5: RuntimeError: ")


@pytest.mark.parametrize("listed", [["w.pt", None], [None, "w.pt"]])
def test_weights_are_held_against_a_built_in_network_under_an_objective_of_ones_own(
    listed: list[str | None], project: Path
) -> None:
    import torch

    torch.save({"other": torch.zeros(3)}, project / "w.pt")
    values = yaml.safe_load((project / "own.yaml").read_text())
    (project / "pair.py").write_text(OBJECTIVE)
    values["trial"]["objective"] = {"name": "./pair.py:Plain"}
    values["space"] = {"model.fine_tune": listed}
    (project / "own.yaml").write_text(yaml.safe_dump(values))
    code, said = sweep("plan", "own.yaml", "--rate", "1")
    assert (code, len(said.splitlines())) == (2, 1), said
    assert said.startswith("sweep: space.model.fine_tune: ")


def test_a_launch_without_own_code_starts_no_process(
    sweep_file: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*values: object, **more: object) -> None:
        raise AssertionError("a process")

    monkeypatch.setattr("sweep.own_code._ended", refuse)
    path = sweep_file(space={"optimizer.lr": [0.1]})
    assert sweep("launch", str(path), "--out", str(tmp_path / "run"), "--serial", "--set", "trial.epochs=1")[0] == 0
    assert not (tmp_path / "run" / snapshot.FOLDER).exists()


@pytest.mark.slow
def test_an_edit_during_a_sweep_changes_nothing_through_ray(
    project: Path, local_ray: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file breaks as soon as the first trial has ended: the others import the snapshot."""
    from sweep.run.journal import Journal

    take = Journal.take

    def breaking(self: Journal, message: dict[str, object], again: bool = False) -> None:
        (project / "nets.py").write_text("raise RuntimeError")
        take(self, message, again)

    monkeypatch.setattr(Journal, "take", breaking)
    code, said = sweep("launch", "own.yaml", "--out", "run", "--set", "resources.trials_per_process=2")
    assert code == 0, said
    assert load_trials(project / "run")["outcome"].tolist() == ["completed"] * 3
    code, said = sweep("evaluate", "run", "--attack", "fgsm", "--images", "20")
    assert code == 0, said


def test_data_of_ones_own_are_planned_without_them_by_what_the_run_knows(project: Path) -> None:
    (project / "mine.py").write_text(
        "import numpy as np\n\ndef mine(shift: int = 0):\n"
        "    images = np.arange(5120).reshape(80, 8, 8) % 251 + shift\n"
        "    return images.astype(np.uint8), np.arange(80) % 2, images[:20].astype(np.uint8), np.arange(20) % 2\n"
    )
    values = yaml.safe_load((project / "own.yaml").read_text())
    values["trial"] |= {"epochs": 1, "data": {"name": "./mine.py:mine", "augment": False, "validation_fraction": 0.2}}
    values["space"] = {"data.shift": [0, 1]}
    (project / "own.yaml").write_text(yaml.safe_dump(values))
    code, said = sweep("plan", "own.yaml", "--out", "run", "--no-data")
    assert (code, "they are provisional" in said) == (0, True), said
    assert sweep("launch", "own.yaml", "--out", "run", "--serial")[0] == 0
    code, said = sweep("plan", "own.yaml", "--out", "run", "--no-data")
    assert (code, "finished 2, to resume 0, new 0" in said) == (0, True), said
    marks = load_trials(project / "run")["data.fingerprint"]
    assert len(set(marks)) == 2


def test_data_of_ones_own_that_are_gone_are_one_line_for_who_needs_them(project: Path) -> None:
    import numpy as np

    (project / "mine.py").write_text(
        "import numpy as np\n\ndef mine(path: str):\n    with np.load(path) as there:\n"
        "        return there['x'], there['y'], there['x'], there['y']\n"
    )
    path = project / "there.npz"
    images = np.arange(5120).reshape(80, 8, 8) % 251
    np.savez(path, x=images.astype(np.uint8), y=np.arange(80) % 2)
    values = yaml.safe_load((project / "own.yaml").read_text())
    own = {"name": "./mine.py:mine", "path": str(path), "augment": False, "validation_fraction": 0.2}
    values["trial"] |= {"epochs": 1, "data": own}
    values["space"] = {"optimizer.lr": [0.1]}
    (project / "own.yaml").write_text(yaml.safe_dump(values))
    assert sweep("launch", "own.yaml", "--out", "run", "--serial")[0] == 0
    (trial,) = load_trials(project / "run")["trial_id"]
    np.savez(path, x=images)  # without labels
    code, said = sweep("evaluate", "run", "--attack", "fgsm", "--serial")
    assert (code, len(said.splitlines())) == (2, 1), said
    assert f"trial {trial}: trial.data.name: ./mine.py:mine: KeyError: " in said
    assert said.endswith(" (mine.py:5)\n")
    path.unlink()
    code, said = sweep("export", "run", trial, "--robustbench", "--out", "net")
    assert code == 0, said
    assert "the data must be there" in (project / "net" / "README.md").read_text()
    code, said = sweep("plan", "own.yaml", "--set", "trial.data.validation_fraction=0.1")
    assert (code, len(said.splitlines())) == (2, 1), said
    assert said.startswith("sweep: trial.data.name: ./mine.py:mine: FileNotFoundError: ")


def test_own_choices_are_in_the_names_of_methods() -> None:
    from analysis.frames.names import Slots, named

    for slots in (
        Slots("./method.py:Pairing", s2o=True, weights="awp", optimizer="torch.optim:Adam"),
        Slots("mart", optimizer="./updates.py:Mine"),
        Slots("my.losses:Pairing", optimizer="deat"),
    ):
        read = named(slots.method)
        assert read.method == slots.method
        assert (read.family, read.modification) == (slots.family, slots.modification)
