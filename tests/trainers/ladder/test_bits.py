"""Bits, margins and classes as a record holds them, and which images they are of."""

from __future__ import annotations

import base64

import numpy as np
import pytest
import torch

from trainers.data.batches import Split
from trainers.data.sets import Data
from trainers.ladder import bits
from trainers.ladder.trained import order

RNG = np.random.default_rng(0)


def split(images: int = 30, classes: int = 3) -> Split:
    pixels = torch.from_numpy(RNG.integers(0, 256, (images, 1, 4, 4), dtype=np.uint8))
    return Split(pixels, torch.from_numpy(RNG.integers(0, classes, images)))


def data(test: Split, classes: int, names: tuple[str, ...] = ()) -> Data:
    return Data(test, test, test, classes, (0.0,), (1.0,), "random", "", names)


@pytest.mark.parametrize("images", [1, 7, 8, 9, 10_000])
def test_a_bit_an_image_the_first_the_highest_of_its_byte(images: int) -> None:
    right = RNG.random(images) < 0.5
    content = base64.b64decode(bits.packed(right))
    assert len(content) == -(-images // 8)
    assert [bool(content[n // 8] >> (7 - n % 8) & 1) for n in range(images)] == right.tolist()


def test_margins_are_fp16_and_beyond_its_range_at_its_ends() -> None:
    content = base64.b64decode(bits.halves([1 / 3, -1e9, 1e9, 0.0]))
    assert np.frombuffer(content, "<f2").tolist() == [np.float16(1 / 3), -65504, 65504, 0]


def test_places_are_the_order_of_evaluation_and_labels_in_it() -> None:
    part = split()
    places = bits.places(part)
    assert places.order.tolist() == order(part.labels.tolist())
    assert places.labels.tolist() == part.labels[torch.from_numpy(places.order)].tolist()
    assert bits.places(part) is places


def test_a_fingerprint_is_of_all_pixels_and_labels() -> None:
    part = split()
    same = Split(part.images.clone(), part.labels.clone())
    assert bits.places(same).fingerprint == bits.places(part).fingerprint
    pixel, label = part.images.clone(), part.labels.clone()
    pixel[-1, 0, -1, -1] += 1
    label[-1] = (label[-1] + 1) % 3
    others = [Split(pixel, part.labels), Split(part.images.clone(), label), Split(part.images[:-1], part.labels[:-1])]
    assert len({bits.places(one).fingerprint for one in (part, *others)}) == 4


def test_images_are_hashed_in_parts_as_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    part = split()
    whole = bits.places(part).fingerprint
    monkeypatch.setattr(bits, "_AT_ONCE", 7)
    assert bits.places(Split(part.images.clone(), part.labels)).fingerprint == whole


@pytest.mark.parametrize(("classes", "kind"), [(3, "u1"), (256, "u1"), (257, "<u2")])
def test_classes_are_those_of_the_places_and_without_names_numbers(classes: int, kind: str) -> None:
    part = split(classes=classes)
    found = bits.classes(data(part, classes), "test")
    labels = np.frombuffer(base64.b64decode(found["labels"]), kind)
    places = np.frombuffer(base64.b64decode(found["places"]), "<u4")
    assert labels.tolist() == part.labels.numpy()[places].tolist()
    assert found["names"] == [str(number) for number in range(classes)]
    assert bits.classes(data(part, 3, ("a", "b", "c")), "test")["names"] == ["a", "b", "c"]
