"""study: real trials on real images, a stint as of `python -m trainers`; its records are DIR/study/records.jsonl."""

from __future__ import annotations

import tarfile
import tempfile
from pathlib import Path
from typing import Any

from card.setting import Setting, read
from trainers.config import TrialConfig
from trainers.identity import identity, trial_id
from trainers.loop import with_fingerprint
from trainers.record import RECORDS_FILE, read_file
from trainers.stint import Stint
from trainers.trial_list import ListedTrial, TrialList

SEEDS = (0, 1)
OPTIMIZERS = ("sgd", "deat")
#: Of the section's time, what is left for the stint's end, s.
ENDING = 10.0
#: Where an archive of images is unpacked, once for all sections.
UNPACKED = Path(tempfile.gettempdir()) / "robustsweep-images"


def real_data(setting: Setting, name: str) -> dict[str, Any] | None:
    """`data` of a trial on real images: those of --data, with `tiny` the digits; None where there are none, and a line.

    Raises:
        FileNotFoundError: --data holds no train/ and test/.
    """
    if setting.tiny:
        return {"name": "digits", "fingerprint": None}
    if setting.data is None:
        setting.write(name, skipped="needs --data")
        return None
    return {"name": "image_folder", "root": str(_folder(setting.data)), "fingerprint": None}


def _folder(data: Path) -> Path:
    """The folder that holds train/ and test/, unpacked first if it is an archive."""
    if data.is_file():
        target = UNPACKED / data.name
        if not target.exists():
            part = target.with_suffix(".part")
            with tarfile.open(data) as archive:
                archive.extractall(part, filter="data")
            part.rename(target)
        data = target
    for folder in (data, *sorted(path for path in data.glob("*") if path.is_dir())):
        if (folder / "train").is_dir() and (folder / "test").is_dir():
            return folder
    raise FileNotFoundError(f"{data}: must hold train/ and test/, or be an archive of a folder that does")


def study(setting: Setting) -> None:
    """PGD-AT and DEAT, PreActResNet-18, bf16, seeds in turn; as many epochs as the time left allows, one as many as
    another. A trial that does not end in time is a result that says so; its checkpoint lies beside the records."""
    values = real_data(setting, "study")
    if values is None:
        return
    epochs = setting.pick(_epochs(setting), 1)
    names = [f"{optimizer}, seed {seed}" for seed in SEEDS for optimizer in OPTIMIZERS]
    configs = (_config(setting, values, epochs, seed, optimizer) for seed in SEEDS for optimizer in OPTIMIZERS)
    trials = tuple(_listed(number, with_fingerprint(config)) for number, config in enumerate(configs))
    launch = {"metric": "val_robust", "mode": "max", "size": len(trials), "wanted": [one.id for one in trials]}
    file = setting.out / "study" / RECORDS_FILE
    Stint(TrialList("study", launch, setting.pick(4, 1), trials), file, setting.left() - ENDING).run()
    records = read_file(file)
    for name, trial in zip(names, trials, strict=True):
        _written(setting, name, trial, [one for one in records if one.get("trial_id") == trial.id])


def _epochs(setting: Setting) -> int:
    """Epochs of each trial: what the time left gives each, by the evaluated epoch that this run measured."""
    known = {(row["section"], row["name"]): row for row in read(setting.out)}
    training = known.get(("evaluation", "training"), {}).get("seconds", 6.0)
    evaluation = known.get(("evaluation", "evaluation bf16"), known.get(("evaluation", "evaluation fp32"), {}))
    an_epoch = training + evaluation.get("total", 5.0)
    each = (setting.left() - 30) / (len(SEEDS) * len(OPTIMIZERS)) - 3  # images to decode; a trial's start
    return max(1, int(each / (1.1 * an_epoch)))


def _config(setting: Setting, data: dict[str, Any], epochs: int, seed: int, optimizer: str) -> TrialConfig:
    values: dict[str, Any] = {
        "data": {key: value for key, value in data.items() if value is not None},
        "model": {"name": setting.pick("preact_resnet18", "small_cnn")},
        "batch_size": setting.pick(128, 256),
        "attack": {"steps": setting.pick(10, 1)},
        "evaluation": {"steps": setting.pick(10, 1), "splits": ["val", "test"], "precision": "bf16"},
        "optimizer": {"name": optimizer, "lr": 0.1},
        "schedule": {"name": "one_cycle", "warmup": 0.3},
        "epochs": epochs,
        "seed": seed,
        "precision": "bf16",
        "device": setting.device.type,
    }
    if not setting.tiny:
        from card.speed import best_engine

        values["engine"] = best_engine(setting)
    return TrialConfig.model_validate(values)


def _listed(number: int, config: TrialConfig) -> ListedTrial:
    point = {"optimizer.name": config.optimizer.name}
    about = {"trial_id": trial_id(config), "number": number, "config": identity(config)}
    return ListedTrial({**about, "point": point, "seed": config.seed}, config)


def _written(setting: Setting, name: str, trial: ListedTrial, records: list[dict[str, Any]]) -> None:
    """How a trial ended, and its last epoch, as a result."""
    ended = [one for one in records if one["record"] == "outcome"]
    if not ended:
        setting.write(name, skipped="does not fit")
        return
    unread = ("record", "right")
    last = [one for one in records if one["record"] == "epoch"][-1:]
    values = {key: value for one in last for key, value in one.items() if value is not None and key not in unread}
    told = {key: ended[-1][key] for key in ("outcome", "reason")} | {"epochs": trial.config.epochs}
    setting.write(name, trial_id=trial.id, **told, last=values, ok=told["outcome"] == "completed")
