"""Saved adapters are loaded exactly, on their own base and completely, or refused."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from palitune.errors import ModelError
from palitune.models.adapters import checkpoint
from palitune.models.adapters.checkpoint import (
    AdapterMetadata,
    _load_weights,
    load_adapter,
    save_adapter,
)
from palitune.models.adapters.config import AdapterConfig, Full, Initialization, Lora, Qlora
from palitune.models.adapters.stored_lora import read_lora_config
from palitune.models.config import Local
from palitune.models.loading import load, load_for_inference, load_for_training
from palitune.models.paligemma import PaliGemmaPrefixLM

from support.tiny_models import build_tiny

ADAPTERS = [
    Lora(),
    Lora(targets=["vision.mlp", "projector"], dora=True, rank=4),
    Lora(targets=["language.attention"], rslora=True, initialization=Initialization.gaussian),
    Lora(targets=["language", "vision", "projector"], rank=2),
    Qlora(rank=4),
    Qlora(rank=4, bits=8),
    Full(trainable_parts=["language.attention"]),
    Lora(rank=4, targets=["language.mlp", "head"]),
    Full(),
]
FAMILIES = ["paligemma", "paligemma2"]


def logits(network: Any) -> torch.Tensor:
    torch.manual_seed(0)
    ids = torch.tensor([[network.config.image_token_id] * 64 + [2, 10, 11, 12]])
    pixels = torch.randint(0, 256, (1, 3, 112, 112), dtype=torch.uint8)
    with torch.no_grad():
        result: torch.Tensor = network.eval()(
            input_ids=ids,
            pixel_values=pixels,
            token_type_ids=torch.zeros_like(ids),
            attention_mask=torch.ones_like(ids),
        ).logits
    return result


def trained(model: Local, adapter: AdapterConfig) -> Any:
    """Return a network whose adapter differs from its initial values."""
    torch.manual_seed(0)
    network = load_for_training(model, adapter)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.add_(0.02 * torch.randn_like(parameter))
    return network


@pytest.fixture
def model(tiny: Callable[[str], Path]) -> Local:
    return Local(path=str(tiny("paligemma2")))


@pytest.fixture
def saved(model: Local, tmp_path: Path) -> Path:
    """Return the folder of a saved LoRA."""
    save_adapter(trained(model, Lora(rank=4)), tmp_path / "adapter", model)
    return tmp_path / "adapter"


@pytest.mark.parametrize("adapter", ADAPTERS, ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_loaded_adapter_gives_the_same_logits(
    family: str, adapter: AdapterConfig, tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    model = Local(path=str(tiny(family)))
    network = trained(model, adapter)
    save_adapter(network, tmp_path, model)
    again = load_for_inference(model, Lora(path=str(tmp_path)))
    assert torch.equal(logits(again), logits(network))
    assert not torch.equal(logits(again), logits(load(model, adapter)))
    assert not any(parameter.requires_grad for parameter in again.parameters())


@pytest.mark.parametrize("rslora", [True, False])
@pytest.mark.parametrize("initialization", ["pissa", "pissa_niter_4", "olora"])
def test_pissa_and_olora_are_saved_as_a_plain_lora_of_the_unmodified_base(
    initialization: str, rslora: bool, model: Local, tmp_path: Path
) -> None:
    adapter = Lora(rank=4, rslora=rslora, initialization=Initialization(initialization))
    network = trained(model, adapter)
    save_adapter(network, tmp_path, model)
    torch.manual_seed(99)  # loading needs no randomness
    again = load_for_inference(model, Lora(path=str(tmp_path)))
    assert (logits(again) - logits(network)).abs().max() <= 2e-5
    with again.disable_adapter():
        assert torch.equal(logits(again), logits(load(model)))
    assert again.peft_config["default"].r == 8


def test_peft_loads_a_saved_adapter(model: Local, saved: Path) -> None:
    ours = load_for_inference(model, Lora(path=str(saved)))
    theirs = PeftModel.from_pretrained(load(model), str(saved))
    assert torch.equal(logits(ours), logits(theirs))


def test_the_metadata_identify_the_base_and_its_settings(
    tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    model = Local(path=str(tiny("paligemma2")), attention_logit_softcapping=False)
    network = trained(model, Qlora(targets=["language.mlp"]))
    save_adapter(network, tmp_path, model)
    metadata = json.loads((tmp_path / "palitune.json").read_text())
    assert metadata.pop("fingerprint") == network.get_base_model().base_fingerprint
    assert metadata == {
        "palitune": "0.1.0",
        "adapter": "lora",
        "bits": 4,
        "base": str(tiny("paligemma2")),
        "revision": "main",
        "family": "paligemma2",
        "resolution": 112,
        "final_logit_softcapping": False,
        "attention_logit_softcapping": False,
        "tensors": 2 * 2 * 3,
    }
    written = json.loads((tmp_path / "adapter_config.json").read_text())
    assert written["base_model_name_or_path"] == model.path
    assert len(written["target_modules"]) == 2 * 3


@pytest.mark.parametrize("final", [True, False])
@pytest.mark.parametrize("scores", [True, False])
def test_softcaps_of_the_training_are_restored(
    final: bool, scores: bool, tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    path = str(tiny("paligemma2"))
    then = Local(path=path, final_logit_softcapping=final, attention_logit_softcapping=scores)
    network = trained(then, Lora(rank=2))
    save_adapter(network, tmp_path, then)
    now = Local(path=path, final_logit_softcapping=True)
    again = load_for_inference(now, Lora(path=str(tmp_path)))
    text = again.config.text_config
    assert (text.final_logit_softcapping is not None) == final
    assert (text.attn_logit_softcapping is not None) == scores
    assert torch.equal(logits(again), logits(network))


def test_a_quantized_base_is_quantized_again_whatever_the_settings(
    model: Local, tmp_path: Path
) -> None:
    save_adapter(trained(model, Qlora(rank=2)), tmp_path, model)
    again = load_for_inference(model, Full(path=str(tmp_path)))
    assert again.get_base_model().is_quantized


def test_without_a_path_the_base_model_is_loaded(model: Local) -> None:
    network = load_for_inference(model, Lora())
    assert isinstance(network, PaliGemmaPrefixLM)
    assert torch.equal(logits(network), logits(load(model)))


# Resuming ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "adapter", [Lora(rank=4), Qlora(rank=4), Full(trainable_parts=["projector"])]
)
def test_training_continues_from_a_saved_adapter(
    adapter: AdapterConfig, model: Local, tmp_path: Path
) -> None:
    network = trained(model, adapter)
    save_adapter(network, tmp_path, model)
    again = load_for_training(model, replace(adapter, path=str(tmp_path)))
    assert torch.equal(logits(again), logits(network))
    expected = sorted(name for name, p in network.named_parameters() if p.requires_grad)
    assert sorted(name for name, p in again.named_parameters() if p.requires_grad) == expected


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        (Lora(rank=8), r"adapter\.rank must be 4, as in the adapter in .*, got 8"),
        (Lora(rank=4, alpha=4), r"adapter\.alpha must be 8, .* got 4"),
        (Lora(rank=4, dora=True), r"adapter\.dora must be False, .* got True"),
        (
            Lora(rank=4, targets=["language.mlp", "projector"]),
            r"adapter\.targets must be \['language\.attention', 'language\.mlp'\], .* got "
            r"\['language\.mlp', 'projector'\]",
        ),
    ],
)
def test_settings_that_differ_from_the_saved_adapter_are_refused(
    adapter: Lora, message: str, model: Local, saved: Path
) -> None:
    with pytest.raises(ModelError, match=message):
        load_for_training(model, replace(adapter, path=str(saved)))


def test_full_refuses_parts_that_were_not_trained(model: Local, tmp_path: Path) -> None:
    save_adapter(trained(model, Full(trainable_parts=["projector"])), tmp_path, model)
    with pytest.raises(
        ModelError, match=r"adapter\.trainable_parts must be .*, \['projector'\], got \['vision'\]"
    ):
        load_for_training(model, Full(trainable_parts=["vision"], path=str(tmp_path)))


# Errors ------------------------------------------------------------------------------------------


def damage(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    """Change the weights and update the number of tensors in palitune.json."""
    [file] = folder.glob("*.safetensors")
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)
    metadata = json.loads((folder / "palitune.json").read_text())
    metadata["tensors"] = len(tensors)
    (folder / "palitune.json").write_text(json.dumps(metadata))


KEY = "base_model.model.model.language_model.layers.1.mlp.up_proj.lora_B.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop(KEY), f"{KEY} is missing"),
        (
            lambda tensors: tensors.update({KEY.replace("up", "in"): tensors[KEY].clone()}),
            "the network has no weight .*in_proj",
        ),
        (
            lambda tensors: tensors.update({KEY: tensors[KEY][:, :2].clone()}),
            r"up_proj\.lora_B\.weight must have shape \(128, 4\), got \(128, 2\)",
        ),
        (
            lambda tensors: tensors.update(
                {KEY.replace("model.language_model", "language_model"): tensors.pop(KEY)}
            ),
            "is missing|has no weight",
        ),
    ],
    ids=["missing", "unexpected", "misshapen", "renamed"],
)
def test_an_incomplete_adapter_is_refused(
    change: Callable[[dict[str, torch.Tensor]], None], message: str, model: Local, saved: Path
) -> None:
    damage(saved, change)
    with pytest.raises(ModelError, match=message):
        load_for_inference(model, Lora(path=str(saved)))


@pytest.mark.parametrize("adapter", [Lora(rank=2), Full(trainable_parts=["language.mlp"])])
def test_a_file_with_fewer_tensors_than_were_saved_is_refused(
    adapter: AdapterConfig, model: Local, tmp_path: Path
) -> None:
    save_adapter(trained(model, adapter), tmp_path, model)
    [file] = tmp_path.glob("*.safetensors")
    tensors = load_file(file)
    del tensors[sorted(tensors)[0]]
    save_file(tensors, file)
    with pytest.raises(
        ModelError, match=rf"contains {len(tensors)} tensors, but {len(tensors) + 1}"
    ):
        load_for_inference(model, Lora(path=str(tmp_path)))


def test_weights_of_another_network_are_refused_for_full(model: Local, tmp_path: Path) -> None:
    save_adapter(trained(model, Full(trainable_parts=["projector"])), tmp_path, model)
    damage(tmp_path, lambda tensors: tensors.update({"head": torch.ones(2)}))
    with pytest.raises(ModelError, match=r"the network has no weight head"):
        load_for_inference(model, Lora(path=str(tmp_path)))


def test_another_base_of_the_same_shape_is_refused(saved: Path, tmp_path: Path) -> None:
    other = build_tiny(tmp_path / "other", "paligemma2", seed=1)
    with pytest.raises(ModelError, match=r"weights differ from this model's\. Set model to that"):
        load_for_inference(Local(path=str(other)), Lora(path=str(saved)))
    forced = Lora(path=str(saved), allow_base_mismatch=True)
    network = load_for_inference(Local(path=str(other)), forced)
    assert network.base_fingerprint != checkpoint.AdapterMetadata.read(saved).fingerprint


def test_a_base_of_another_family_or_resolution_is_refused(
    saved: Path, tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=r"\(paligemma2, 112 px\), not on a paligemma of 112 px"):
        load_for_inference(Local(path=str(tiny("paligemma"))), Lora(path=str(saved)))
    larger = build_tiny(tmp_path / "larger", "paligemma2", image_size=224)
    with pytest.raises(ModelError, match=r"not on a paligemma2 of 224 px"):
        load_for_inference(Local(path=str(larger)), Lora(path=str(saved), allow_base_mismatch=True))


def test_the_base_may_be_moved_to_another_folder(model: Local, saved: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(model.path, tmp_path / "moved")
    again = load_for_inference(Local(path=str(moved)), Lora(path=str(saved)))
    assert torch.equal(logits(again), logits(load_for_inference(model, Lora(path=str(saved)))))


def test_a_base_loaded_with_other_softcaps_is_refused(model: Local, saved: Path) -> None:
    base = load(Local(path=model.path, final_logit_softcapping=True))
    with pytest.raises(ModelError, match=r"trained with model\.final_logit_softcapping=False"):
        load_adapter(base, saved)


@pytest.mark.parametrize("missing", ["palitune.json", "adapter_model.safetensors"])
def test_an_incomplete_folder_is_refused(missing: str, model: Local, saved: Path) -> None:
    (saved / missing).unlink()
    (saved / "adapter_config.json").unlink()
    with pytest.raises(ModelError, match=missing):
        load_for_inference(model, Lora(path=str(saved)))


@pytest.mark.parametrize("former_names", [False, True])
def test_a_plain_peft_adapter_is_loaded_with_a_warning(
    former_names: bool, model: Local, saved: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = logits(load_for_inference(model, Lora(path=str(saved))))
    (saved / "palitune.json").unlink()
    config = json.loads((saved / "adapter_config.json").read_text())
    config["target_modules"] = ["q_proj", "k_proj", "v_proj", "o_proj", "up_proj"]
    (saved / "adapter_config.json").write_text(json.dumps(config))
    if former_names:
        file = saved / "adapter_model.safetensors"
        current, former = "model.model.language_model.", "model.language_model.model."
        save_file({name.replace(current, former): v for name, v in load_file(file).items()}, file)
    assert torch.equal(logits(load_for_inference(model, Lora(path=str(saved)))), expected)
    assert "is a plain PEFT adapter without palitune.json" in caplog.text


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("peft_type", "IA3", "peft_type must be LORA, got IA3"),
        ("modules_to_save", ["lm_head"], "modules_to_save must be "),
        ("bias", "all", 'bias must be "none"'),
    ],
)
def test_a_plain_peft_adapter_that_is_more_than_lora_is_refused(
    key: str, value: object, message: str, model: Local, saved: Path
) -> None:
    (saved / "palitune.json").unlink()
    config = json.loads((saved / "adapter_config.json").read_text())
    (saved / "adapter_config.json").write_text(json.dumps(config | {key: value}))
    with pytest.raises(ModelError, match=message):
        load_for_inference(model, Lora(path=str(saved)))


def test_the_path_may_be_a_run_folder(saved: Path) -> None:
    assert Lora(path=str(saved.parent)).path == str(saved)
    assert Full(path=str(saved)).path == str(saved)
    assert Lora(path="missing").path == "missing"


def test_saving_keeps_other_files_of_the_folder(model: Local, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    save_adapter(trained(model, Lora(rank=2)), tmp_path, model)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "notes.txt",
        "palitune.json",
    ]


def change_config(folder: Path, name: str, value: Any) -> None:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {name: value}))


HOSTILE_FIELDS: dict[str, tuple[str, Any, str]] = {
    "a huge rank": ("r", 10**9, "r must be an integer from 1"),
    "another rank": ("r", 8, r"r must be the rank of the weights, \[4\], got \[8\]"),
    "a rank as text": ("r", "4", "r must be an integer"),
    "a boolean rank": ("r", True, "r must be an integer"),
    "NaN": ("lora_alpha", float("nan"), "lora_alpha must be a positive number"),
    "an endless number": ("lora_alpha", 10**400, "lora_alpha must be a positive number"),
    "a regular expression": ("target_modules", "(a+)+$", "must be a list of module names"),
    "one in a list": ("target_modules", ["(a+)+$"], "must be a list of module names"),
    "no modules": ("target_modules", [], "must be a list of module names"),
    "a pattern": ("rank_pattern", {"(.*)*x": 4}, "rank_pattern must be ranks by the name"),
    "a rank in a pattern": ("rank_pattern", {"q_proj": 10**6}, "rank_pattern must be ranks"),
    "an initialization": ("init_lora_weights", "pissa", "init_lora_weights must be True"),
    "a computation": ("init_lora_weights", "pissa_niter_999999", "must be True"),
    "saved modules": ("modules_to_save", ["lm_head"], "modules_to_save must be None"),
    "an unknown field": ("run_this", "import os", "'run_this' is not a field of a LoRA"),
    "another method": ("peft_type", "PREFIX_TUNING", "peft_type must be"),
    "a replication": ("layer_replication", [[0, 10**6]], "layer_replication must be None"),
    "a bias": ("bias", "all", "bias must be 'none'"),
}


@pytest.mark.parametrize(
    ("name", "value", "message"), HOSTILE_FIELDS.values(), ids=list(HOSTILE_FIELDS)
)
def test_a_hostile_configuration_is_refused_in_one_sentence(
    name: str, value: Any, message: str, model: Local, saved: Path
) -> None:
    weights = load_file(saved / "adapter_model.safetensors")
    change_config(saved, name, value)
    with pytest.raises(ModelError, match=message) as raised:
        read_lora_config(saved, weights)
    assert len(str(raised.value)) < 500


@pytest.mark.parametrize("content", ["[" * 200_000, "3", '{"r": ', "\ufeff\ud800", '{"r": 1e999}'])
def test_a_damaged_configuration_is_refused(content: str, saved: Path) -> None:
    weights = load_file(saved / "adapter_model.safetensors")
    (saved / "adapter_config.json").write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(ModelError, match=r"adapter_config\.json"):
        read_lora_config(saved, weights)


@pytest.mark.parametrize(
    ("name", "value"),
    [("tensors", "84"), ("bits", True), ("base", 3), ("resolution", None), ("more", 1)],
)
def test_metadata_of_other_types_are_refused(name: str, value: Any, saved: Path) -> None:
    file = saved / "palitune.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {name: value}))
    with pytest.raises(ModelError, match=r"palitune\.json is missing or unreadable"):
        AdapterMetadata.read(saved)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), None])
def test_weights_that_are_not_finite_floats_are_refused(number: float | None, saved: Path) -> None:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        if number is None:
            tensors[KEY] = tensors[KEY].to(torch.int32)
        else:
            tensors[KEY][0, 0] = number

    damage(saved, change)
    with pytest.raises(ModelError, match="must hold finite floating-point numbers"):
        _load_weights(saved, AdapterMetadata.read(saved))
