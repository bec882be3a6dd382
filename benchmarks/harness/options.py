"""What a benchmark can be told."""

import argparse
from pathlib import Path


def build_parser(
    description: str, rounds: int, *, devices: bool = True, quick: str = "a toy, one round"
) -> argparse.ArgumentParser:
    """The options that benchmarks share; `about` is the docstring of one."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="fail where a line misses its goal")
    parser.add_argument("--output", type=Path, help="write OUTPUT.md and OUTPUT.json")
    parser.add_argument("--rounds", type=int, default=rounds, help="of each line")
    parser.add_argument("--quick", action="store_true", help=quick)
    if devices:
        parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    return parser
