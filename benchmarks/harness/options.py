"""Command-line options shared by the benchmarks."""

import argparse
from pathlib import Path


def build_parser(
    description: str,
    rounds: int,
    *,
    devices: bool = True,
    quick: str = "run one round on a toy model",
) -> argparse.ArgumentParser:
    """Return the parser of a benchmark.

    Args:
        description: Docstring of the benchmark; its first line is the description in --help.
        rounds: Default number of rounds.
        devices: Add the option --device.
        quick: Help text of --quick.
    """
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="fail if a line is below its goal")
    parser.add_argument("--output", type=Path, help="write OUTPUT.md and OUTPUT.json")
    parser.add_argument("--rounds", type=int, default=rounds, help="rounds per line")
    parser.add_argument("--quick", action="store_true", help=quick)
    if devices:
        parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    return parser
