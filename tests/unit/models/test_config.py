"""Released checkpoints, and validation of model settings."""

import subprocess
import sys

import pytest

from palitune.models.config import (
    MODELS,
    RELEASED_CHECKPOINTS,
    AttentionImplementation,
    Dtype,
    Local,
    ModelConfig,
    PaliGemma,
    PaliGemma2,
    Tiny,
)

HUB_IDS = {
    "google/paligemma-3b-pt-224",
    "google/paligemma-3b-pt-448",
    "google/paligemma-3b-pt-896",
    "google/paligemma-3b-mix-224",
    "google/paligemma-3b-mix-448",
    "google/paligemma2-3b-pt-224",
    "google/paligemma2-3b-pt-448",
    "google/paligemma2-3b-pt-896",
    "google/paligemma2-10b-pt-224",
    "google/paligemma2-10b-pt-448",
    "google/paligemma2-10b-pt-896",
    "google/paligemma2-28b-pt-224",
    "google/paligemma2-28b-pt-448",
    "google/paligemma2-28b-pt-896",
    "google/paligemma2-3b-mix-224",
    "google/paligemma2-3b-mix-448",
    "google/paligemma2-10b-mix-224",
    "google/paligemma2-10b-mix-448",
    "google/paligemma2-28b-mix-224",
    "google/paligemma2-28b-mix-448",
    "google/paligemma2-3b-ft-docci-448",
    "google/paligemma2-10b-ft-docci-448",
}


def test_the_table_gives_the_hub_id_of_every_released_checkpoint() -> None:
    models = [
        family(size=size, variant=variant, resolution=resolution)
        for family in (PaliGemma, PaliGemma2)
        for (size, variant), resolutions in RELEASED_CHECKPOINTS[family.name].items()
        for resolution in resolutions
    ]
    assert sorted(model.name_or_path() for model in models) == sorted(HUB_IDS)
    assert all(model.on_hub() for model in models)


@pytest.mark.parametrize(
    ("family", "wrong"),
    [
        (PaliGemma, {"variant": "mix", "resolution": 896}),
        (PaliGemma, {"size": "10b"}),
        (PaliGemma, {"variant": "ft-docci", "resolution": 448}),
        (PaliGemma2, {"variant": "mix", "resolution": 896}),
        (PaliGemma2, {"size": "28b", "variant": "ft-docci", "resolution": 448}),
        (PaliGemma2, {"variant": "ft-docci", "resolution": 224}),
        (PaliGemma2, {"size": "2b"}),
        (PaliGemma2, {"resolution": 512}),
    ],
)
def test_an_unreleased_checkpoint_is_refused_with_the_released_ones(
    family: type[PaliGemma], wrong: dict[str, object]
) -> None:
    with pytest.raises(ValueError, match=r"was not released as .* 3b pt at 224/448/896, ") as error:
        family(**wrong)
    assert all(str(value) in str(error.value) for value in wrong.values())


def test_a_path_is_read_instead_of_the_hub() -> None:
    model = PaliGemma2(path="/models/mine")
    assert (model.name_or_path(), model.on_hub()) == ("/models/mine", False)


def test_half_precision_is_refused_for_paligemma_2_only() -> None:
    PaliGemma(dtype=Dtype.fp16)
    with pytest.raises(
        ValueError, match=r"model\.dtype must be bf16 or fp32 for Gemma 2, which overf"
    ):
        PaliGemma2(dtype=Dtype.fp16)


def test_sdpa_is_refused_for_paligemma_2_with_soft_capped_scores() -> None:
    PaliGemma(attention=AttentionImplementation.sdpa)
    PaliGemma2(attention=AttentionImplementation.sdpa, attention_logit_softcapping=False)
    with pytest.raises(ValueError, match=r"model\.attention=sdpa cannot soft-cap"):
        PaliGemma2(attention=AttentionImplementation.sdpa)


def test_a_final_softcap_is_refused_for_paligemma_1() -> None:
    with pytest.raises(
        ValueError, match=r"model\.final_logit_softcapping must be false for PaliGemma 1"
    ):
        PaliGemma(final_logit_softcapping=True)


def test_by_default_attention_scores_are_soft_capped_and_output_logits_are_not() -> None:
    model = PaliGemma2()
    assert not model.final_logit_softcapping
    assert model.attention_logit_softcapping


def test_models_are_registered_by_name() -> None:
    assert set(MODELS) == {"paligemma", "paligemma2", "local", "tiny"}
    assert all(model.name == name for name, model in MODELS.items())


@pytest.mark.parametrize("model", [Local(path="/models/mine"), Tiny()], ids=lambda m: m.name)
def test_models_in_folders_are_not_on_the_hub(model: ModelConfig) -> None:
    assert not model.on_hub()
    assert model.name_or_path().startswith("/")


def test_model_and_adapter_settings_are_imported_without_torch() -> None:
    code = (
        "import sys, palitune.models.config, palitune.models.adapters.config; "
        "print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
