"""`palitune evaluate`: cut off, in two processes, without a model, without references."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from palitune import __main__ as program
from palitune.models.adapters.config import Qlora
from palitune.models.config import Local
from palitune.models.generation.generate import generate

from support.tiny_models import save_perturbed_adapter
from support.toy_data import write_toy_coco, write_toy_jsonl

FEW = ["task.max_new_tokens=4", "evaluation.batch_size=2", "evaluation.num_workers=0"]


@pytest.fixture
def told(tiny: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A command line that evaluates a random model on twelve questions."""
    write_toy_jsonl(tmp_path / "toys")
    monkeypatch.chdir(tmp_path)
    model = ["model=local", f"model.path={tiny('paligemma2')}", "evaluation.split=train"]
    return ["evaluate", "task=vqa", "data=jsonl", "data.path=toys", *model, *FEW]


def files(folder: str) -> dict[str, str]:
    return {n: Path(folder, n).read_text() for n in ("metrics.json", "predictions.jsonl")}


def complaint(capfd: pytest.CaptureFixture[str], *arguments: str) -> str:
    capfd.readouterr()
    assert program.run([*arguments]) == 1
    *_, said = capfd.readouterr().err.strip().splitlines()
    return said


def test_what_was_cut_off_is_gone_on_with_and_ends_as_if_it_had_not_been(
    told: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert program.run([*told, "output_dir=whole"]) == 0
    batches: list[int] = []

    def interrupted(network: Any, tokenizer: Any, batch: Any, most: int, **how: Any) -> Any:
        if len(batches) == 2:
            raise KeyboardInterrupt
        batches.append(len(batch["input_ids"]))
        return generate(network, tokenizer, batch, most, **how)

    monkeypatch.setattr("palitune.evaluation.answering.generate", interrupted)
    assert program.run([*told, "output_dir=cut"]) == 130
    part = Path("cut/predictions.jsonl")
    assert [json.loads(line)["id"] for line in part.read_text().splitlines()] == [
        f"train-{n}" for n in range(4)
    ]
    with part.open("a") as file:
        file.write('{"id": "train-4", "par')  # the power went here

    said = complaint(capfd, *told, "output_dir=cut", "task.max_new_tokens=5")
    assert said.startswith("palitune: cut/predictions.jsonl is part of an evaluation with another")

    rest: list[int] = []

    def counted(network: Any, tokenizer: Any, batch: Any, most: int, **how: Any) -> Any:
        rest.append(len(batch["input_ids"]))
        return generate(network, tokenizer, batch, most, **how)

    monkeypatch.setattr("palitune.evaluation.answering.generate", counted)
    assert program.run([*told, "output_dir=cut", "evaluation.image_cache=kept"]) == 0
    assert rest == [2] * 4
    assert files("cut") == files("whole")


def test_saved_predictions_give_the_same_numbers_without_a_model(told: list[str]) -> None:
    told = [*told, "evaluation.perplexity=true"]
    assert program.run([*told, "output_dir=run"]) == 0
    without = [argument for argument in told if not argument.startswith("model")]
    assert program.run([*without, "predictions=run", "output_dir=again"]) == 0
    assert files("again") == files("run")

    others = ["task.metrics=[vqa_accuracy_plain]", "predictions=run/predictions.jsonl"]
    assert program.run([*without, *others, "output_dir=others"]) == 0
    assert "vqa/vqa_accuracy_plain" in json.loads(files("others")["metrics.json"])["after"]


def test_predictions_made_elsewhere_are_judged_and_what_is_wrong_with_them_is_told(
    told: list[str],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    rows = [json.loads(line) for line in (tmp_path / "toys/train.jsonl").read_text().splitlines()]
    lines = [{"id": row["id"], "answer": row["answers"][0]} for row in rows]

    def write(entries: list[Any]) -> str:
        Path("mine.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
        return "predictions=mine.jsonl"

    assert program.run([*told, write(lines[:9]), "output_dir=a"]) == 0
    assert "vqa: 3 of 12 examples have no prediction in mine.jsonl" in caplog.text
    metrics = json.loads(Path("a/metrics.json").read_text())
    assert metrics["after"]["vqa/exact_match"] == 9 / 12
    assert metrics["missing"] == {"vqa": 3}
    assert complaint(capfd, *told, write([{"id": "boat-7", "text": "2"}])).startswith(
        "palitune: mine.jsonl:1: id 'boat-7' is not in split 'train' of vqa"
    )
    assert complaint(capfd, *told, write([*lines, lines[0]])).startswith(
        "palitune: mine.jsonl:13: example 'train-0' of vqa already has a prediction at mine.jsonl"
    )
    assert complaint(capfd, *told, write([])) == (
        "palitune: mine.jsonl contains no predictions. It may be incomplete."
    )


def test_a_split_without_answers_gives_predictions_and_the_file_for_the_server(
    told: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = [json.loads(line) for line in (tmp_path / "toys/test.jsonl").read_text().splitlines()]
    keys = ("image", "question")
    asked = [{"questionId": 10 + n, **{k: row[k] for k in keys}} for n, row in enumerate(rows)]
    text = "".join(json.dumps(row) + "\n" for row in asked)
    (tmp_path / "toys/test.jsonl").write_text(text)
    told = [*told, "evaluation.split=test", "data.columns.id=questionId", "output_dir=out"]

    assert program.run([*told, "evaluation.submission=docvqa"]) == 0
    assert "split test has no references, so no metrics were computed" in capfd.readouterr().out
    assert {file.name for file in Path("out").iterdir()} == {
        "config.yaml", "environment.json", "predictions.jsonl", "submission.json",
    }  # fmt: skip
    submitted = json.loads(Path("out/submission.json").read_text())
    assert [entry["questionId"] for entry in submitted] == [10, 11, 12, 13]
    assert all(set(entry) == {"questionId", "answer"} for entry in submitted)

    said = complaint(capfd, "check", *told[1:], "training.split=test")
    assert "split 'test' has prompts without references and cannot be used for training" in said


def test_coco_results_are_judged_as_coco_judges_them(
    told: list[str], tmp_path: Path, pycocotools_ap: Callable[[Path, Path], float]
) -> None:
    write_toy_coco(tmp_path / "boxes")
    truth = tmp_path / "boxes/annotations/instances_test.json"
    found = [
        {
            "image_id": entry["image_id"],
            "category_id": entry["category_id"],
            "bbox": [
                side + shift for side, shift in zip(entry["bbox"], (2, 1, 3, -2), strict=True)
            ],
            "score": 0.9 - number / 50,
        }
        for number, entry in enumerate(json.loads(truth.read_text())["annotations"])
        if number % 4
    ]
    Path("results.json").write_text(json.dumps(found))
    told = ["evaluate", "task=detection", "data=coco", "data.path=boxes"]
    told += ["predictions=results.json", "evaluation.submission=coco_detection", "output_dir=out"]
    assert program.run(told) == 0
    metrics = json.loads(Path("out/metrics.json").read_text())
    expected = pycocotools_ap(truth, tmp_path / "results.json")
    assert 0.1 < expected < 0.9
    assert metrics["after"]["detection/AP"] == pytest.approx(expected, abs=1e-9)
    assert "missing" not in metrics
    assert {"class", "object size"} <= set(metrics["slices"]["after"]["detection"])
    # What is written for the server is worth the same.
    submitted = pycocotools_ap(truth, tmp_path / "out/submission.json")
    assert submitted == pytest.approx(expected, abs=1e-9)


@pytest.fixture
def pycocotools_ap() -> Callable[[Path, Path], float]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def ap(truth: Path, results: Path) -> float:
        reference = COCO(str(truth))
        official = COCOeval(reference, reference.loadRes(str(results)), "bbox")
        official.evaluate()
        official.accumulate()
        official.summarize()
        return float(official.stats[0])

    return ap


def test_adapters_on_one_base_are_judged_as_each_alone_and_compared(
    told: list[str],
    tiny: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    model = Local(path=str(tiny("paligemma2")))
    paths = [
        save_perturbed_adapter(model, Qlora(rank=2), Path("trained", name, "adapter"), seed=seed)
        for seed, name in enumerate(("one", "other"))
    ]
    told = [*told, "adapter=qlora", "evaluation.max_samples=6"]
    several = [*told, f"adapters=[null,{','.join(paths)}]", "output_dir=all"]
    begun: list[int] = []

    def interrupted(*batch: Any, **how: Any) -> Any:
        begun.append(len(begun))
        if len(begun) == 6:  # none of the base's three batches is left, one of the next three
            raise KeyboardInterrupt
        return generate(*batch, **how)

    monkeypatch.setattr("palitune.evaluation.answering.generate", interrupted)
    assert program.run(several) == 130
    assert program.run(several) == 0
    assert len(begun) == 6 + 1 + 3

    for name, path in (("0_base", "null"), ("2_other", paths[1])):
        assert program.run([*told, f"adapter.path={path}", f"output_dir={name}"]) == 0
        assert files(f"all/{name}") == files(name)
        config = Path("all", name, "config.yaml").read_text()
        assert config == Path(name, "config.yaml").read_text().replace(name, f"all/{name}", 1)
    table = Path("all/comparison.md").read_text()
    assert "| base model (baseline) |" in table
    assert "| adapter one |" in table
    assert "| adapter other |" in table
    assert program.run([*several, "predictions=all/0_base"]) == 2
    assert "adapters and predictions cannot be combined" in capfd.readouterr().err
    assert program.run([*several, f"adapter.path={paths[0]}"]) == 2
    assert "adapters and adapter.path" in capfd.readouterr().err
