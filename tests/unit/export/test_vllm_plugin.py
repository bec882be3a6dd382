"""The plugin of vLLM, on stand-ins for its model runner; scripts/check_vllm runs the real one."""

import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from palitune.export import vllm_plugin


def fake_runner() -> Any:
    class Runner:
        def __init__(self, vllm_config: Any, device: str) -> None:
            self.vllm_config, self.device = vllm_config, device

    return SimpleNamespace(
        CommonAttentionMetadata=lambda **fields: dict(fields), GPUModelRunner=Runner
    )


def config(model_type: str, *, chunked: bool = False, caching: bool = False) -> Any:
    return SimpleNamespace(
        model_config=SimpleNamespace(
            hf_config=SimpleNamespace(model_type=model_type),
            model_arch_config=SimpleNamespace(is_mm_prefix_lm=True),
        ),
        scheduler_config=SimpleNamespace(enable_chunked_prefill=chunked),
        cache_config=SimpleNamespace(enable_prefix_caching=caching),
    )


def test_no_pass_of_paligemma_is_causal_and_other_models_stay_as_they_are() -> None:
    runner = fake_runner()
    vllm_plugin.patch(runner)
    vllm_plugin.patch(runner)  # vLLM may load plugins twice in a process
    other = runner.GPUModelRunner(config("llava", chunked=True, caching=True), "cpu")
    assert other.device == "cpu"
    assert runner.CommonAttentionMetadata(causal=True, rows=2) == {"causal": True, "rows": 2}
    settings = config("paligemma")
    runner.GPUModelRunner(settings, device="cpu")
    assert runner.CommonAttentionMetadata(causal=True, rows=2) == {"causal": False, "rows": 2}
    assert settings.model_config.model_arch_config.is_mm_prefix_lm is False


@pytest.mark.parametrize("setting", ["chunked", "caching"])
def test_split_or_shared_prompts_are_refused_with_the_way_out(setting: str) -> None:
    runner = fake_runner()
    vllm_plugin.patch(runner)
    with pytest.raises(ValueError, match="enable_chunked_prefill=False and enable_prefix_caching"):
        runner.GPUModelRunner(config("paligemma", **{setting: True}), "cpu")


def test_a_vllm_whose_parts_have_moved_is_refused_with_the_versions_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = "vllm.v1.worker.gpu_model_runner"
    for part in ("vllm", "vllm.v1", "vllm.v1.worker", name):
        monkeypatch.setitem(sys.modules, part, SimpleNamespace())
    with pytest.raises(RuntimeError, match=r"does not fit this version .* tried with 0\.32\.0"):
        vllm_plugin.register()


def test_the_entry_point_names_the_function_and_imports_nothing_heavy() -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    entry = project["entry-points"]["vllm.general_plugins"]
    assert entry == {"palitune": "palitune.export.vllm_plugin:register"}
    assert any(name.startswith("vllm") for name in project["optional-dependencies"]["vllm"])
    code = (
        "import sys; from palitune.export.vllm_plugin import register; "
        "assert not {'torch', 'vllm', 'transformers'} & sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
