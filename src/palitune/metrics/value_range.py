"""Direction and best possible value of a reported number, derived from its name."""

MAX_CIDER_D = 10.0
"""CIDEr-D of a caption that equals all its references."""

_LOWER_IS_BETTER = (
    *("error_rate", "loss", "perplexity", "malformed", "unfinished", "malformed_objects"),
    *("malformed_fragments", "duplicates", "unknown_label"),
)


def higher_is_better(name: str) -> bool:
    """Return whether higher values of a reported number, e.g. `ocr/teds`, are better."""
    return not name.endswith(_LOWER_IS_BETTER)


def perfect_value(name: str) -> float:
    """Return the best possible value of a number, e.g. 10 for CIDEr-D and 0 for an error rate."""
    if name.endswith("cider_d"):
        return MAX_CIDER_D
    return 1.0 if higher_is_better(name) else 0.0
