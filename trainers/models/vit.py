"""A small Vision Transformer: Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021.

Pre-norm, with learnt positions, no dropout, and the mean over the patches in place of a class token (Appendix D.4
there). Weights are drawn as in the authors' code: products Xavier-uniform with biases 0, positions N(0, 0.02^2), the
patch embedding LeCun-normal. The head alone differs: theirs is 0, which would leave the first attack no gradient.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DEPTH = 6
WIDTH = 256
HEADS = 4
MLP_WIDTH = 4 * WIDTH


def patch_size(height: int, width: int) -> int:
    """Side of a patch, pixels: 4 on 32 x 32; smaller and larger images are cut into about as many patches."""
    size = min(height, width)
    return next((patch for patch, below in ((2, 16), (4, 64), (8, 128)) if size < below), 16)


class Pad(nn.Module):
    """Zeros to the right of and below the images, up to `height` and `width`."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.height, self.width = height, width

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W), H and W at most the module's, to (B, C, height, width)."""
        return F.pad(images, (0, self.width - images.shape[-1], 0, self.height - images.shape[-2]))


class Attention(nn.Module):
    """Multi-head self-attention: softmax(q k^T / sqrt(d)) v, d the width of a head.

    Written out, because Hessian-vector products differentiate it twice, and the fused kernels behind
    F.scaled_dot_product_attention, nn.MultiheadAttention and nn.TransformerEncoderLayer have no second derivative.
    """

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, T, WIDTH) to the same shape."""
        q, k, v = self.qkv(tokens).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)  # each (B, HEADS, T, d)
        weights = torch.softmax(q @ k.transpose(-2, -1) / math.sqrt(WIDTH / HEADS), -1)
        mixed: Tensor = self.out((weights @ v).transpose(1, 2).flatten(2))
        return mixed


class EncoderBlock(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)): equations 2 and 3 of the paper."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH, eps=1e-6)
        self.attention = Attention()
        self.norm2 = nn.LayerNorm(WIDTH, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, MLP_WIDTH), nn.GELU(), nn.Linear(MLP_WIDTH, WIDTH))

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, T, WIDTH) to the same shape."""
        tokens = tokens + self.attention(self.norm1(tokens))
        encoded: Tensor = tokens + self.mlp(self.norm2(tokens))
        return encoded


class ViTSmall(nn.Module):
    """6 blocks, width 256, 4 heads, MLP width 1,024: 4.77 million parameters with the 64 patches of 32 x 32 images.

    0.63 GFLOP a forward pass of one such image (a multiply-add is 2).
    """

    def __init__(self, channels: int, num_classes: int, height: int, width: int) -> None:
        super().__init__()
        patch = patch_size(height, width)
        rows, columns = math.ceil(height / patch), math.ceil(width / patch)
        self.pad = Pad(rows * patch, columns * patch)
        self.embed = nn.Conv2d(channels, WIDTH, patch, stride=patch)
        self.positions = nn.Parameter(torch.empty(rows * columns, WIDTH))
        self.blocks = nn.Sequential(*[EncoderBlock() for _ in range(DEPTH)])
        self.norm = nn.LayerNorm(WIDTH, eps=1e-6)
        self.linear = nn.Linear(WIDTH, num_classes)
        self._draw()

    def _draw(self) -> None:
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                # queries, keys and values are three products side by side, each with fan-in and fan-out of its own
                for product in layer.weight.chunk(3 if layer.out_features == 3 * WIDTH else 1):
                    nn.init.xavier_uniform_(product)
                nn.init.zeros_(layer.bias)
        nn.init.kaiming_normal_(self.embed.weight, nonlinearity="linear")
        nn.init.zeros_(self.embed.bias)  # type: ignore[arg-type]  # a Conv2d's bias may be None; this one is not
        nn.init.normal_(self.positions, std=0.02)

    def forward(self, images: Tensor) -> Tensor:
        """(B, channels, H, W), normalised, of the size it was built for, to logits (B, num_classes)."""
        tokens = self.embed(self.pad(images)).flatten(2).transpose(1, 2) + self.positions
        logits: Tensor = self.linear(self.norm(self.blocks(tokens)).mean(1))
        return logits
