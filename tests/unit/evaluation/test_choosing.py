"""A question is answered by the likeliest of its choices, each scored as if it stood alone."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from palitune import data
from palitune.data.collator import Collator
from palitune.data.sources.jsonl import Jsonl
from palitune.data.visits import Visit
from palitune.evaluation.answering import answer
from palitune.evaluation.choosing import option_log_probs, options_batch
from palitune.evaluation.settings import Choices, Evaluation
from palitune.examples import DataError, Example
from palitune.models.adapters import Adapter, Lora, Qlora
from palitune.models.checkpoints import Local
from palitune.models.loading import load, load_processor
from palitune.tasks.ocr import Ocr
from palitune.tasks.science_qa import ScienceQa
from palitune.tasks.vqa import Vqa

CHOICES = ("red", "red boat", "two yellow buoys", "7")
TASK = Vqa(max_new_tokens=3, lowercase=True)
SETTINGS = Evaluation(batch_size=5, workers=0, choices=Choices.likelihood, perplexity=True)


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
    family: str, adapter: Adapter, tiny: Callable[[str], Path], examples: list[Example]
) -> None:
    model = Local(path=str(tiny(family)))
    network = randomized(adapter.attach(load(model, adapter))).train()
    collator = Collator(load_processor(model))
    counts = (4, 2, 3)
    asked = [
        replace(example, choices=CHOICES[:count])
        for example, count in zip(examples, counts, strict=False)
    ]
    batch = options_batch(collator, TASK, asked)
    assert batch is not None
    together = option_log_probs(network, batch)
    assert [len(own) for own in together] == list(counts)
    assert network.training
    network.eval()
    for example, own in zip(asked, together, strict=True):
        for choice, log_prob in zip(example.choices, own, strict=True):
            with torch.no_grad():
                alone = network(**collator.train([Visit(example, choice)])).loss
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
    parts = data.load(questions, TASK, "test")
    [found] = answer(network, processor, parts, SETTINGS)
    free = replace(SETTINGS, choices=Choices.generate)
    [generated] = answer(network, processor, parts, free)
    assert [one.likelihood for one in found] == [one.likelihood for one in generated]
    for example, one, other in zip(parts[0].examples, found, generated, strict=True):
        if not example.choices:
            assert one.text == other.text
            continue
        batch = options_batch(Collator(processor), TASK, [example])
        assert batch is not None
        [log_probs] = option_log_probs(network, batch)
        assert one.text == one.value == ("red", "two buoys", "7")[log_probs.index(max(log_probs))]
        shares = torch.tensor(log_probs).softmax(0)
        assert one.confidence == pytest.approx(float(shares.max()), rel=1e-4)
    assert {bool(example.choices) for example in parts[0].examples} == {True, False}


def test_letters_are_the_choices_of_science_qa(questions: Jsonl) -> None:
    task = ScienceQa()
    row = data.load(questions, TASK, "test")[0].examples.row(0)
    answers = ("The answer is A.", "The answer is B.", "The answer is C.")
    assert task.options(task.example(row)) == answers
    assert task.options(task.question(row)) == answers, "without references, too"


def test_a_task_without_choices_is_refused(tiny: Callable[[str], Path], jsonl: Jsonl) -> None:
    parts = data.load(jsonl, Ocr(), "test")
    with pytest.raises(DataError, match="needs examples with choices"):
        answer(None, load_processor(Local(path=str(tiny("paligemma2")))), parts, SETTINGS)
