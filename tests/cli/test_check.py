"""`palitune check` says what it checked, and ends in one sentence where something is wrong."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from palitune import __main__ as program
from palitune.data.collator import Batch, Collator
from palitune.data.training_set import TrainingSample
from palitune.models.adapters.checkpoint import save_adapter
from palitune.models.adapters.config import Lora
from palitune.models.config import Local
from palitune.models.loading import load_for_training

from support.toy_data import write_toy_jsonl


@pytest.fixture
def told(tiny: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    write_toy_jsonl(tmp_path / "toys")
    monkeypatch.chdir(tmp_path)
    model = ["model=local", f"model.path={tiny('paligemma2')}"]
    return ["check", "task=ocr", "data=jsonl", "data.path=toys", *model]


def test_a_sound_setup_ends_well_and_trains_nothing(
    told: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert program.run(told) == 0
    said = " ".join(capfd.readouterr().out.split())
    for checked in (
        "versions: python 3.",
        "GiB of disk",
        "lengths: 12 examples",
        "1024 <loc>",
        "suffix and EOS",
        "trainable",
        "mask:",
    ):
        assert checked in said
    assert {path.name for path in tmp_path.iterdir()} == {"toys"}


def test_a_fault_in_the_batches_ends_in_one_sentence(
    told: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    sound = Collator.collate_train

    def causal(collator: Collator, visits: Sequence[TrainingSample]) -> Batch:
        batch = sound(collator, visits)
        batch["token_type_ids"] = (batch["input_ids"] != collator.image_token_id).long()
        return batch

    monkeypatch.setattr(Collator, "collate_train", causal)
    assert program.run(told) == 1
    *_, said = capfd.readouterr().err.strip().splitlines()
    assert said.startswith(
        "palitune: token_type_ids are 1 on the prefix: its attention would be causal"
    )


def test_an_adapter_file_that_does_not_load_in_full_ends_in_one_sentence(
    told: list[str],
    tiny: Callable[[str], Path],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    model = Local(path=str(tiny("paligemma2")))
    save_adapter(load_for_training(model, Lora()), tmp_path / "adapter", model)
    (file,) = (tmp_path / "adapter").glob("*.safetensors")
    assert program.run([*told, "adapter.path=adapter"]) == 0
    tensors = load_file(file)
    del tensors[sorted(tensors)[0]]
    save_file(tensors, file)
    capfd.readouterr()
    assert program.run([*told, "adapter.path=adapter"]) == 1
    *_, said = capfd.readouterr().err.strip().splitlines()
    count = len(tensors)
    assert f"contains {count} tensors, but {count + 1} were saved" in said


def test_a_suffix_that_does_not_fit_ends_in_one_sentence(
    told: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert program.run([*told, "training.max_length=66"]) == 1
    assert "100.0% of the examples exceed training.max_length" in capfd.readouterr().err
