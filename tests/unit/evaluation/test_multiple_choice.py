"""A question is answered by the likeliest of its choices, each scored as if it stood alone."""

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
from palitune.evaluation.inference import generate_predictions
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
    random = torch.Generator().manual_seed(3)
    for name, weight in sorted(network.named_parameters()):
        if "lora_" in name:
            weight.data = 0.1 * torch.randn(weight.shape, generator=random)
    return network


@pytest.mark.parametrize(
    ("family", "adapter"),
    [("paligemma", Lora(rank=4)), ("paligemma2", Qlora(rank=4))],
    ids=["v1-lora", "v2-nf4"],
)
def test_choices_in_one_row_are_as_likely_as_in_rows_of_their_own(
    family: str, adapter: AdapterConfig, tiny: Callable[[str], Path], examples: list[Example]
) -> None:
    model = Local(path=str(tiny(family)))
    network = randomized(adapter.apply_to(load(model, adapter))).train()
    collator = Collator(load_processor(model))
    counts = (4, 2, 3)
    asked = [
        replace(example, choices=CHOICES[:count])
        for example, count in zip(examples, counts, strict=False)
    ]
    batch = collate_choices(collator, TASK, asked)
    assert batch is not None
    together = choice_log_probs(network, batch)
    assert [len(own) for own in together] == list(counts)
    assert network.training
    network.eval()
    for example, own in zip(asked, together, strict=True):
        for choice, log_prob in zip(example.choices, own, strict=True):
            with torch.no_grad():
                alone = network(**collator.collate_train([TrainingSample(example, choice)])).loss
            assert log_prob == pytest.approx(-float(alone.sum()), rel=1e-5)


@pytest.fixture
def questions(jsonl: Jsonl, tmp_path: Path) -> Jsonl:
    """The toy rows; every other one brings choices, its answer first."""
    file = next(Path(jsonl.path).glob("test*.jsonl"))
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    for number, row in enumerate(rows):
        row |= {"question": "What is it?", "answers": ["Red"]}
        row |= {"choices": ["Red", "two buoys", "7"]} if number % 2 == 0 else {}
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return jsonl


def test_who_has_choices_is_answered_by_one_and_who_has_none_freely(
    tiny: Callable[[str], Path], questions: Jsonl
) -> None:
    model = Local(path=str(tiny("paligemma2")))
    network, processor = load(model), load_processor(model)
    parts = load_split(questions, TASK, "test")
    [found] = generate_predictions(network, processor, parts, SETTINGS)
    free = replace(SETTINGS, multiple_choice=MultipleChoiceMode.generate)
    [generated] = generate_predictions(network, processor, parts, free)
    assert [one.likelihood for one in found] == [one.likelihood for one in generated]
    for example, one, other in zip(parts[0].examples, found, generated, strict=True):
        if not example.choices:
            assert one.text == other.text
            continue
        batch = collate_choices(Collator(processor), TASK, [example])
        assert batch is not None
        [log_probs] = choice_log_probs(network, batch)
        assert one.text == one.value == ("red", "two buoys", "7")[log_probs.index(max(log_probs))]
        shares = torch.tensor(log_probs).softmax(0)
        assert one.confidence == pytest.approx(float(shares.max()), rel=1e-4)
    assert {bool(example.choices) for example in parts[0].examples} == {True, False}


def test_letters_are_the_choices_of_science_qa(questions: Jsonl) -> None:
    task = ScienceQa()
    row = load_split(questions, TASK, "test")[0].examples.row(0)
    answers = ("The answer is A.", "The answer is B.", "The answer is C.")
    assert task.choice_suffixes(task.example(row)) == answers
    assert task.choice_suffixes(task.prompt_only_example(row)) == answers, "without references, too"


def test_a_task_without_choices_is_refused(tiny: Callable[[str], Path], jsonl: Jsonl) -> None:
    parts = load_split(jsonl, Ocr(), "test")
    with pytest.raises(DataError, match="needs examples with choices"):
        generate_predictions(
            None, load_processor(Local(path=str(tiny("paligemma2")))), parts, SETTINGS
        )
