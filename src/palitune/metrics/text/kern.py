"""Error rates of music written as kern: of characters, of symbols and of lines, over a corpus.

As the code of GrandStaff's authors (the Sheet Music Transformer's `eval_functions.py`) counts:
symbols are what stands between spaces, tabs and line breaks, the last two being symbols themselves;
lines are lines. Its "characters" are the symbols, too, but for tabs and line breaks, which it
spells out as `<t>` and `<b>`, three characters each: numbers as published need the same.
"""

from collections.abc import Iterator

from palitune.metrics.text.error_rate import ErrorRate

_BREAK_NAMES = {"\n": "<b>", "\t": "<t>"}


def split_symbols(kern: str) -> list[str]:
    """Split music into symbols, tabs and line breaks among them."""
    for mark, name in _BREAK_NAMES.items():
        kern = kern.replace(mark, f" {name} ")
    return kern.split(" ")


def split_characters(kern: str) -> list[str]:
    """Split music into symbols, and the names of tabs and line breaks into their characters."""
    return list(_spell_out_breaks(split_symbols(kern)))


def split_lines(kern: str) -> list[str]:
    """Split music into lines: what sounds together."""
    return kern.split("\n")


def _spell_out_breaks(symbols: list[str]) -> Iterator[str]:
    for symbol in symbols:
        yield from symbol if symbol in _BREAK_NAMES.values() else (symbol,)


_SPLIT_FUNCTIONS = {"character": split_characters, "symbol": split_symbols, "line": split_lines}


class KernErrorRate(ErrorRate):
    def __init__(self, unit: str) -> None:
        """`unit`: character | symbol | line."""
        super().__init__(f"kern_{unit}_error_rate", _SPLIT_FUNCTIONS[unit])
