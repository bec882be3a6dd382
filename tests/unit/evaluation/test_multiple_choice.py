"""The most likely choice is predicted; each choice is scored independently of the others."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from palitune.data.collator import Collator
from palitune.data.dataset import load_split
from palitune.data.sources.jsonl import Jsonl
from palitune.data.training_set import TrainingSample
from palitune.errors import DataError
from palitune.evaluation.config import EvaluationConfig, MultipleChoiceMode
from palitune.evaluation.evaluate import generate_predictions
from palitune.evaluation.multiple_choice import choice_log_probs, collate_choices
from palitune.models.adapters.config import AdapterConfig, Lora, Qlora
from palitune.models.config import Local
from palitune.models.loading import load, load_processor
from palitune.records import Example
from palitune.tasks.ocr import Ocr
from palitune.tasks.science_qa import ScienceQa
from palitune.tasks.vqa import Vqa

CHOICES = ("red", "red boat", "two yellow buoys", "7")
TASK = Vqa(max_new_tokens=3, lowercase=True)
SETTINGS = EvaluationConfig(
    batch_size=5, num_workers=0, multiple_choice=MultipleChoiceMode.loglikelihood, perplexity=True
)


def randomized(network: Any) -> Any:
    generator = torch.Generator().manual_seed(3)
    for name, weight in sorted(network.named_parameters()):
        if "lora_" in name:
            weight.data = 0.1 * torch.randn(weight.shape, generator=generator)
    return network


@pytest.mark.parametrize(
    ("family", "adapter"),
    [("paligemma", Lora(rank=4)), ("paligemma2", Qlora(rank=4))],
    ids=["v1-lora", "v2-nf4"],
)
def test_choices_in_one_row_have_the_same_log_probability_as_in_separate_rows(
    family: str, adapter: AdapterConfig, tiny: Callable[[str], Path], examples: list[Example]
) -> None:
    model = Local(path=str(tiny(family)))
    network = randomized(adapter.apply_to(load(model, adapter))).train()
    collator = Collator(load_processor(model))
    counts = (4, 2, 3)
    questions = [
        replace(example, choices=CHOICES[:count])
        for example, count in zip(examples, counts, strict=False)
    ]
    batch = collate_choices(collator, TASK, questions)
    assert batch is not None
    log_probs_of_rows = choice_log_probs(network, batch)
    assert [len(log_probs) for log_probs in log_probs_of_rows] == list(counts)
    assert network.training
    network.eval()
    for example, log_probs in zip(questions, log_probs_of_rows, strict=True):
        for choice, log_prob in zip(example.choices, log_probs, strict=True):
            with torch.no_grad():
                losses = network(**collator.collate_train([TrainingSample(example, choice)])).loss
            assert log_prob == pytest.approx(-float(losses.sum()), rel=1e-5)


@pytest.fixture
def questions(jsonl: Jsonl, tmp_path: Path) -> Jsonl:
    """The toy rows; every other one has choices, the correct one first."""
    file = next(Path(jsonl.path).glob("test*.jsonl"))
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    for number, row in enumerate(rows):
        row |= {"question": "What is it?", "answers": ["Red"]}
        row |= {"choices": ["Red", "two buoys", "7"]} if number % 2 == 0 else {}
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return jsonl


def test_questions_without_choices_are_answered_by_generation(
    tiny: Callable[[str], Path], questions: Jsonl
) -> None:
    model = Local(path=str(tiny("paligemma2")))
    network, processor = load(model), load_processor(model)
    datasets = load_split(questions, TASK, "test")
    [predictions] = generate_predictions(network, processor, datasets, SETTINGS)
    by_generation = replace(SETTINGS, multiple_choice=MultipleChoiceMode.generate)
    [generated] = generate_predictions(network, processor, datasets, by_generation)
    assert [p.likelihood for p in predictions] == [p.likelihood for p in generated]
    for example, prediction, other in zip(
        datasets[0].examples, predictions, generated, strict=True
    ):
        if not example.choices:
            assert prediction.text == other.text
            continue
        batch = collate_choices(Collator(processor), TASK, [example])
        assert batch is not None
        [log_probs] = choice_log_probs(network, batch)
        best = ("red", "two buoys", "7")[log_probs.index(max(log_probs))]
        assert prediction.text == prediction.value == best
        probabilities = torch.tensor(log_probs).softmax(0)
        assert prediction.confidence == pytest.approx(float(probabilities.max()), rel=1e-4)
    assert {bool(example.choices) for example in datasets[0].examples} == {True, False}


def test_the_choices_of_science_qa_are_letters(questions: Jsonl) -> None:
    task = ScienceQa()
    row = load_split(questions, TASK, "test")[0].examples.row(0)
    answers = ("The answer is A.", "The answer is B.", "The answer is C.")
    assert task.choice_suffixes(task.example(row)) == answers
    assert task.choice_suffixes(task.prompt_only_example(row)) == answers, "also without references"


def test_a_task_without_choices_raises_an_error(tiny: Callable[[str], Path], jsonl: Jsonl) -> None:
    datasets = load_split(jsonl, Ocr(), "test")
    with pytest.raises(DataError, match="needs examples with choices"):
        generate_predictions(
            None, load_processor(Local(path=str(tiny("paligemma2")))), datasets, SETTINGS
        )
