"""What is recorded of each image: a row an evaluation, with which of the images it leaves right."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame

from analysis.frames.evaluations import PARAMETERS, Key, all_by_key, disjoint, evaluation_place, parameters_of
from analysis.frames.log import Log, Records, read_log
from analysis.frames.trials import identified, last_lines, trials_of
from trainers.errors import UserError

Bits: TypeAlias = NDArray[np.bool_]

#: Where a row comes from: `sweep evaluate`, or the last epoch of the training itself.
EVALUATION, TRAINING = "evaluation", "training"

_COLUMNS = ("source", "weights", "averaged", "attack", *PARAMETERS, "split", "fingerprint", "images")


class Classes(NamedTuple):
    """Of which classes the images of a split are."""

    labels: NDArray[np.int64]
    """In the split's fixed order, (images,)."""
    places: NDArray[np.int64]
    """In the same order: where each image is in the split as `trainers.images` gives it, (images,)."""
    names: tuple[str, ...]
    """By class number; of a class without a name its number."""


def load_images(directory: Path) -> DataFrame:
    """One row an evaluation of which every image's result is recorded.

    Args:
        directory: a run, as given to `sweep launch --out`.

    Returns:
        trial_id, method, seed, the axes and lr_batch_ratio as in `analysis.frames.trials.load_trials`; source,
        `evaluation` (of `sweep evaluate`) or `training` (its last epoch, of the raw weights); weights, averaged,
        attack, norm, radius, steps, step_size, restarts, start and split as in
        `analysis.frames.evaluations.load_evaluations`, the attack of a training being clean or pgd; fingerprint, which
        is equal where the images are; images, how many; right, (images,) bool, which of them stay right; clean_right,
        the same as they are; margins, (images,) float16, none where they were not asked for. Arrays are in the split's
        fixed order (`trainers.ladder.trained.order`): place i is one image in all rows of a fingerprint, and a shorter
        array holds the first of a longer one. Evaluations without such bits, which older code recorded, have no row.

    Raises:
        UserError: the directory is not a run, or a line is damaged.
    """
    return images_of(read_log(directory))


def images_of(records: Records) -> DataFrame:
    """`load_images` of records that are at hand.

    Args:
        records: as for `analysis.frames.trials.trials_of`.
    """
    log = Log.of(records)
    known, numbers = identified(log)
    rows = [row for row in (*_evaluations(log), *_trainings(log, trials_of(log))) if row["trial_id"] in numbers]
    rows.sort(key=lambda row: _place(row, numbers))
    names = (*_COLUMNS, "right", "clean_right", "margins")
    columns = {name: _objects(row[name] for row in rows) for name in names}
    plain = DataFrame({name: columns[name].tolist() for name in _COLUMNS}, columns=[*_COLUMNS])
    arrays = DataFrame({name: columns[name] for name in names if name not in _COLUMNS}, dtype=object)
    return known.take([numbers[row["trial_id"]] for row in rows]).reset_index(drop=True).join(plain).join(arrays)


def classes_of(records: Records) -> dict[str, Classes]:
    """The classes of the images of each split, by its fingerprint, as far as a record says them."""
    log = Log.of(records)
    splits = [split for right in log.epochs.right().values() for split in right.values()]
    said = [one for one in (*log, *splits) if one.get("classes") is not None]
    return {one["fingerprint"]: _classes(one["classes"]) for one in said}


def _classes(recorded: Mapping[str, Any]) -> Classes:
    names = tuple(recorded["names"])
    kinds = {"labels": "u1" if len(names) <= 256 else "<u2", "places": "<u4"}
    arrays = {name: np.frombuffer(_bytes(recorded[name]), kind).astype(np.int64) for name, kind in kinds.items()}
    return Classes(**arrays, names=names)


def _evaluations(log: Log) -> Iterator[dict[str, Any]]:
    for chunks in all_by_key(log).values():
        if counted := _joined(chunks):
            newest = counted[-1]
            bits = [bits_of(one["right"], one["images"], one) for one in counted]
            clean = [bits_of(one.get("clean_right") or one["right"], one["images"], one) for one in counted]
            yield {
                **{name: newest[name] for name in ("trial_id", "weights", "averaged", "attack", "split")},
                **{name: parameters_of(newest).get(name, np.nan) for name in PARAMETERS},
                "source": EVALUATION,
                "fingerprint": newest["fingerprint"],
                "images": sum(map(len, bits)),
                "right": np.concatenate(bits),
                "clean_right": np.concatenate(clean),
                "margins": _margins(counted),
            }


def _joined(chunks: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The chunks with bits that hold the first images without a gap."""
    those = [one for one in chunks if one.get("right") is not None]
    alike = disjoint(one for one in those if one["fingerprint"] == those[-1]["fingerprint"])
    ends = np.cumsum([0, *(one["images"] for one in alike)])
    return [one for one, _ in takewhile(lambda pair: pair[0]["first"] == pair[1], zip(alike, ends, strict=False))]


def _margins(counted: Sequence[Mapping[str, Any]]) -> NDArray[np.float16] | None:
    if any(one.get("margins") is None for one in counted):
        return None
    return np.concatenate([np.frombuffer(_bytes(one["margins"]), "<f2").astype(np.float16) for one in counted])


def _trainings(log: Log, trials: DataFrame) -> Iterator[dict[str, Any]]:
    """The last epochs that count and say what they say of each image: clean, and under the evaluation's own PGD."""
    configs = {record["trial_id"]: record["config"] for record in log if record["record"] == "trial"}
    for trial, right in last_rights(log, trials):
        for split, said in right.items():
            clean = bits_of(said["clean"], said["images"], {"trial_id": trial})
            for attack, what in (("clean", "clean"), ("pgd", "robust")):
                read = _read(configs[trial]) if attack == "pgd" else {}
                yield {
                    **{"trial_id": trial, "source": TRAINING, "weights": "last", "averaged": False, "split": split},
                    **{"attack": attack, **{name: read.get(name, np.nan) for name in PARAMETERS}},
                    **{name: said[name] for name in ("fingerprint", "images")},
                    "right": bits_of(said[what], said["images"], {"trial_id": trial}),
                    "clean_right": clean,
                    "margins": None,
                }


def last_rights(log: Log, trials: DataFrame) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Of each completed trial what its last epoch's last line says of each image."""
    right, places = log.epochs.right(), last_lines(log)
    for trial in trials["trial_id"][trials["outcome"] == "completed"]:
        if (said := right.get(places.get(trial, -1))) is not None:
            yield trial, said


def _read(config: Mapping[str, Any]) -> dict[str, Any]:
    """What the attack of the evaluation while training read."""
    own = {name: value for name, value in config.get("evaluation", {}).items() if name in PARAMETERS}
    return {"norm": config.get("attack", {}).get("norm", np.nan), **own}


def bits_of(text: str, images: int, record: Mapping[str, Any]) -> Bits:
    """A record's text as bits, (images,).

    Raises:
        UserError: it is of another number of images.
    """
    packed = np.frombuffer(_bytes(text), np.uint8)
    if len(packed) != -(-images // 8):
        trial = record["trial_id"]
        raise UserError(
            f"trial {trial}: {images} images need {-(-images // 8)} bytes of bits, and its record holds {len(packed)}; "
            "restore the line in records.jsonl, or delete it"
        )
    return np.unpackbits(packed, count=images).astype(np.bool_)


def _bytes(text: str) -> bytes:
    return base64.b64decode(text)


def _objects(values: Iterator[Any]) -> NDArray[np.object_]:
    """Each value as one entry, arrays too."""
    entries = list(values)
    objects = np.empty(len(entries), dtype=object)
    objects[:] = [None] * len(entries)
    for place, value in enumerate(entries):
        objects[place] = value
    return objects


def _place(row: Mapping[str, Any], numbers: Mapping[str, int]) -> Key:
    parameters = {name: row[name] for name in PARAMETERS}
    return (*evaluation_place({**row, "parameters": parameters}, numbers), row["source"])
