"""What tasks that write masks share: the codec that turns them into `<seg>` tokens."""

from dataclasses import dataclass
from pathlib import Path

from palitune.codec import masks
from palitune.tasks.base import Task


@dataclass(kw_only=True)
class MaskTask(Task):
    """A task whose suffixes hold `<seg>` tokens."""

    codec: str = masks.EMBEDDED_CODEC
    """What writes masks as <seg> tokens: a path to vae-oid.npz, for the released checkpoints, or
    embedded: Palitune's own, which they do not know."""

    def __post_init__(self) -> None:
        super().__post_init__()
        masks.codec_path(self.codec)

    def input_files(self) -> list[Path]:
        return [masks.codec_path(self.codec)]

    def warnings(self) -> list[str]:
        return masks.codec_warnings(self.codec)
