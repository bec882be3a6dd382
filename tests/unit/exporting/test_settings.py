"""What an export can be told."""

from typing import Any

import pytest

from palitune.exporting.settings import Exporting
from palitune.models.adapters import Lora
from palitune.models.quantizing import Quantize


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"combine": ["a", "b"], "weights": [1.0]}, "weights has 1 numbers for 2 adapters"),
        ({"weights": [1.0]}, "weights has 1 numbers for 0 adapters"),
        ({"samples": 0}, "samples must be at least 1, not 0"),
        ({"new_tokens": 0}, "new_tokens must be at least 1, not 0"),
        ({"bound": -1.0}, "bound must be at least 0"),
        ({"bound": float("nan")}, "bound must be at least 0"),
        ({"prompt": " "}, "prompt is empty"),
        ({"onnx": True, "quantize": Quantize.nf4}, "quantize=nf4 would have it of rounded weights"),
    ],
)
def test_what_cannot_be_is_refused(told: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Exporting(**told)


def test_the_adapters_are_those_of_combine_or_the_one_of_the_run() -> None:
    one = Lora(path="run/adapter", any_base=True)
    assert Exporting().combined(one).paths == ["run/adapter"]
    assert Exporting().combined(one).any_base
    assert Exporting(combine=["a", "b"]).combined(one).paths == ["a", "b"]
    with pytest.raises(ValueError, match=r"adapter.path is missing: write adapter.path=FOLDER"):
        Exporting().combined(Lora())


def test_the_bound_goes_with_the_dtype_and_quantized_weights_have_none() -> None:
    assert Exporting().limit("torch.float32") < Exporting().limit("torch.bfloat16")  # type: ignore[operator]
    assert Exporting(quantize=Quantize.nf4).limit("torch.bfloat16") is None
    assert Exporting(quantize=Quantize.nf4, bound=3.0).limit("torch.bfloat16") == 3.0


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"onnx": True}, r"onnx=true needs onnx, onnxruntime: pip install '\.\[onnx\]'"),
        ({"quantize": Quantize.torchao_int8}, r"needs torchao: pip install '\.\[torchao\]'"),
    ],
)
def test_a_package_that_is_missing_is_named(
    told: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=said):
        Exporting(**told)
