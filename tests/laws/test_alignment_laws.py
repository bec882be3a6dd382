"""TRL's trainers see what training sees: the log-probability of every sampled token is our own."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoProcessor

from palitune import alignment, models
from palitune.alignment.settings import Alignment, Method
from palitune.alignment.trainers import Sampling
from palitune.data.collator import Collator
from palitune.data.dataset import Part
from palitune.examples import Example
from palitune.models.adapters import Adapter, Lora, Qlora
from palitune.models.checkpoints import Dtype, Local
from palitune.tasks.vqa import Vqa
from palitune.training.settings import Schedule, Training

SAMPLED = [
    ("paligemma", Method.rloo, Qlora(rank=4)),
    ("paligemma2", Method.grpo, Lora(rank=4)),
    ("paligemma2", Method.grpo, Qlora(rank=4, compute_dtype=Dtype.fp32)),
]
PAIRED = [("paligemma", Lora(rank=4)), ("paligemma2", Qlora(rank=4))]


def part_of(examples: Sequence[Example]) -> Part:
    named = [replace(example, part="vqa") for example in examples]
    return Part("vqa", Vqa(max_new_tokens=5), named, 1, None, "train")  # type: ignore[arg-type]


def moved(model: Local, adapter: Adapter) -> Any:
    """A network whose LoRA is not at its start, so that a rounded one would be seen."""
    torch.manual_seed(0)
    network = models.load_trainable(model, adapter)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.05)
    return network


def teacher_forced(network: Any, collator: Collator, example: Example, ids: list[int]) -> Any:
    """The log-probability of each token of an answer, in one row without padding: (tokens,)."""
    prompt = collator.prompt([example])
    answer, zeros = torch.tensor([ids]), torch.zeros_like(prompt["input_ids"])
    types = torch.cat([zeros, torch.ones_like(answer)], 1)
    with torch.no_grad():
        logits = network(
            input_ids=torch.cat([prompt["input_ids"], answer], 1),
            attention_mask=torch.ones_like(types),
            token_type_ids=types,
            pixel_values=prompt["pixel_values"],
            logits_to_keep=torch.cat([types[:, 1:], zeros[:, :1]], 1).bool(),
        ).logits
    return logits.float().log_softmax(-1).gather(-1, answer[0, :, None])[:, 0]


def tuned(network: Any, processor: Any, part: Part, how: Alignment, folder: Path) -> None:
    """Take steps of no length, so that the network stays what it is."""
    settings = Training(
        batch_size=4, micro_batch_size=2, max_steps=2, learning_rate=0.0, log_every=1,
        schedule=Schedule.constant, workers=0,
    )  # fmt: skip
    alignment.train(network, processor, [part], how, settings, seed=0, folder=folder)


@pytest.mark.parametrize(("family", "method", "adapter"), SAMPLED)
def test_the_log_probabilities_of_sampled_answers_are_those_of_training(
    family: str,
    method: Method,
    adapter: Adapter,
    tiny: Callable[[str], Path],
    examples: list[Example],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[tuple[torch.Tensor, torch.Tensor, int, torch.Tensor]] = []
    plain = Sampling._get_per_token_logps_and_entropies

    def spy(self: Sampling, model: Any, ids: Any, mask: Any, count: int, *a: Any, **b: Any) -> Any:
        found = plain(self, model, ids, mask, count, *a, **b)
        seen.append((ids, mask, count, found[0].detach()))
        return found

    monkeypatch.setattr(Sampling, "_get_per_token_logps_and_entropies", spy)
    base, part = tiny(family), part_of(examples)
    processor = AutoProcessor.from_pretrained(base)
    network, collator = moved(Local(path=str(base)), adapter), Collator(processor)
    how = Alignment(method=method, group=2, kl_weight=0.1)
    tuned(network, processor, part, how, tmp_path)

    by_prompt = {
        tuple(collator.prompt([one])["input_ids"][0].tolist()): one for one in part.examples
    }
    compared = 0
    for ids, mask, count, found in seen:
        for row, real, log_probs in zip(ids, mask.bool(), found, strict=True):
            prompt, answer = row[:-count][real[:-count]], row[-count:][real[-count:]]
            own = teacher_forced(
                network.eval(), collator, by_prompt[tuple(prompt.tolist())], answer.tolist()
            )
            assert log_probs[: len(own)] == pytest.approx(own, abs=1e-5)
            compared += 1
    assert compared >= 2 * 2 * 4  # two steps; with the model as it was, and as it is
    assert {p.dtype for p in network.parameters() if p.requires_grad} == {torch.float32}


@pytest.mark.parametrize(("family", "adapter"), PAIRED)
def test_the_log_probabilities_of_pairs_are_those_of_training(
    family: str,
    adapter: Adapter,
    tiny: Callable[[str], Path],
    examples: list[Example],
    tmp_path: Path,
) -> None:
    base, part = tiny(family), part_of(examples)
    texts = ["73", "<loc0001> boat", "a red boat", "no"]
    lines = [
        {"image": one.images[0], "prefix": one.prefix, "chosen": text, "rejected": f"{text} 1"}
        for one, text in zip(examples, texts, strict=False)
    ]
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    processor = AutoProcessor.from_pretrained(base)
    network, collator = moved(Local(path=str(base)), adapter), Collator(processor)
    how = Alignment(method=Method.dpo, pairs=str(file))
    tuned(network, processor, part, how, tmp_path)
    first = json.loads((tmp_path / "history.jsonl").read_text().splitlines()[0])
    for name, end in (("chosen", ""), ("rejected", " 1")):
        own = [
            teacher_forced(network.eval(), collator, one, collator._target(text + end)).sum()
            for one, text in zip(examples, texts, strict=False)
        ]
        logged = first[f"align/log_probability_of_{name}"]
        assert logged == pytest.approx(float(sum(own)) / len(own), abs=1e-4)
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-6)  # nothing has moved yet
    assert {p.dtype for p in network.parameters() if p.requires_grad} == {torch.float32}
