"""CutMix: a window of another image, and of its label as much as of its pixels.

    x = M x_a + (1 - M) x_b,   y = s y_a + (1 - s) y_b,   s = mean of M

The window is a square whose centre is uniform over the pixels; what of it lies outside the image is cut off. Its side
is fixed, or sqrt(u) of the image's with u uniform, as when the share of the image that stays is Beta(1, 1). The
published codes draw one window for a whole batch; here each image has its own, which for any one is distributed alike.

Sources: [Yun] Yun, Han, Oh, Chun, Choe, Yoo, "CutMix", ICCV 2019, eq. 1 and 2, and GitHub clovaai/CutMix-PyTorch,
train.py; [Rebuffi] Rebuffi, Gowal, Calian, Stimberg, Wiles, Mann, "Data Augmentation Can Improve Robustness", NeurIPS
2021, and google-deepmind/deepmind-research, adversarial_robustness/jax/utils.py, cutmix.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from trainers.randomness import generator


class CutMix(NamedTuple):
    """Which images are mixed, and how.

    Attributes:
        share: of the images that get a window, in (0, 1].
        window: its side over the image's; none: drawn.
        num_classes: of the data.
    """

    share: float
    window: float | None
    num_classes: int


def random_windows(count: int, device: torch.device, seed: int, epoch: int) -> Tensor:
    """(5, count) uniform in [0, 1): mixed or not, the centre down and across, the square, the place among partners."""
    return torch.rand((5, count), generator=generator(device, seed, epoch, "cutmix"), device=device)


def mixed(images: Tensor, labels: Tensor, draws: Tensor, mix: CutMix) -> tuple[Tensor, Tensor]:
    """A batch, each image with a window of another's: the partners are a permutation of the batch.

    Args:
        images: (B, C, H, W) float32.
        labels: (B,) class numbers.
        draws: (5, B), as `random_windows` gives.
        mix: as configured.

    Returns:
        (B, C, H, W), and labels (B, classes): probabilities, float32.
    """
    height, width = images.shape[2:]
    chosen, down, across, square, place = draws
    side = square.sqrt() if mix.window is None else torch.full_like(square, mix.window)
    side = side * (chosen < mix.share)
    inside = _within(down, side, height)[:, :, None] & _within(across, side, width)[:, None, :]
    partner = place.argsort()
    # not F.one_hot, which waits for a GPU to look at the labels
    owned = images.new_zeros((len(labels), mix.num_classes)).scatter_(1, labels[:, None], 1.0)
    taken = inside.flatten(1).to(images.dtype).mean(dim=1, keepdim=True)
    return torch.where(inside[:, None], images[partner], images), torch.lerp(owned, owned[partner], taken)


def _within(centre: Tensor, side: Tensor, size: int) -> Tensor:
    """(B, size): which pixels of an axis lie in windows of such sides, whose centre is a pixel."""
    length = (side * size).round().to(torch.int64)
    first = (centre * size).to(torch.int64) - length // 2
    pixels = torch.arange(size, device=centre.device)
    return (pixels >= first[:, None]) & (pixels < (first + length)[:, None])
