"""Which network a trial trains."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from trainers.errors import suggestion
from trainers.fields import Truth
from trainers.own.reference import OwnPart, is_own

#: The networks of trainers.models; `torchvision:NAME` is any classifier of torchvision's, ./FILE.py:NAME a user's own.
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


def _network(name: str) -> str:
    if is_own(name):
        return name
    if name not in NETWORKS and not name.removeprefix("torchvision:").isidentifier():
        raise ValueError(f"must be {', '.join(NETWORKS)} or torchvision:NAME, got {name!r}")
    if name not in NETWORKS and not name.startswith("torchvision:"):
        raise ValueError(f"unknown network {name!r} (torchvision's are torchvision:NAME); {suggestion(name, NETWORKS)}")
    return name


Network = Annotated[str, AfterValidator(_network)]


class ModelConfig(OwnPart):
    """Which network, and whether it normalises its input."""

    PART: ClassVar[str] = "model"

    name: Network = Field(
        "preact_resnet18",
        description=f"The network: {', '.join(NETWORKS)}, or torchvision:NAME, its stem adapted to small images, "
        "or your own: PACKAGE.MODULE:NAME or ./FILE.py:NAME, whose options are further keys here (docs/own_code.md). "
        "[DEAT]",
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
