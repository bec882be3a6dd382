"""Names of tensors and modules in the released checkpoints.

Transformers 5 left out one level of the vision tower, `vision_model`, and reads files of both
namings. Transformers 4, vLLM and mlx-vlm read only the released one, so everything that Palitune
writes has it. All functions accept names of both namings.
"""

import re
from collections.abc import Iterable

_VISION_TOWER = re.compile(r"(^|\.)vision_tower\.(vision_model\.)?")
_LANGUAGE_MODEL = re.compile(r"^language_model\.(?!model\.)")


def released_module(name: str) -> str:
    """Return the name in transformers 4 of a network's module, or of a tensor of its LoRA."""
    return _VISION_TOWER.sub(r"\1vision_tower.vision_model.", name)


def released_tensor(name: str) -> str:
    """Return the name in a released checkpoint of a tensor of a network's state dict.

    A head of its own, which no released checkpoint has, keeps the name that all versions read.
    """
    name = released_module(name.removeprefix("model."))
    return _LANGUAGE_MODEL.sub("language_model.model.", name)


def portable_target(module: str) -> str:
    """Return a suffix of a module's name by which PEFT finds it in networks of both namings."""
    return _VISION_TOWER.sub("\0", module).rpartition("\0")[2]


def match_targets(targets: Iterable[str], modules: Iterable[str]) -> set[str]:
    """Return the modules of the targets of an adapter; a target without a module stays as it is."""
    by_target = {portable_target(module): module for module in modules}
    return {by_target.get(portable_target(target), target) for target in targets}
