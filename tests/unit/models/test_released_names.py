"""Exports and adapters have the tensor names of the released checkpoints."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from palitune.export.export_model import export_merged
from palitune.models.adapters.combination import AdapterCombination
from palitune.models.adapters.config import Full, Lora
from palitune.models.config import Dtype, Local
from palitune.models.hub_files import read_config
from palitune.models.loading import (
    load,
    load_combined,
    load_for_inference,
    load_processor,
)
from palitune.models.quantization import ExportQuantization
from palitune.models.released_names import (
    match_targets,
    portable_target,
    released_module,
    released_tensor,
)

from support.released_files import released_names
from support.tiny_models import reference_logits, save_perturbed_adapter

ADAPTERS = {
    "lora": Lora(rank=2, targets=["language", "vision", "projector"]),
    "dora": Lora(rank=2, dora=True, targets=["language", "vision"]),
    "full": Full(),
    "head": Lora(rank=2, targets=["language", "head"]),
}


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


def names(file: Path) -> set[str]:
    with safe_open(file, framework="pt") as tensors:
        return set(tensors.keys())


def with_names(base: Path, folder: Path, rename: Callable[[str], str]) -> Path:
    """Copy a checkpoint with other tensor names."""
    shutil.copytree(base, folder)
    weights = load_file(base / "model.safetensors")
    renamed = {rename(key): weight for key, weight in weights.items()}
    save_file(renamed, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def without_vision_model(name: str) -> str:
    return name.replace("vision_tower.vision_model.", "vision_tower.")


NAMINGS: dict[str, Callable[[str], str]] = {
    "released": released_tensor,
    "transformers 5": lambda name: without_vision_model(released_tensor(name)),
}


@pytest.mark.parametrize("naming", NAMINGS)
@pytest.mark.parametrize("family", ["paligemma", "paligemma2"])
def test_every_tensor_of_an_export_has_its_name_in_the_released_files(
    family: str, naming: str, tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    base = with_names(tiny(family), tmp_path / "base", NAMINGS[naming])
    model = Local(path=str(base))
    expected = released_names(read_config(base))
    processor = load_processor(model)
    for kind in ADAPTERS if naming == "released" else ["lora"]:
        adapter = ADAPTERS[kind]
        path = save_perturbed_adapter(model, adapter, tmp_path / kind, std=0.02)
        network = load_combined(model, AdapterCombination(paths=[path]), quantized=False)
        logits = reference_logits(network)
        export_merged(
            network,
            processor,
            model,
            tmp_path / f"{kind}-export",
            dtype=Dtype.fp32,
            quantize=ExportQuantization.none,
        )
        head = {"lm_head.weight"} if kind == "head" else set()
        assert names(tmp_path / f"{kind}-export/model.safetensors") == expected | head
        again = reference_logits(load(Local(path=str(tmp_path / f"{kind}-export"))))
        torch.testing.assert_close(again, logits, atol=2e-5, rtol=0)


def test_a_quantized_export_has_the_released_names(
    tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    model = Local(path=str(tiny("paligemma2")))
    path = save_perturbed_adapter(model, ADAPTERS["lora"], tmp_path / "adapter", std=0.02)
    network = load_combined(model, AdapterCombination(paths=[path]), quantized=False)
    export_merged(
        network,
        load_processor(model),
        model,
        tmp_path / "export",
        dtype=Dtype.fp32,
        quantize=ExportQuantization.nf4,
    )
    expected = released_names(read_config(Path(model.path)))
    saved = names(tmp_path / "export/model.safetensors")
    assert {name for name in saved if ".weight." not in name} == expected  # others: NF4's scales


@pytest.mark.parametrize("kind", ADAPTERS)
@pytest.mark.parametrize("family", ["paligemma", "paligemma2"])
def test_every_tensor_of_an_adapter_has_the_name_of_a_released_module(
    family: str, kind: str, tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    model = Local(path=str(tiny(family)))
    save_perturbed_adapter(model, ADAPTERS[kind], tmp_path)
    released = released_names(read_config(Path(model.path)))
    if kind == "full":
        assert names(tmp_path / "trained.safetensors") == released
        return
    # PEFT's file names modules as transformers 4 does: with "model." before the released names,
    # and without the inner "model." of the language model.
    modules = {
        "model." + name.removesuffix(".weight").replace("language_model.model.", "language_model.")
        for name in released
    } | {"lm_head"}
    saved = {
        name.removeprefix("base_model.model.").partition(".lora_")[0]
        for name in names(tmp_path / "adapter_model.safetensors")
    }
    assert saved < modules
    assert any("vision_tower.vision_model.encoder" in name for name in saved) == (kind != "head")
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    for module in saved:  # PEFT matches suffixes
        assert any(f".{module}".endswith(f".{target}") for target in config["target_modules"])


@pytest.mark.parametrize("kind", ["lora", "dora", "full"])
def test_an_adapter_of_an_earlier_version_is_renamed_and_reported(
    kind: str,
    tiny: Callable[[str], Path],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = Local(path=str(tiny("paligemma2")))
    save_perturbed_adapter(model, ADAPTERS[kind], tmp_path)
    with caplog.at_level(logging.WARNING):
        expected = reference_logits(load_for_inference(model, Lora(path=str(tmp_path))))
    assert not warnings_of(caplog)

    [file] = tmp_path.glob("*.safetensors")
    stems = {released_tensor(name): name for name in load(model).state_dict()}
    rename = stems.__getitem__ if kind == "full" else without_vision_model
    save_file({rename(key): weight for key, weight in load_file(file).items()}, file)
    if kind != "full":
        settings = json.loads((tmp_path / "adapter_config.json").read_text())
        modules = {without_vision_model(key).partition(".lora_")[0] for key in load_file(file)}
        settings["target_modules"] = [m.removeprefix("base_model.model.") for m in modules]
        (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
    with caplog.at_level(logging.WARNING):
        renamed = reference_logits(load_for_inference(model, Lora(path=str(tmp_path))))
    assert torch.equal(renamed, expected)
    [message] = warnings_of(caplog)
    assert "tensor names of an earlier version (first " in message
    assert "They are renamed while reading" in message


def test_names_of_both_namings_lead_to_the_released_one() -> None:
    tower = "vision_tower.vision_model.encoder.layers.0.mlp.fc1"
    for name in ("model.vision_tower.encoder.layers.0.mlp.fc1", f"model.{tower}", tower):
        assert released_tensor(name) == tower
        assert portable_target(name) == "encoder.layers.0.mlp.fc1"
    assert released_module("model.vision_tower.encoder.x") == (
        "model.vision_tower.vision_model.encoder.x"
    )
    for name in ("model.language_model.norm.weight", "language_model.model.norm.weight"):
        assert released_tensor(name) == "language_model.model.norm.weight"
    assert released_tensor("lm_head.weight") == "lm_head.weight"
    assert portable_target("model.language_model.layers.0.mlp.up_proj") == (
        "model.language_model.layers.0.mlp.up_proj"
    )
    modules = ["model.vision_tower.encoder.layers.0.mlp.fc1", "lm_head"]
    targets = ["encoder.layers.0.mlp.fc1", "lm_head", "absent"]
    assert match_targets(targets, modules) == {*modules, "absent"}
