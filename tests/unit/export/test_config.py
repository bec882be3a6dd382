"""Validation of the export settings."""

from typing import Any

import pytest

from palitune.export.config import ExportConfig
from palitune.models.adapters.combination import CombinationType
from palitune.models.adapters.config import Lora
from palitune.models.quantization import ExportQuantization


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": 0}, "rank must be at least 1, got 0"),
        ({"density": 0.0}, "density must be above 0 and at most 1, got 0.0"),
        ({"density": 1.01}, "density must be above 0 and at most 1, got 1.01"),
        ({"samples": 0}, "samples must be at least 1, got 0"),
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1, got 0"),
        ({"max_logit_error": -1.0}, "max_logit_error must be at least 0, got -1.0"),
        ({"max_logit_error": float("nan")}, "max_logit_error must be at least 0, got nan"),
        ({"prompt": " "}, "prompt must not be empty"),
        (
            {"onnx": True, "quantize": ExportQuantization.nf4},
            "onnx=true requires quantize=none, got nf4",
        ),
    ],
)
def test_invalid_settings_raise_an_error(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ExportConfig(**settings)


TWO = {"adapters": ["a", "b"]}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({**TWO, "weights": [1.0]}, r"weights must have one number per adapter \(2\), got 1"),
        ({"weights": [1.0, 2.0]}, r"weights must have one number per adapter \(1\), got 2"),
        (
            {**TWO, "weights": [1.0, float("nan")]},
            r"finite numbers and not all 0, got \[1.0, nan\]",
        ),
        ({**TWO, "weights": [0.0, 0.0]}, "weights must be finite numbers and not all 0"),
        (
            {"combination_type": CombinationType.svd},
            r"combination_type=svd requires several adapters, got 1\. Set adapters=\[FOL",
        ),
        (
            {**TWO, "combination_type": CombinationType.dare_ties},
            r"combination_type=dare_ties requires density, the share of values to keep\. Set dens",
        ),
        ({**TWO, "density": 0.5}, "density=0.5 is used by the rules that drop values only, got "),
    ],
)
def test_contradicting_settings_of_a_combination_raise_an_error(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ExportConfig(**settings).adapter_combination(Lora(path="run/adapter"))


def test_adapters_are_the_configured_ones_or_that_of_the_run() -> None:
    adapter = Lora(path="run/adapter", allow_base_mismatch=True)
    assert ExportConfig().adapter_combination(adapter).paths == ["run/adapter"]
    assert ExportConfig().adapter_combination(adapter).allow_base_mismatch
    assert ExportConfig(adapters=["a", "b"]).adapter_combination(adapter).paths == ["a", "b"]
    with pytest.raises(ValueError, match=r"adapter.path is missing. Set adapter.path=FOLDER"):
        ExportConfig().adapter_combination(Lora())


def test_the_limit_depends_on_the_dtype_and_quantized_weights_have_none() -> None:
    assert ExportConfig().max_logit_error_for("torch.float32") < ExportConfig().max_logit_error_for(
        "torch.bfloat16"
    )  # type: ignore[operator]
    assert (
        ExportConfig(quantize=ExportQuantization.nf4).max_logit_error_for("torch.bfloat16") is None
    )
    assert (
        ExportConfig(quantize=ExportQuantization.nf4, max_logit_error=3.0).max_logit_error_for(
            "torch.bfloat16"
        )
        == 3.0
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"onnx": True},
            r"onnx=true requires onnx, onnx_ir, onnxruntime. Install with: pip install .*onnx",
        ),
        (
            {"quantize": ExportQuantization.torchao_int8},
            r"requires torchao. Install with: pip install '\.\[torchao\]'",
        ),
    ],
)
def test_a_missing_package_raises_an_error_with_its_name(
    settings: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=message):
        ExportConfig(**settings)
