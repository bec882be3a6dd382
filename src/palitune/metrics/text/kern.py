"""Error rates of music written as kern, counted in characters, symbols or lines over a corpus.

The counts follow the code of GrandStaff's authors (`eval_functions.py` of the Sheet Music
Transformer): symbols are separated by spaces, tabs and line breaks, and tabs and line breaks are
symbols too. Its "characters" are the symbols as well, except that tabs and line breaks are spelled
out as `<t>` and `<b>`, three characters each; comparison with published values requires the same.
"""

from palitune.metrics.text.error_rate import ErrorRate

_BREAK_NAMES = {"\n": "<b>", "\t": "<t>"}


def split_symbols(kern: str) -> list[str]:
    """Split music into symbols, including tabs and line breaks."""
    for character, name in _BREAK_NAMES.items():
        kern = kern.replace(character, f" {name} ")
    return kern.split(" ")


def split_characters(kern: str) -> list[str]:
    """Split music into symbols, and the names of tabs and line breaks into their characters."""
    symbols = split_symbols(kern)
    return [
        unit
        for symbol in symbols
        for unit in (symbol if symbol in _BREAK_NAMES.values() else (symbol,))
    ]


def split_lines(kern: str) -> list[str]:
    """Split music into lines; the notes of a line sound together."""
    return kern.split("\n")


_SPLIT_FUNCTIONS = {"character": split_characters, "symbol": split_symbols, "line": split_lines}


class KernErrorRate(ErrorRate):
    def __init__(self, unit: str) -> None:
        """`unit`: character | symbol | line."""
        super().__init__(f"kern_{unit}_error_rate", _SPLIT_FUNCTIONS[unit])
