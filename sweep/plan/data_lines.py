"""What a plan says of the data that its trials read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sweep.search.inputs import Unseen
from trainers.config import DataConfig
from trainers.data.sources import Shape as DataShape


def size_lines(shapes: Mapping[DataConfig, DataShape]) -> dict[str, None]:
    """How many images there are of each data set, in words; the keys of the result, each once."""
    return {
        f"{config.name}: {shape.train_images:,} training, {shape.val_images:,} validation and {shape.test_images:,} "
        "test images": None
        for config, shape in shapes.items()
    }


def note_lines(shapes: Mapping[DataConfig, DataShape]) -> dict[str, None]:
    """What is peculiar to the data, in words; the keys of the result, each once."""
    return dict.fromkeys(note for shape in shapes.values() for note in shape.notes)


def extra_lines(shapes: Mapping[DataConfig, DataShape]) -> dict[str, None]:
    """The images that join the batches, in words; the keys of the result, each once."""
    joined = [(config, shape) for config, shape in shapes.items() if shape.extra_images]
    return {
        f"extra: {shape.extra_images:,} images of {config.extra}, {config.extra_fraction:g} of every batch, join the "
        f"{shape.train_images:,} of {config.name}": None
        for config, shape in joined
    }


def unseen_lines(name: str, data: Unseen, shapes: Mapping[DataConfig, DataShape]) -> Iterator[str]:
    """What is not checked of data that were not looked at, in words."""
    yield f"without data: {data.reason}"
    if data.sure:
        yield f"  not checked: that {name} is whole; the ids are those that its trials will have"
    else:
        yield f"  not checked: {name}'s content, which is in the ids: they are provisional, none counts as finished"
    if not any(name in (config.name, config.extra) for config in shapes):
        yield "  not checked: number and size of the images, and with them network, batches and cost"
