"""A trained model in the ecosystem's formats: merged, compared with what was trained, described."""

from typing import TYPE_CHECKING

from palitune.lazily import lazily

if TYPE_CHECKING:
    from palitune.exporting.card import describe
    from palitune.exporting.hub import push
    from palitune.exporting.parity import check, compare, written
    from palitune.exporting.samples import take_samples

__getattr__ = lazily(
    __name__,
    {
        "check": "parity",
        "compare": "parity",
        "describe": "card",
        "push": "hub",
        "take_samples": "samples",
        "written": "parity",
    },
)

__all__ = ["check", "compare", "describe", "push", "take_samples", "written"]
