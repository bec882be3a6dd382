"""VQ-VAE of PaliGemma's segmentation tokens: a 64 x 64 mask as 16 of 128 codes.

The architecture is AiT's (Ning et al. 2023, `vae/models/VQVAE.py`); tensors have the names of the
released `vae-oid.npz`. This module imports torch, so `masks` imports it lazily.
"""

import itertools
import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from palitune.codec.tokens import CODES_PER_MASK, NUM_CODES

GRID_SIZE = 4
"""Height and width of the code grid of a mask."""
CHANNELS = (1, 16, 32, 64, 128)
"""Channels of the mask and after each stride-2 convolution."""
CODE_DIM = 512
"""Code width of the released codec; other codecs may differ."""
CODEBOOK_KEY = "_vq_vae._embedding"


class MaskVQVAE(nn.Module):
    """Encoder, codebook and decoder."""

    def __init__(self, code_dim: int = CODE_DIM) -> None:
        super().__init__()
        self._vq_vae = nn.ParameterDict({"_embedding": torch.randn(NUM_CODES, code_dim)})
        width = CHANNELS[-1]
        down = [_downsample(*widths) for widths in itertools.pairwise(CHANNELS)]
        up = [
            _upsample(*widths) for widths in [(width, width), *itertools.pairwise(CHANNELS[:0:-1])]
        ]
        self.encoder = nn.Sequential(
            *itertools.chain(*down),
            _ResidualBlock(width),
            _ResidualBlock(width),
            nn.Conv2d(width, code_dim, 1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(code_dim, width, 1),
            nn.ReLU(),
            _ResidualBlock(width),
            _ResidualBlock(width),
            *itertools.chain(*up),
            nn.Conv2d(CHANNELS[1], CHANNELS[0], 1),
        )

    @property
    def codebook(self) -> Tensor:
        """(128, code_dim) float."""
        codebook: Tensor = self._vq_vae["_embedding"]
        return codebook

    def encode_features(self, masks: Tensor) -> Tensor:
        """Encode masks in [-1, 1], (n, 64, 64), as features (n * 16, code_dim), row by row."""
        grid: Tensor = self.encoder(masks[:, None])
        return grid.permute(0, 2, 3, 1).reshape(-1, grid.shape[1])

    def nearest_codes(self, features: Tensor) -> Tensor:
        """Return the nearest code of each feature by squared distance: (n,) int64."""
        codebook = self.codebook
        # The squared length of a feature is the same for all codes and is left out.
        distances = codebook.square().sum(1) - 2 * features @ codebook.T
        return distances.argmin(1)

    def decode_features(self, features: Tensor) -> Tensor:
        """Decode features (n * 16, code_dim) to mask logits (n, 64, 64); above 0 is inside."""
        grid = features.reshape(-1, GRID_SIZE, GRID_SIZE, features.shape[1]).permute(0, 3, 1, 2)
        logits: Tensor = self.decoder(grid)[:, 0]
        return logits

    def encode(self, masks: Tensor) -> Tensor:
        """Encode masks in [0, 1], (n, 64, 64), as codes (n, 16) int64, row by row."""
        return self.nearest_codes(self.encode_features(2 * masks - 1)).reshape(-1, CODES_PER_MASK)

    def decode(self, codes: Tensor) -> Tensor:
        """Decode codes (n, 16) to mask logits (n, 64, 64); above 0 is inside."""
        return self.decode_features(self.codebook[codes.reshape(-1)])


def load_mask_vqvae(tensors: Mapping[str, Tensor]) -> MaskVQVAE:
    """Build the network from named tensors; other `_vq_vae` tensors (of training) are ignored.

    Raises:
        ValueError: A tensor is missing, unknown, misshapen or not finite.
    """
    codebook = tensors.get(CODEBOOK_KEY)
    if codebook is None or codebook.ndim != 2 or codebook.shape[0] != NUM_CODES:
        shape = "none" if codebook is None else tuple(codebook.shape)
        raise ValueError(f"{CODEBOOK_KEY} must have shape ({NUM_CODES}, code_dim), got {shape}")
    network = MaskVQVAE(codebook.shape[1])
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    weights = {n: t for n, t in tensors.items() if n in expected or not n.startswith("_vq_vae.")}
    for name in sorted(expected.keys() | weights.keys()):
        actual_shape = tuple(weights[name].shape) if name in weights else "none"
        if actual_shape != expected.get(name, "none"):
            raise ValueError(
                f"{name} must have shape {expected.get(name, 'none')}, got {actual_shape}"
            )
    network.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    if not all(math.isfinite(parameter.sum().item()) for parameter in network.parameters()):
        raise ValueError("a tensor holds numbers that are not finite")
    return network.requires_grad_(False).eval()


class _ResidualBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.net(x)  # type: ignore[no-any-return]


def _downsample(in_channels: int, out_channels: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(in_channels, out_channels, 4, stride=2, padding=1), nn.ReLU()


def _upsample(in_channels: int, out_channels: int) -> tuple[nn.Module, nn.Module]:
    return nn.ConvTranspose2d(in_channels, out_channels, 4, stride=2, padding=1), nn.ReLU()
