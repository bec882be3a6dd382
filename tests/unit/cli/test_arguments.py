"""Parsing of a recipe's command line."""

import pytest

from palitune.cli.arguments import parse_arguments
from palitune.errors import ConfigError


def test_flags_may_be_anywhere_on_the_command_line() -> None:
    arguments = parse_arguments(["a=1", "--config-dir=own", "b=-2", "-m", "--run", "out", "c=3"])
    assert arguments.overrides == ["a=1", "b=-2", "c=3"]
    assert (arguments.config_dir, arguments.run_folder) == ("own", "out")
    assert (arguments.multirun, arguments.show_config, arguments.help) == (True, False, False)
    assert arguments.config_flags == ["--config-dir", "own", "--run", "out"]


@pytest.mark.parametrize(
    ("argv", "start"),
    [
        (["--multirn"], "there is no flag --multirn (did you mean '--multirun'?); valid are --cfg"),
        (["--conf-dir=x"], "there is no flag --conf-dir=x (did you mean '--config-dir'?); "),
        (["-x"], "there is no flag -x; "),
        (["--cfg", "hydra"], "--cfg has no such value; write --cfg job"),
        (["--config-dir"], "--config-dir needs a value; write --config-dir DIR"),
        (["--data", "coco"], "there is no flag --data; settings have no dashes: write data=coco"),
        (
            ["--lr=1"],
            "there is no flag --lr=1; settings have no dashes: write training.learning_rate=1",
        ),
    ],
)
def test_an_unknown_flag_is_an_error_of_one_sentence(argv: list[str], start: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_arguments(argv)
    assert str(error.value).startswith(start)


def test_an_argument_that_is_not_utf_8_is_refused() -> None:
    argument = b"data.path=b\xe5t".decode("utf-8", "surrogateescape")  # as Python decodes it
    with pytest.raises(ConfigError, match=r"data\.path=b\\udce5t must be UTF-8"):
        parse_arguments([argument])
