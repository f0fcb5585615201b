"""A trained network as a plain state dict, and the lines of Python that load it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from analysis.frames.log import Log, read_log
from sweep.storage import checkpoints
from sweep.storage.cache import shown
from trainers.checkpoint import network_arguments
from trainers.config import ModelConfig
from trainers.errors import UserError
from trainers.files import checkpoint_path, remove_parts, whole
from trainers.ladder.trained import load
from trainers.plain_file import is_plain
from trainers.record import only_trial
from trainers.visible import encodable

#: Of ModelConfig what says where weights came from, and nothing of the network.
_HISTORY = {"fine_tune", "weights_fingerprint"}


@dataclass(frozen=True)
class Chosen:
    """Which weights of which trial of a run."""

    run: Path
    trial_id: str
    config: Mapping[str, Any]
    """The trial's identity, as its record has it."""
    weights: Literal["last", "best"]
    averaged: bool
    log: Log

    @property
    def name(self) -> str:
        """Of its files: the trial's id, and which of its weights where not the last raw ones."""
        parts = [self.trial_id, *(["best"] if self.weights == "best" else []), *(["averaged"] if self.averaged else [])]
        return "-".join(parts)

    @property
    def options(self) -> str:
        """As `sweep evaluate` takes them."""
        return ("" if self.weights == "last" else " --weights best") + (" --averaged" if self.averaged else "")


def chosen(run: Path, beginning: str, weights: Literal["last", "best"], averaged: bool) -> Chosen:
    """The trial of a run whose id begins so.

    Raises:
        UserError: no run, or no such trial, or several.
    """
    log = read_log(run)
    trials = {record["trial_id"]: record for record in log if record["record"] == "trial"}
    name = only_trial(shown(run), trials, beginning)
    checkpoints.fetch(run, name)
    return Chosen(run, name, trials[name]["config"], weights, averaged, log)


def write_weights(network: Chosen, file: Path) -> list[Path]:
    """Writes the state dict, tensors alone, which `torch.load` reads with weights_only=True, and beside it a script.

    Args:
        network: whose.
        file: of the state dict; its folder is made if need be.

    Returns:
        What was written: the state dict, the script that loads it, and where the network is of a user's own code its
        snapshot.

    Raises:
        UserError: the trial is not completed, these weights are not kept, or the file's name is no file's to write.
    """
    if file.is_dir() or file.suffix == ".py":
        raise UserError(
            f"--out {file}: must name a file of weights, such as {network.name}.pt; its script is beside it"
        )
    script = file.with_suffix(".py")
    if other := next((path for path in (file, script) if not is_plain(path)), None):
        raise UserError(f"--out {other}: is a link, a device or the like, whose place no file takes; give another")
    model = load(network.run, network.trial_id, weights=network.weights, averaged=network.averaged, device="cpu")
    state = {name: tensor.contiguous().clone() for name, tensor in model.state_dict().items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    snapshot = _copied_code(network, file.parent)
    remove_parts(file.parent)
    with whole(file) as part, part.open("wb") as opened:
        torch.save(state, opened)
    with whole(script) as part:
        part.write_text(encodable(_script(network, file.name, bool(snapshot))), encoding="utf-8")
    return [file, script, *snapshot]


def _copied_code(network: Chosen, folder: Path) -> Sequence[Path]:
    """The snapshot of a user's own network, copied from the run; none where it is no such."""
    place = Path("code") / f"{network.config['model'].get('code')}.zip"
    if not (network.run / place).is_file():
        return ()
    (folder / "code").mkdir(exist_ok=True)
    with whole(folder / place) as part:
        shutil.copyfile(network.run / place, part)
    return (folder / place,)


def _script(network: Chosen, file: str, own_code: bool) -> str:
    known = {name: _plain(value) for name, value in network_arguments(_checkpoint(network)).items()}
    own = {key: value for key, value in network.config["model"].items() if key not in _HISTORY}
    defaults = ModelConfig().model_dump(mode="json")
    model = {key: value for key, value in own.items() if key == "name" or value != defaults.get(key)}
    lines = [
        f'"""Trial {network.name} of {network.run.absolute().name}: images (B, C, H, W) in [0, 1] to logits."""',
        "from pathlib import Path",
        "",
        "import torch",
        "from trainers.config import ModelConfig",
        "from trainers.models import registry",
        "",
        "here = Path(__file__).parent",
        *(["from trainers.own import snapshot", 'snapshot.look_in(here / "code")'] if own_code else []),
        f"config = ModelConfig(**{model!r})",
        f"model = registry.build(config, {', '.join(f'{name}={value!r}' for name, value in known.items())}, seed=0)",
        f"model.load_state_dict(torch.load(here / {file!r}, weights_only=True))",
        "model.eval()",
    ]
    return "\n".join(lines) + "\n"


def _checkpoint(network: Chosen) -> Path:
    return checkpoint_path(network.run, network.trial_id)


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
