"""Base class of tasks with masks, with the codec that encodes them as `<seg>` tokens."""

from dataclasses import dataclass
from pathlib import Path

from palitune.codec import masks
from palitune.tasks.base import Task


@dataclass(kw_only=True)
class MaskTask(Task):
    """A task whose suffixes contain `<seg>` tokens."""

    codec: str = masks.EMBEDDED_CODEC
    """Mask codec: path to vae-oid.npz for the released checkpoints, or `embedded` for Palitune's
    own, which the released checkpoints were not trained with."""

    def __post_init__(self) -> None:
        super().__post_init__()
        masks.codec_path(self.codec)

    def input_files(self) -> list[Path]:
        return [masks.codec_path(self.codec)]

    def warnings(self) -> list[str]:
        return masks.codec_warnings(self.codec)
