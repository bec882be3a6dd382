"""The network behind `<seg>` tokens: a VQ-VAE that writes a mask of 64 x 64 as 16 of 128 codes.

The architecture of AiT (Ning et al. 2023, `vae/models/VQVAE.py`), which PaliGemma's masks were
written with; tensors are named as in its released `vae-oid.npz`. Imports torch: import it lazily.
"""

import itertools
import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from palitune.codec.masks import CODES_PER_MASK, NUM_CODES

GRID_SIZE = 4
"""Height and width of the grid of codes that a mask becomes."""
CHANNELS = (1, 16, 32, 64, 128)
"""Channels after every halving of the side."""
CODE_DIM = 512
"""Length of a code in the released codec; another one may have its own."""
CODEBOOK_KEY = "_vq_vae._embedding"


class MaskVQVAE(nn.Module):
    """Encoder, codebook and decoder; `depth` is the length of a code."""

    def __init__(self, code_dim: int = CODE_DIM) -> None:
        super().__init__()
        self._vq_vae = nn.ParameterDict({"_embedding": torch.randn(NUM_CODES, code_dim)})
        wide = CHANNELS[-1]
        downward, upward = [*itertools.pairwise(CHANNELS)], [*itertools.pairwise(CHANNELS[:0:-1])]
        down = [_downsample(*widths) for widths in downward]
        up = [_upsample(*widths) for widths in [(wide, wide), *upward]]
        self.encoder = nn.Sequential(
            *itertools.chain(*down),
            _ResidualBlock(wide),
            _ResidualBlock(wide),
            nn.Conv2d(wide, code_dim, 1),
        )
        self.decoder = nn.Sequential(
            *(nn.Conv2d(code_dim, wide, 1), nn.ReLU(), _ResidualBlock(wide), _ResidualBlock(wide)),
            *itertools.chain(*up),
            nn.Conv2d(CHANNELS[1], CHANNELS[0], 1),
        )

    @property
    def codebook(self) -> Tensor:
        """(128, depth) float."""
        book: Tensor = self._vq_vae["_embedding"]
        return book

    def encode_features(self, masks: Tensor) -> Tensor:
        """Encode masks in [-1, 1], (n, 64, 64), as vectors (n * 16, depth), row by row."""
        grid: Tensor = self.encoder(masks[:, None])
        return grid.permute(0, 2, 3, 1).reshape(-1, grid.shape[1])

    def nearest_codes(self, features: Tensor) -> Tensor:
        """Return the code nearest to each vector, by squared distance: (n,) int64."""
        book = self.codebook
        distances = book.square().sum(1) - 2 * features @ book.T  # less the vectors' own lengths
        return distances.argmin(1)

    def decode_features(self, features: Tensor) -> Tensor:
        """Decode vectors (n * 16, depth) to masks (n, 64, 64); above 0 is inside."""
        grid = features.reshape(-1, GRID_SIZE, GRID_SIZE, features.shape[1]).permute(0, 3, 1, 2)
        masks: Tensor = self.decoder(grid)[:, 0]
        return masks

    def encode(self, masks: Tensor) -> Tensor:
        """Write masks in [0, 1], (n, 64, 64), as codes (n, 16) int64, row by row."""
        return self.nearest_codes(self.encode_features(2 * masks - 1)).reshape(-1, CODES_PER_MASK)

    def decode(self, codes: Tensor) -> Tensor:
        """Draw masks (n, 64, 64) out of codes (n, 16); above 0 is inside."""
        return self.decode_features(self.codebook[codes.reshape(-1)])


def load_mask_vqvae(tensors: Mapping[str, Tensor]) -> MaskVQVAE:
    """Build the network out of tensors by name; further ones of `_vq_vae` (of training) are left.

    Raises ValueError, a clause that names the tensor, where one is missing, unknown or of another
    shape than the architecture's.
    """
    book = tensors.get(CODEBOOK_KEY)
    if book is None or book.ndim != 2 or book.shape[0] != NUM_CODES:
        found = "none" if book is None else tuple(book.shape)
        raise ValueError(f"{CODEBOOK_KEY} must have shape ({NUM_CODES}, depth), not {found}")
    network = MaskVQVAE(book.shape[1])
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    given = {n: t for n, t in tensors.items() if n in expected or not n.startswith("_vq_vae.")}
    for name in sorted(expected.keys() | given.keys()):
        shape = tuple(given[name].shape) if name in given else "none"
        if shape != expected.get(name, "none"):
            raise ValueError(f"{name} must have shape {expected.get(name, 'none')}, not {shape}")
    network.load_state_dict({name: tensor.float() for name, tensor in given.items()})
    if not all(math.isfinite(parameter.sum().item()) for parameter in network.parameters()):
        raise ValueError("a tensor holds numbers that are not finite")
    return network.requires_grad_(False).eval()


class _ResidualBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            *(nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU()),
            nn.Conv2d(channels, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.net(x)  # type: ignore[no-any-return]


def _downsample(in_channels: int, out_channels: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(in_channels, out_channels, 4, stride=2, padding=1), nn.ReLU()


def _upsample(in_channels: int, out_channels: int) -> tuple[nn.Module, nn.Module]:
    return nn.ConvTranspose2d(in_channels, out_channels, 4, stride=2, padding=1), nn.ReLU()
