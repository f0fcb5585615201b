"""Which network a trial trains."""

from __future__ import annotations

import os.path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from trainers.errors import suggestion
from trainers.fields import PathText, Truth
from trainers.own.reference import OwnPart, is_own

#: The networks of trainers.models; `torchvision:NAME` is any classifier of torchvision's, `timm:NAME` of timm's,
#: ./FILE.py:NAME a user's own.
NETWORKS = (
    "small_cnn",
    "preact_resnet18",
    "resnet18",
    "senet18",
    "vgg16",
    "vgg19",
    "wide_resnet28_10",
    "wide_resnet34_10",
    "vit_small",
)

#: What stands in front of the names of other packages' classifiers.
LIBRARIES = ("torchvision:", "timm:")

#: Those of them without a choice of activation.
_ACTIVATION_FIXED = ("vit_small",)


def _network(name: str) -> str:
    if is_own(name):
        return name
    library = next((front for front in LIBRARIES if name.startswith(front)), "")
    if name not in NETWORKS and not name.removeprefix(library).isidentifier():
        raise ValueError(f"must be {', '.join(NETWORKS)}, torchvision:NAME or timm:NAME, got {name!r}")
    if name not in NETWORKS and not library:
        raise ValueError(
            f"unknown network {name!r} (others' are torchvision:NAME and timm:NAME, your own ./FILE.py:NAME); "
            f"{suggestion(name, NETWORKS)}"
        )
    return name


Network = Annotated[str, AfterValidator(_network)]


def _absolute(place: str) -> str:
    """A path as it is from any folder: workers start in another one."""
    return os.path.abspath(os.path.expanduser(place))


class ModelConfig(OwnPart):
    """Which network, and whether it normalises its input."""

    PART: ClassVar[str] = "model"

    name: Network = Field(
        "preact_resnet18",
        description=f"The network: {', '.join(NETWORKS)}, torchvision:NAME, its stem adapted to small images, "
        "timm:NAME, as it is, or your own: PACKAGE.MODULE:NAME or ./FILE.py:NAME, whose options are further keys here "
        "(docs/own_code.md). [DEAT]",
    )
    activation: Literal["relu", "silu", "gelu"] | None = Field(
        None,
        description="What stands in place of the ReLUs of the built-in convolutional networks; of no other network. "
        "none: relu. [Gowal, and Xie et al., Smooth Adversarial Training, 2020: silu]",
    )
    normalize: Truth = Field(
        True,
        description="Subtract the data set's channel mean and divide by its standard deviation inside the model, "
        "so that attacks act on pixels in [0, 1]. [DEAT, Rice, AWP: true; TRADES, MART, S2O: false]",
    )
    moments: Literal["data", "half"] = Field(
        "data",
        description="normalize: by which mean and standard deviation. data: the data set's own; half: 0.5 and 0.5. "
        "[DEAT: data; Rice and AWP on SVHN: half]",
    )

    fine_tune: Annotated[PathText, AfterValidator(_absolute)] | None = Field(
        None,
        description="Weights from which the training starts: a file of torch.save with a state dict, or RUN:TRIAL_ID, "
        "a beginning of the id being enough, with :best, :averaged behind it for other kept weights than the last. The "
        "last layer is drawn where the number of classes is another. Not part of the trial's id: the fingerprint is. "
        "none: they are drawn.",
    )
    weights_fingerprint: str | None = Field(
        None,
        description="Hash of the content of fine_tune. Filled in by the sweep; if set, other weights are refused.",
    )

    @property
    def has_activations(self) -> bool:
        """Whether there is a choice of the network's activation."""
        return self.name in NETWORKS and self.name not in _ACTIVATION_FIXED

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.activation is not None and not self.has_activations:
            names = ", ".join(name for name in NETWORKS if name not in _ACTIVATION_FIXED)
            raise ValueError(
                f"activation: {self.name} has its own and no choice of it, got {self.activation!r}; leave it out, or "
                f"take one of {names}"
            )
        return self
