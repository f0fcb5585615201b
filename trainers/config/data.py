"""Which images a trial is trained on."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from trainers.fields import Number, PathText, Truth, Whole
from trainers.own.reference import OwnName, OwnPart


class DataConfig(OwnPart):
    """Which images, and how they are split and augmented."""

    PART: ClassVar[str] = "data"

    name: Annotated[
        Literal["digits", "cifar10", "cifar100", "svhn", "image_folder", "tiny_imagenet", "imagenet", "shards"],
        OwnName(),
    ] = Field(
        "cifar10",
        description="The data set. digits is scikit-learn's (8 x 8, inside the package); shards is larger than memory "
        "(docs/data.md); or your own: PACKAGE.MODULE:NAME or ./FILE.py:NAME (docs/own_code.md). [DEAT: CIFAR-10]",
    )
    root: PathText | None = Field(
        None,
        description="Folder of the data; none: ./data. image_folder needs it: it holds train/ and test/, "
        "each with one folder a class (or train/ and val/); imagenet and tiny_imagenet too: train/ and val/ "
        "as unpacked; shards: what sweep data prepare wrote. Not part of the trial's id: the fingerprint is.",
    )
    download: Truth = Field(False, description="Fetch the official archive into root if it is not there.")
    validation_fraction: Number = Field(
        0.02, ge=0, lt=1, description="Share of the training set held out, by class. [Rice: 1,000 of 50,000]"
    )
    augment: Truth | None = Field(
        None,
        description="4-pixel pad, random crop, horizontal flip. none: on, but off for digits, "
        "which a flip would change into other signs. [DEAT]",
    )
    padding: Literal["reflect", "zero"] = Field(
        "reflect",
        description="augment: what the pad holds. [DEAT, Rice, AWP: reflect; TRADES, MART, S2O, AVMixup: zero]",
    )
    crop: Literal["pad", "random_resized"] = Field(
        "pad",
        description="augment: pad cuts from the padded image; random_resized a part of random area and ratio (3/4 to "
        "4/3), which is resized to crop_size, bilinear with antialiasing, as torchvision's RandomResizedCrop. "
        "[ImageNet: random_resized in Wong, Salman, Singh; CIFAR: pad]",
    )
    crop_scale: Number = Field(
        0.08,
        gt=0,
        le=1,
        description="random_resized: least area of the part over the image's; the largest is 1. [Szegedy, torchvision, "
        "and with it Wong, Salman, Singh: 0.08]",
    )
    crop_size: Whole | None = Field(
        None,
        gt=0,
        description="Height and width that networks are given, pixels: of the middle of larger images, and of "
        "random_resized's parts. none: those of the images. [ImageNet: 224 of 256]",
    )
    policy: Literal["none", "autoaugment", "randaugment", "trivialaugment", "augmix"] = Field(
        "none",
        description="After crop and flip, a policy of torchvision's, drawn for each image by itself, with its settings "
        "there; autoaugment is the one found on CIFAR-10 for cifar, on SVHN for svhn and digits, else on ImageNet. "
        "[Cubuk et al., CVPR 2019, NeurIPS 2020; Mueller, Hutter, ICCV 2021; Hendrycks et al., ICLR 2020, no loss]",
    )
    cutmix: Number = Field(
        0,
        ge=0,
        le=1,
        description="Share of the images that get a window of another image of their batch, and of its label as much "
        "as of its pixels. 0: none. [Yun: 0.5 on CIFAR; Rebuffi: 1; DEAT: 0]",
    )
    cutmix_window: Number | None = Field(
        None,
        gt=0,
        le=1,
        description="cutmix: side of the window over the image's. none: drawn for each image, its square uniform. "
        "[Yun, and Rebuffi's code: drawn; Rebuffi, paper: 20/32]",
    )
    extra: PathText | None = Field(
        None,
        description="Further training images, real or generated, of the same classes and size: a folder with one "
        "folder a class, or an npz of image (N, H, W, C), uint8, and label (N,), as published with [DM-AT]. none of "
        "them is validated on. Not part of the trial's id: extra_fingerprint is.",
    )
    extra_fraction: Number = Field(
        0.7,
        ge=0,
        lt=1,
        description="extra: its share of every batch; an epoch stays as many images as without. [DM-AT; Rebuffi, code: "
        "supervised_batch_ratio 0.3]",
    )
    train_per_class: Whole | None = Field(
        None, gt=0, description="Take only the first so many training images of each class, validation included."
    )
    test_per_class: Whole | None = Field(None, gt=0, description="Take only the first so many test images of a class.")
    image_size: Whole | None = Field(
        None,
        gt=0,
        description="image_folder, tiny_imagenet: resize to this height and width, pixels. imagenet: resize the "
        "shorter side to this, and keep the middle. none: images have one size.",
    )
    in_memory_gib: Number = Field(
        4,
        gt=0,
        description="Folders of images: pixels of more than so many GiB stay in a file, which all trials of "
        "a machine map into memory; shards always do. Not part of the trial's id.",
    )
    decode: Literal["ahead", "every_epoch"] = Field(
        "ahead",
        description="Folders of images: ahead keeps the pixels, in memory or a file; every_epoch keeps none and "
        "decodes by the trial's own cores whenever they are read (docs/data.md says when it pays). Not part of the "
        "trial's id.",
    )
    fingerprint: str | None = Field(
        None, description="Hash of the data's content. Filled in by the sweep; if set, other data are refused."
    )
    extra_fingerprint: str | None = Field(None, description="That of extra, likewise.")

    @property
    def cropped(self) -> bool:
        """Whether images keep their ratio where they are resized, and lose what is beside the middle; so of `extra`."""
        return self.name == "imagenet"

    @property
    def reads_extra(self) -> bool:
        """Whether training images beside the data set's are part of the trial."""
        return self.extra_fraction > 0 and (self.extra is not None or self.extra_fingerprint is not None)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        folders = "train/ and val/"
        files = {"image_folder": "train/ and test/ (or val/)", "tiny_imagenet": folders, "imagenet": folders}
        shards = {"shards": "what sweep data prepare wrote"}
        # data of records are known by their fingerprint alone
        if self.name in files | shards and self.root is None and self.fingerprint is None:
            raise ValueError(f"root: needed for {self.name}: the folder that holds {(files | shards)[self.name]}")
        if self.name == "imagenet" and self.image_size is None:
            raise ValueError(
                "image_size: needed for imagenet, whose images have many sizes; usual: 256, crop_size: 224"
            )
        if self.name == "shards" and self.image_size is not None:
            raise ValueError("image_size: shards have the size that they were prepared with (--size); leave it out")
        if self.name not in files and self.image_size is not None:
            raise ValueError(
                f"image_size: only {' and '.join(files)} are resized, and name is {self.name!r}; leave it out"
            )
        if self.name not in files and self.decode != "ahead":
            raise ValueError(f"decode: only {' and '.join(files)} are decoded, and name is {self.name!r}; leave it out")
        return self
