"""study: real trials on real images, their records in DIR/records.jsonl as a launch writes them."""

from __future__ import annotations

import tarfile
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from card.setting import Setting, read
from trainers import hardware, provenance
from trainers.config import TrialConfig
from trainers.engine import device_of
from trainers.identity import identity, trial_id
from trainers.loop import train, with_fingerprint
from trainers.record import EpochRecord, RecordFile

SEEDS = (0, 1)
OPTIMIZERS = ("sgd", "deat")
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
    another. A trial that no longer fits is left out, and the results say so."""
    values = real_data(setting, "study")
    if values is None:
        return
    epochs = setting.pick(_epochs(setting), 1)
    records = RecordFile(setting.out)
    seconds = 0.0
    for number, (seed, optimizer) in enumerate((seed, name) for seed in SEEDS for name in OPTIMIZERS):
        name = f"{optimizer}, seed {seed}"
        if not setting.fits(name, 1.1 * seconds + 5):
            continue
        with setting.measuring(name):
            before = setting.left()
            _trained(
                setting, records, number, name, with_fingerprint(_config(setting, values, epochs, seed, optimizer))
            )
            seconds = before - setting.left()
    records.close()


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


def _trained(setting: Setting, records: RecordFile, number: int, name: str, config: TrialConfig) -> None:
    """Trains one, and appends its records, and its last epoch to the results."""
    trial, last = trial_id(config), {}
    point = {"optimizer.name": config.optimizer.name}
    about = {"trial_id": trial, "number": number, "config": identity(config), "point": point, "seed": config.seed}
    records.append("trial", about)
    device = device_of(config.device)
    card = hardware.gpu_names()[0] if device.type == "cuda" else "cpu"
    started = {"trial_id": trial, "host": provenance.host(), "device": card, "code_version": provenance.code_version()}
    records.append("start", {**started, "arithmetic": provenance.arithmetic(config, device)})

    def report(record: Any) -> None:
        assert isinstance(record, EpochRecord), record
        records.append("epoch", record)
        last.update({key: value for key, value in asdict(record).items() if value is not None and key != "right"})

    outcome = train(config, report)
    records.append("outcome", outcome)
    told = {"outcome": outcome.outcome, "reason": outcome.reason, "epochs": config.epochs}
    setting.write(name, trial_id=trial, **told, last=last, ok=outcome.outcome == "completed")
