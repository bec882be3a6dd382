"""Command-line arguments of a recipe: flags and overrides."""

import argparse
import re
from dataclasses import dataclass
from typing import NoReturn

from palitune.codec.parsing import has_lone_surrogate
from palitune.config.aliases import suggest_key
from palitune.config.recipes import GROUPS
from palitune.distributed.terminal import escape_unprintable
from palitune.errors import ConfigError, did_you_mean

FLAGS = {
    "--cfg job": "print the composed configuration and exit",
    "--config-dir DIR": "add your own options: DIR/experiment/mine.yaml is experiment=mine",
    "--run FOLDER": "start from the configuration of an earlier run",
    "--multirun, -m": "run every combination of comma-separated values: adapter.rank=8,16",
    "--help, -h": "show this help",
}


@dataclass(frozen=True, kw_only=True)
class CliArguments:
    """Parsed command line of a recipe."""

    overrides: list[str]
    config_dir: str | None
    run_folder: str | None
    multirun: bool
    show_config: bool
    help: bool

    @property
    def config_flags(self) -> list[str]:
        """The flags that set where the configuration comes from."""
        config_dir = ["--config-dir", self.config_dir] if self.config_dir else []
        return config_dir + (["--run", self.run_folder] if self.run_folder else [])


class _ArgumentParser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        flag = re.match(r"argument (--[\w-]+)", message)
        if flag is None:
            raise ConfigError(message)
        usage = next(usage for usage in FLAGS if usage.startswith(flag[1]))
        problem = "has no such value" if "choice" in message else "needs a value"
        raise ConfigError(f"{flag[1]} {problem}; write {usage}")


def _reject_setting_as_flag(flag: str, overrides: list[str]) -> None:
    """Raise ConfigError if a flag is a setting with dashes, e.g. `--data coco`."""
    name, has_value, value = flag.lstrip("-").partition("=")
    key = suggest_key(name)
    if name.replace("-", "_").partition(".")[0] in GROUPS:
        key = name.replace("-", "_")
    if key is None:
        return
    following = overrides[overrides.index(flag) + 1 :]
    if not has_value and following and not re.match(r"-|[\w.]+=", following[0]):
        value = following[0]
    raise ConfigError(
        f"there is no flag {flag}; settings have no dashes: write {key}={value or '...'}"
    )


def parse_arguments(argv: list[str]) -> CliArguments:
    """Parse the command line of a recipe. Raises ConfigError on an unknown flag."""
    parser = _ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--cfg", choices=["job"])
    parser.add_argument("--config-dir")
    parser.add_argument("--run")
    parser.add_argument("--multirun", "-m", action="store_true")
    parser.add_argument("--help", "-h", action="store_true")
    for argument in argv:
        if has_lone_surrogate(argument):
            raise ConfigError(
                f"the argument {escape_unprintable(argument)} must be UTF-8, got half of a "
                "surrogate pair. Rename the file or correct the text."
            )
    flags, overrides = parser.parse_known_args(argv)
    if unknown := next((text for text in overrides if text.startswith("-")), None):
        _reject_setting_as_flag(unknown, overrides)
        valid = [name for names in FLAGS for name in names.split(" ")[0].rstrip(",").split()]
        raise ConfigError(
            f"there is no flag {unknown}{did_you_mean(unknown.partition('=')[0], valid)}; "
            f"valid are {', '.join(FLAGS)}"
        )
    return CliArguments(
        overrides=overrides,
        config_dir=flags.config_dir,
        run_folder=flags.run,
        multirun=flags.multirun,
        show_config=flags.cfg is not None,
        help=flags.help,
    )
