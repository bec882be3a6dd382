"""`palitune align` as a user runs it: each method, what it leaves behind, and what it refuses."""

import json
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from palitune import __main__ as program
from palitune.alignment import trl_compat

from support.browser import DESKTOP, PHONE, open_page

TOLD = [
    "align", "task=ocr", "data=handwriting", "model=tiny", "num_generations=4",
    "training.global_batch_size=8",
    "training.micro_batch_size=4", "training.max_steps=2", "training.log_every=1",
    "training.learning_rate=0.001", "training.warmup_ratio=0", "training.num_workers=0",
    "training.self_check=false", "task.max_new_tokens=6",
    "task.reward_weights={character_error_rate: 3, valid: 1}", "evaluation.num_workers=0",
    "evaluation.max_samples=2", "evaluate_before=false", "evaluation.bootstrap_samples=0",
]  # fmt: skip


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def refused(told: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert program.run(told) in (1, 2)
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("palitune: ")
    return said


def test_an_interrupted_grpo_goes_on_as_if_it_had_not_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    at_once = ["training.save_every=1", "training.schedule=constant"]
    assert program.run([*TOLD, *at_once, "output_dir=whole"]) == 0
    assert program.run([*TOLD, *at_once, "output_dir=cut", "training.max_steps=1"]) == 0
    assert program.run([*TOLD, *at_once, "output_dir=cut", "training.resume=auto"]) == 0
    whole, cut = lines(Path("whole/history.jsonl")), lines(Path("cut/history.jsonl"))
    assert [entry["step"] for entry in cut] == [1, 2]
    for name in ("loss", "align/reward", "align/kl", "align/entropy", "align/mean_length"):
        assert cut[-1][name] == pytest.approx(whole[-1][name], abs=1e-5), name
    assert 0 < whole[0]["align/reward"] < 1
    parts = [whole[0][f"align/reward_{name}"] for name in ("character_error_rate", "valid")]
    assert whole[0]["align/reward"] == pytest.approx((3 * parts[0] + parts[1]) / 4, abs=1e-6)
    assert Path("whole/adapter/palitune.json").is_file()
    assert [one["step"] for one in lines(Path("cut/samples.jsonl"))] == [1, 1, 2, 2]
    with open_page(Path("whole/report.html"), PHONE) as visit:
        assert "Reward tuning: ocr" in visit.page.title()
        assert visit.page.locator("#sampled article").count() == 4
        assert visit.page.locator("#curves figure").count() > 5
        assert (visit.errors, visit.broken_images(), visit.overflow()) == ([], [], 0)
        visit.page.set_viewport_size({"width": DESKTOP[0], "height": DESKTOP[1]})
        assert visit.overflow() == 0


def test_rloo_runs_on_other_views_and_is_measured_before_and_after(tmp_path: Path) -> None:
    told = [
        *TOLD, "method=rloo", f"output_dir={tmp_path}", "training.self_check=true",
        "training.gradient_checkpointing=true", "training.validation_split=validation",
        "training.eval_max_samples=2", "training.best_metric=ocr/exact_match",
        "augmentation=document",
    ]  # fmt: skip
    assert program.run(told) == 0
    history = lines(tmp_path / "history.jsonl")
    assert {"align/reward", "align/kl"} <= history[1].keys()
    measured = [entry["step"] for entry in history if "validation/ocr/exact_match" in entry]
    assert measured == [0, 2]
    assert "the best of 2 validations" in (tmp_path / "training.json").read_text()


def test_dpo_learns_from_sampled_pairs_and_from_a_file_of_them(tmp_path: Path) -> None:
    dpo = [*TOLD, "method=dpo", "margin=0.01", "training.schedule=constant"]
    assert program.run([*dpo, f"output_dir={tmp_path / 'sampled'}"]) == 0
    pairs = lines(tmp_path / "sampled/pairs.jsonl")
    assert all(one["rewards"][0] >= one["rewards"][1] + 0.01 for one in pairs)
    told = [*dpo, f"pairs={tmp_path / 'sampled/pairs.jsonl'}", f"output_dir={tmp_path / 'read'}"]
    assert program.run(told) == 0
    for run in ("sampled", "read"):
        first, second = lines(tmp_path / run / "history.jsonl")
        assert first["loss"] == pytest.approx(0.6931, abs=1e-4)
        assert second["align/reward_margins"] > 0


def test_what_cannot_be_tuned_is_refused_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = [*TOLD, f"output_dir={tmp_path / 'run'}"]
    assert "multiple of num_generations=3" in refused([*told, "num_generations=3"], capsys)
    assert "Set adapter=lora or adapter=qlora" in refused([*told, "adapter=full"], capsys)
    assert "Remove head from adapter.targets" in refused(
        [*told, "adapter.targets=[language,head]"], capsys
    )
    assert "Set adapter.initialization=default" in refused(
        [*told, "adapter.initialization=pissa"], capsys
    )
    assert "requires method=dpo" in refused([*told, "pairs=mine.jsonl"], capsys)
    assert "mine.jsonl does not exist" in refused([*told, "method=dpo", "pairs=mine.jsonl"], capsys)
    few = refused([*told, "method=dpo", "sampled_prompts=3", "margin=1"], capsys)
    assert "of 3 prompts gave a pair, two of 4 sampled generations" in few
    assert "a step requires 8 (training.global_batch_size)" in few
    assert "mean_iou cannot score" in refused([*told, "task.reward_weights={mean_iou: 1}"], capsys)
    monkeypatch.setattr(metadata, "version", lambda name: "1.17.0")
    said = refused(told, capsys)
    assert f"TRL must be version {trl_compat.TESTED_TRL_VERSION}, got 1.17.0" in said
