"""What an export can be told."""

from typing import Any

import pytest

from palitune.export.config import ExportConfig
from palitune.models.adapters.config import Lora
from palitune.models.quantization import ExportQuantization


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"adapters": ["a", "b"], "weights": [1.0]}, "weights has 1 numbers for 2 adapters"),
        ({"weights": [1.0]}, "weights has 1 numbers for 0 adapters"),
        ({"samples": 0}, "samples must be at least 1, not 0"),
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1, not 0"),
        ({"max_logit_error": -1.0}, "max_logit_error must be at least 0"),
        ({"max_logit_error": float("nan")}, "max_logit_error must be at least 0"),
        ({"prompt": " "}, "prompt is empty"),
        (
            {"onnx": True, "quantize": ExportQuantization.nf4},
            "quantize=nf4 would have it of rounded weights",
        ),
    ],
)
def test_what_cannot_be_is_refused(told: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ExportConfig(**told)


def test_the_adapters_are_those_of_combine_or_the_one_of_the_run() -> None:
    one = Lora(path="run/adapter", allow_base_mismatch=True)
    assert ExportConfig().adapter_combination(one).paths == ["run/adapter"]
    assert ExportConfig().adapter_combination(one).allow_base_mismatch
    assert ExportConfig(adapters=["a", "b"]).adapter_combination(one).paths == ["a", "b"]
    with pytest.raises(ValueError, match=r"adapter.path is missing: write adapter.path=FOLDER"):
        ExportConfig().adapter_combination(Lora())


def test_the_bound_goes_with_the_dtype_and_quantized_weights_have_none() -> None:
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
    ("told", "said"),
    [
        ({"onnx": True}, r"onnx=true needs onnx, onnxruntime: pip install '\.\[onnx\]'"),
        (
            {"quantize": ExportQuantization.torchao_int8},
            r"needs torchao: pip install '\.\[torchao\]'",
        ),
    ],
)
def test_a_package_that_is_missing_is_named(
    told: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=said):
        ExportConfig(**told)
