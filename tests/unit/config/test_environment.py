"""Environment variables reach a run only through the user's own files, and never a file."""

from pathlib import Path

import pytest

from palitune.config.compose import compose
from palitune.config.recipes import Finetune
from palitune.config.to_yaml import to_yaml
from palitune.errors import ConfigError

from support.config_errors import BOATS

SECRET = "hf_0123456789"


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)
    monkeypatch.setenv("BOATS_SEED", "7")


def saved_run(folder: Path, old: str, new: str) -> str:
    text = to_yaml(compose(Finetune, [*BOATS, "output_dir=first"]))
    assert old in text
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text(text.replace(old, new, 1))
    return str(folder)


@pytest.mark.parametrize(
    "value",
    [
        "${oc.env:HF_TOKEN}",
        "a-${oc.env:HF_TOKEN}",
        "'\\${oc.env:HF_TOKEN}'",
        "${reference_hparams:${oc.env:HF_TOKEN}}",
        "${oc.decode:'${oc.env:HF_TOKEN}'}",
        "${hydra:runtime.cwd}",
        "${model.path}",
    ],
)
def test_the_configuration_of_a_run_folder_reads_no_environment(value: str, tmp_path: Path) -> None:
    run_folder = saved_run(tmp_path / "run", "path: boats", f"path: {value}")
    with pytest.raises(ConfigError, match="is not allowed in the configuration of a run") as raised:
        compose(Finetune, [], run_folder=run_folder)
    assert SECRET not in str(raised.value)


def test_a_choice_in_a_run_folder_reads_no_environment(tmp_path: Path) -> None:
    run_folder = saved_run(
        tmp_path / "run", "override /adapter: lora", "override /adapter: ${oc.env:A}"
    )
    with pytest.raises(ConfigError, match="is not allowed in the configuration of a run"):
        compose(Finetune, [], run_folder=run_folder)


def test_an_own_value_from_the_environment_is_used_and_masked(tmp_path: Path) -> None:
    overrides = ["seed=${oc.env:BOATS_SEED}", "data.path=x/${oc.env:HF_TOKEN}", "output_dir=first"]
    run = compose(Finetune, [*BOATS[:1], "task=detection", *overrides])
    assert (run.seed, run.data.path) == (7, f"x/{SECRET}")  # type: ignore[union-attr]
    text = to_yaml(run)
    assert SECRET not in text
    assert "seed: ???\n" in text
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"^(seed|data\.path) is missing: write"):
        compose(Finetune, [], run_folder=str(tmp_path))
    again = compose(Finetune, ["seed=7", "data.path=boats"], run_folder=str(tmp_path))
    assert again.seed == 7


def test_a_value_that_refers_to_one_from_the_environment_is_masked(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "# @package _global_\n"
        "data:\n  path: ${oc.env:HF_TOKEN}\n"
        "task:\n  classes: [boat, '${data.path}']\n"
    )
    run = compose(
        Finetune,
        [*BOATS[:1], "task=detection", "experiment=mine", "output_dir=${data.path}"],
        config_dir=str(tmp_path),
    )
    assert run.task.classes == ["boat", SECRET]  # type: ignore[union-attr]
    assert SECRET not in to_yaml(run)


BOMB = "a: &a [x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, r"an alias \(\*a\), line 2"),
        ("a: &a\n  b: *a\n", r"an alias \(\*a\), line 2"),
        ("a: " + "[" * 1000, "nested too deeply"),
        ("a: b\n" * 300_000, "more than 1000000 characters"),
        ('a: "\\ud800"\n', "half of a surrogate pair"),
        ("a: [\n", "while parsing"),
        ("a: \xff", "is not the configuration of a run"),
    ],
)
def test_a_hostile_configuration_is_one_sentence(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=message) as raised:
        compose(Finetune, [], run_folder=str(tmp_path))
    assert len(str(raised.value)) < 500
    assert "\n" not in str(raised.value)
