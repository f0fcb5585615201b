"""Records of trials that nobody trained, as a sweep writes them."""

from __future__ import annotations

from trainers.record import EpochRecord, EvaluationRecord, OutcomeRecord, RecordFile

RIGHT = {"test": {"images": 8, "fingerprint": "f", "clean": "/w==", "robust": "Dw=="}}
RIGHT["test"]["classes"] = {"labels": "AAABAQAAAQE=", "places": "AAAAAA" + 37 * "A" + "=", "names": ["a", "b"]}
CHUNK = EvaluationRecord(
    *("sgd160.10", "last", False, "clean", {}, "test", 9, 0, 9, 8, 8, 1.0, "h", "cpu", "abc", {}, "/wA="),
    fingerprint="g",
)


def append(file: RecordFile, name: str, number: int, optimizer: str, lr: float, batch_size: int, seed: int) -> None:
    point = {"optimizer.name": optimizer, "optimizer.lr": lr, "batch_size": batch_size}
    values = {"model": {"name": "vgg19"}, "optimizer": {"name": optimizer, "lr": lr}, "batch_size": batch_size}
    config = {**values, "epochs": 2, "data": {"name": "digits"}, "seed": seed}
    file.append("trial", {"trial_id": name, "number": number, "config": config, "point": point, "seed": seed})
    file.append("start", {"trial_id": name, "time": 1.0, "host": "h", "device": "cpu", "code_version": "abc"})
    for epoch in (1, 2):
        robust = 0.4 + 0.01 * epoch + lr / batch_size + 0.001 * seed
        numbers = {"val_robust": robust, "test_robust": robust - 0.01, "train_robust": robust, "test_clean": 0.7}
        right = RIGHT if epoch == 2 else None
        file.append("epoch", EpochRecord(name, epoch, lr, seconds=2.0 + number, right=right, **numbers))
    file.append("outcome", {**vars(OutcomeRecord(name, "completed", "", 2)), "time": 3.0})
