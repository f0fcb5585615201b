"""Training images beside the data set's: read, checked, and in every batch by their share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from small import TINY, tiny

from trainers.config import DataConfig, TrialConfig
from trainers.data import batches, extra, sets
from trainers.data.batches import Extra, Split
from trainers.errors import Absent, UserError
from trainers.identity import identity, trial_id
from trainers.loop import train, with_fingerprint
from trainers.training import Training

CPU = torch.device("cpu")
DIGITS = DataConfig(name="digits", validation_fraction=0.1)


def npz(path: Path, count: int = 40, **arrays: Any) -> str:
    """Digits-like images of one value each, their number."""
    values = np.arange(count, dtype=np.uint8)[:, None, None, None]
    given = {"image": np.broadcast_to(values, (count, 8, 8, 1)), "label": np.arange(count) % 10} | arrays
    np.savez(path, **given)
    return str(path)


def joined(count: int, others: int, fraction: float) -> tuple[Split, Extra]:
    """A split of images of value 1 and class 0, and others of value 2 and class 1."""
    values = torch.tensor([1] * count + [2] * others, dtype=torch.uint8)
    pool = Split(values[:, None, None, None].expand(-1, 1, 6, 6).contiguous(), (values > 1).long())
    return Split(pool.images[:count], pool.labels[:count]), Extra(pool, fraction)


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.5, 0.7])
@pytest.mark.parametrize("count", [50, 64])
def test_every_batch_has_its_share_of_others_and_an_epoch_stays_as_long(count: int, fraction: float) -> None:
    split, more = joined(count, 7, fraction)
    drawn = list(batches.batches(split, 16, augment=True, extra=more, seed=0, epoch=0))
    sizes = [len(labels) for _, labels in drawn]
    assert sizes == [len(labels) for _, labels in batches.batches(split, 16, augment=True, seed=0, epoch=0)]
    assert [int(labels.sum()) for _, labels in drawn] == [round(size * fraction) for size in sizes]
    for images, labels in drawn:
        assert torch.equal((images * 255).round().amax(dim=(1, 2, 3)).long(), labels + 1)


def test_a_share_of_none_is_the_order_without_to_the_bit() -> None:
    _, more = joined(50, 7, 0.0)
    assert torch.equal(batches.epoch_order(50, 16, more, CPU, 3, 4), batches.epoch_order(50, 16, None, CPU, 3, 4))


def test_an_epochs_own_images_are_the_first_of_its_order_each_once_and_others_are_drawn_evenly() -> None:
    _, more = joined(1000, 5, 0.6)
    order = batches.epoch_order(1000, 10, more, CPU, 0, 0)
    own = order[order < 1000]
    assert torch.equal(own, batches.epoch_order(1000, 10, None, CPU, 0, 0)[:400])
    drawn = torch.bincount(order[order >= 1000] - 1000)
    assert len(drawn) == 5
    assert (drawn - 120).abs().max() < 4 * (600 * 0.2 * 0.8) ** 0.5
    assert not torch.equal(order, batches.epoch_order(1000, 10, more, CPU, 0, 1))


@pytest.mark.parametrize("fraction", [0.3, 0.9])
def test_extra_images_that_are_the_training_images_keep_the_balance_of_classes(fraction: float, tmp_path: Path) -> None:
    plain = sets.load(DIGITS, CPU)
    same = {"image": plain.train.images.permute(0, 2, 3, 1).numpy(), "label": plain.train.labels.numpy()}
    path = npz(tmp_path / "same.npz", **same)
    data = sets.load(DIGITS.model_copy(update={"extra": path, "extra_fraction": fraction}), CPU)
    assert data.extra is not None
    counts = torch.zeros(10)
    for epoch in range(20):
        for _, labels in batches.batches(data.train, 100, augment=False, extra=data.extra, seed=0, epoch=epoch):
            counts += torch.bincount(labels, minlength=10)
    expected = torch.bincount(plain.train.labels, minlength=10) / len(plain.train.labels)
    torch.testing.assert_close(counts / counts.sum(), expected, atol=0.01, rtol=0)


def test_the_other_splits_and_the_moments_are_those_without(tmp_path: Path) -> None:
    plain = sets.load(DIGITS, CPU)
    data = sets.load(DIGITS.model_copy(update={"extra": npz(tmp_path / "a.npz")}), CPU)
    for ours, theirs in zip(data[:3], plain[:3], strict=True):
        assert torch.equal(ours.images, theirs.images)
        assert torch.equal(ours.labels, theirs.labels)
    assert (data.mean, data.std, data.fingerprint) == (plain.mean, plain.std, plain.fingerprint)
    assert data.extra is not None
    assert data.extra.pool.images.data_ptr() == data.train.images.data_ptr(), "no image is in memory twice"
    assert len(data.extra.pool.labels) - len(data.train.labels) == 40


def test_a_folder_of_class_folders_and_an_npz_of_the_same_images_are_the_same_batches(tmp_path: Path) -> None:
    root, more = tmp_path / "set", tmp_path / "more"
    pixels = np.random.default_rng(0).integers(0, 256, (12, 9, 9, 3), dtype=np.uint8)
    for number, each in enumerate(pixels):
        for folder in (root / "train", root / "test", more):
            name = "ab"[number % 2]
            if folder == more and name == "a":
                continue  # it need not have every class
            (folder / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(each).save(folder / name / f"{number:02}.png")
    array = npz(tmp_path / "more.npz", image=pixels[1::2], label=np.ones(6, np.int64))
    config = DataConfig(name="image_folder", root=str(root), validation_fraction=0, extra_fraction=0.5)
    folder, arrays = (sets.load(config.model_copy(update={"extra": path}), CPU) for path in (str(more), array))
    assert folder.extra is not None
    assert arrays.extra is not None
    ours, theirs = folder.extra.pool, arrays.extra.pool
    assert torch.equal(ours.images, theirs.images)
    assert torch.equal(ours.labels, theirs.labels)


def test_grey_images_of_a_folder_join_grey_data_and_colours_are_refused(tmp_path: Path) -> None:
    (tmp_path / "more" / "7").mkdir(parents=True)
    Image.new("L", (8, 8), 99).save(tmp_path / "more" / "7" / "1.png")
    config = DIGITS.model_copy(update={"extra": str(tmp_path / "more")})
    loaded = sets.load(config, CPU).extra
    assert loaded is not None
    assert torch.equal(loaded.pool.images[-1], torch.full((1, 8, 8), 99, dtype=torch.uint8))
    assert loaded.pool.labels[-1] == 7
    Image.new("RGB", (8, 8), (99, 0, 0)).save(tmp_path / "more" / "7" / "2.png")
    with pytest.raises(UserError, match=r"as the data set's, 8 x 8 pixels of 1 channel, got .* of 3 channels; convert"):
        extra.read(str(tmp_path / "more"), tuple("0123456789"), (1, 8, 8), None)


def test_images_of_a_folder_are_cropped_where_the_data_sets_own_are_and_are_others_then(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 16, 3), dtype=np.uint8)
    for place in ("train/a", "train/b", "val/a", "val/b", "more/a"):
        (tmp_path / place).mkdir(parents=True)
        Image.fromarray(pixels).save(tmp_path / place / "0.png")
    more, marks = str(tmp_path / "more"), []
    for name in ("imagenet", "image_folder"):
        config = DataConfig(name=name, root=str(tmp_path), image_size=8, validation_fraction=0, extra=more)
        loaded = sets.load(config, CPU)
        assert loaded.extra is not None
        assert torch.equal(loaded.extra.pool.images[-1], loaded.train.images[0])
        marks.append(extra.content(config))
    assert marks == ["imagenet_extra-" + marks[1].removeprefix("extra-"), extra.fingerprint(more)]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"image": np.zeros((4, 8, 8, 1), np.uint8)}, "it must hold image, (N, H, W, C) uint8, and label, (N,) whole"),
        ({"image": np.zeros((40, 8, 8, 1), np.float32)}, "got (40, 8, 8, 1) float32 and (40,) int64"),
        ({"label": np.zeros(40)}, "got (40, 8, 8, 1) uint8 and (40,) float64"),
        ({"image": np.zeros((40, 32, 32, 3), np.uint8)}, "images must be as the data set's, 8 x 8 pixels of 1 channel, "
         "got 32 x 32 pixels of 3 channels; convert them"),
        ({"label": np.arange(40)}, "labels must be those of the data set, 0 to 9, got 0 to 39; renumber them"),
        ({"label": np.arange(40) - 1}, "labels must be those of the data set, 0 to 9, got -1 to 38; renumber them"),
        ({"image": np.zeros((0, 8, 8, 1), np.uint8), "label": np.zeros(0, int)}, "holds no images; leave data.extra"),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_data_set_is_refused_in_one_line(
    arrays: dict[str, Any], message: str, tmp_path: Path
) -> None:
    config = DIGITS.model_copy(update={"extra": npz(tmp_path / "a.npz", **arrays)})
    with pytest.raises(UserError) as caught:
        sets.load(config, CPU)
    assert str(caught.value).startswith(f"data.extra: {tmp_path}/a.npz")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_npz_or_lacks_an_array_or_is_not_there_says_so(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("image")
    np.savez(tmp_path / "other.npz", data=np.zeros(3))
    for name in ("text.npz", "other.npz"):
        with pytest.raises(UserError, match=r"cannot be read as an npz .*; it must hold image"):
            sets.load(DIGITS.model_copy(update={"extra": str(tmp_path / name)}), CPU)
    with pytest.raises(Absent, match=r"data.extra: .*none.npz is not there; give a folder"):
        extra.fingerprint(str(tmp_path / "none.npz"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"data.extra: .*empty must hold a folder of images for each class"):
        extra.fingerprint(str(tmp_path / "empty"))


def test_a_folder_of_another_class_is_refused(tmp_path: Path) -> None:
    (tmp_path / "more" / "zebra").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "more" / "zebra" / "1.png")
    with pytest.raises(UserError, match="more/zebra: is no class of the data set; its classes are 0, 1, 2"):
        extra.read(str(tmp_path / "more"), tuple("0123"), (3, 8, 8), None)


def test_the_fingerprint_is_the_contents(tmp_path: Path) -> None:
    first = extra.fingerprint(npz(tmp_path / "a.npz"))
    (tmp_path / "b.npz").write_bytes((tmp_path / "a.npz").read_bytes())
    assert extra.fingerprint(str(tmp_path / "b.npz")) == first
    assert extra.fingerprint(npz(tmp_path / "a.npz", label=np.zeros(40, int))) != first


# Trials


def with_extra(path: str, fraction: float = 0.5, **parts: Any) -> TrialConfig:
    return tiny(data=TINY["data"] | {"extra": path, "extra_fraction": fraction}, **parts)


def test_a_fraction_of_none_is_the_trial_without_to_the_bit(tmp_path: Path) -> None:
    plain, none = with_fingerprint(tiny()), with_fingerprint(with_extra(str(tmp_path / "not looked at"), 0))
    assert identity(none) == identity(plain)
    assert not [key for key in identity(plain)["data"] if key.startswith("extra")]
    assert Training.begin(none).epoch(0)[:3] == Training.begin(plain).epoch(0)[:3]
    assert trial_id(with_fingerprint(tiny(data=TINY["data"] | {"extra_fraction": 0.2}))) == trial_id(plain)


def test_the_id_holds_the_content_and_the_share_and_not_the_path(tmp_path: Path) -> None:
    path = npz(tmp_path / "a.npz")
    (tmp_path / "b.npz").write_bytes((tmp_path / "a.npz").read_bytes())
    ids = [trial_id(with_fingerprint(with_extra(*which))) for which in (
        (path,), (str(tmp_path / "b.npz"),), (path, 0.6), (npz(tmp_path / "c.npz", 41),)
    )]  # fmt: skip
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3
    with pytest.raises(UserError, match=r"data.extra_fingerprint: needed for the trial's id"):
        trial_id(with_fingerprint(tiny()).model_copy(update={"data": with_extra(path).data.model_copy(
            update={"fingerprint": "digits-1"})}))  # fmt: skip


def test_others_than_the_fingerprints_are_refused(tmp_path: Path) -> None:
    config = with_fingerprint(with_extra(npz(tmp_path / "a.npz")))
    npz(tmp_path / "a.npz", 41)
    with pytest.raises(UserError, match=r"data.extra_fingerprint: the images in .* are npz-.*, not npz-.*; point"):
        sets.load(config.data, CPU)
    nameless = config.model_copy(update={"data": config.data.model_copy(update={"extra": None})})
    with pytest.raises(UserError, match=r"^data.extra_fingerprint: is of images that data.extra names; give that too"):
        with_fingerprint(nameless)


def test_a_trial_trains_on_them_and_its_network_is_evaluated_where_they_are_no_more(tmp_path: Path) -> None:
    path = npz(tmp_path / "a.npz")
    records: list[Any] = []
    assert train(with_extra(path, epochs=1), records.append).outcome == "completed"
    plain: list[Any] = []
    train(tiny(epochs=1), plain.append)
    assert records[0].train_robust_loss != plain[0].train_robust_loss
    recorded = identity(with_fingerprint(with_extra(path)))
    Path(path).unlink()
    again = TrialConfig.model_validate(recorded)
    assert sets.load(again.data, CPU).extra is None
    assert trial_id(again) == trial_id(TrialConfig.model_validate(recorded))
