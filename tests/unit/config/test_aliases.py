"""Names of other programs, texts with special characters, and values of a wrong type."""

from pathlib import Path

import pytest

from palitune.config.aliases import expand_model_id, suggest_key
from palitune.config.compose import compose
from palitune.config.recipes import Evaluate, Finetune, Predict
from palitune.config.text_settings import quote_text
from palitune.errors import ConfigError
from palitune.models.config import PaliGemma2

from support.config_errors import BOATS, config_error_message

PHOTOS = ["images=photos", "model=tiny"]


@pytest.mark.parametrize(
    ("key", "suggestion"),
    [
        ("lr", "training.learning_rate"),
        ("training.lr", "training.learning_rate"),
        ("epochs", "training.epochs"),
        ("batch_size", "training.global_batch_size"),
        ("rank", "adapter.rank"),
        ("target_modules", "adapter.targets"),
        ("classes", "task.classes"),
        ("num_beams", "evaluation.num_beams"),
        ("learning-rate", "training.learning_rate"),
        ("blue", None),
    ],
)
def test_a_key_of_another_program_is_explained(key: str, suggestion: str | None) -> None:
    assert suggest_key(key) == suggestion
    if "-" not in key:
        message = config_error_message(*BOATS, f"{key}=1")
        assert (f"(did you mean '{suggestion}'?)" in message) is (suggestion is not None)


def test_a_released_model_may_be_named_as_on_the_hub() -> None:
    run = compose(Finetune, [*BOATS, "model=google/paligemma2-10b-mix-448"])
    assert run.model == PaliGemma2(size="10b", variant="mix", resolution=448)
    later = compose(Finetune, [*BOATS, "model=google/paligemma2-3b-pt-224", "model.resolution=448"])
    assert later.model == PaliGemma2(resolution=448)


def test_a_model_may_be_a_folder(tmp_path: Path) -> None:
    assert expand_model_id([f"model={tmp_path}"]) == ["model=local", f"model.path='{tmp_path}'"]
    assert expand_model_id(["model=tiny", "seed=1"]) == ["model=tiny", "seed=1"]
    with pytest.raises(ConfigError, match="model=a/b is neither a folder nor a released PaliGemma"):
        expand_model_id(["model=a/b"])


@pytest.mark.parametrize(
    "text",
    [
        "detect a, b",
        "what is {this}, or [that]?",
        'it\'s "good": yes=no (or not)',
        "one\nline",
        "{question}",
    ],
)
def test_text_settings_take_any_text(text: str) -> None:
    assert compose(Predict, [*PHOTOS, f"prompt={text}"]).prompt == text
    assert compose(Finetune, [*BOATS[:2], "task=text", f"data.path={text}"]).data.path == text


def test_quoted_text_and_lists_are_read_as_before() -> None:
    run = compose(Predict, [*PHOTOS, "prompt='a, b'", "task=detection", "task.classes=[x,y]"])
    assert run.prompt == "a, b"
    assert run.task == type(run.task)(classes=["x", "y"])  # type: ignore[call-arg,misc]


def test_in_a_sweep_only_sentences_are_never_several_values() -> None:
    assert quote_text("prompt=a,b", Predict, sweep=True) == "prompt='a,b'"
    assert quote_text("adapter.path=a,b", Evaluate, sweep=True) == "adapter.path=a,b"
    assert quote_text("adapter.path=a,b", Evaluate) == "adapter.path='a,b'"
    assert quote_text("seed=1,2", Evaluate) == "seed=1,2"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed=abc", "seed=abc: the value must be a whole number, got 'abc'"),
        ("training.epochs=x", "training.epochs=x: the value must be a number, got 'x'"),
        ("evaluate_before=maybe", "the value must be true or false, got 'maybe'"),
        ("adapter.targets=language", "the value must be a list; write adapter.targets=[language]"),
        ("training.schedule=step", "the value must be one of cosine, linear, constant, got 'step'"),
        ("adapter.targets=[q_proj]", "q_proj is in language.attention; write adapter.targets=["),
        ("adapter.targets=[all-linear]", "write adapter.targets=[language,vision,projector]"),
        ("task.metrics=[cider_d]", "cider_d scores text, but task detection generates objects"),
    ],
)
def test_a_value_of_a_wrong_type_is_explained_in_our_words(override: str, message: str) -> None:
    text = config_error_message(*BOATS, override)
    assert message in text
    assert "OmegaConf" not in text
