"""Grammars: an untrained model generates no malformed answer, and good answers do not change."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoProcessor

from palitune.codec import boxes
from palitune.data.collator import Collator
from palitune.data.dataset import load_split
from palitune.data.sources.embedded import EmbeddedAnnotationKind, Handwriting
from palitune.models.config import Tiny
from palitune.models.generation.constraints import compile_grammar
from palitune.models.generation.generate import Generation, generate
from palitune.models.loading import load, load_processor
from palitune.models.paligemma import PaliGemmaPrefixLM
from palitune.records import Example, Instance, Row
from palitune.tasks import TASKS, Task
from palitune.tasks.detection import Detection, PromptClasses

from support.grammar_walks import accepts
from support.tiny_models import build_processor
from support.toy_data import toy_mask

FAMILIES = ["paligemma", "paligemma2"]
CLASSES = ("boat", "buoy", "boat house", "red boat", "traffic light", "bird's nest", "no. 7", "4")
BYTES = build_processor().tokenizer
OBJECT_TASKS = [name for name, task in TASKS.items() if task.validity_metrics]


def prompts(task: Task, count: int, images: list[str]) -> list[Example]:
    """Return prompts for one, two and three of the classes, over the images in turn."""
    prompted = (names for n in (1, 2, 3) for names in itertools.permutations(CLASSES, n))
    begin, between = f"{task.verb} " if isinstance(task, Detection) else "", boxes.OBJECT_SEPARATOR
    if task.name.startswith("referring"):
        between = " beside "
    return [
        Example(
            id=str(n),
            images=(images[n % len(images)],),
            size=(160, 120),
            prefix=begin + between.join(names),
            suffixes=("",),
            reference=(),
            location="",
        )
        for n, names in zip(range(count), prompted, strict=False)
    ]


def answers(
    folder: Path, task: Task, examples: list[Example], beams: int, length: int
) -> list[Generation]:
    processor = AutoProcessor.from_pretrained(folder)
    network, collator = PaliGemmaPrefixLM.from_pretrained(folder), Collator(processor)
    written: list[Generation] = []
    for start in range(0, len(examples), 50):
        some = examples[start : start + 50]
        grammars = [task.grammar(example.prefix) for example in some]
        batch = collator.collate_prompts(some)
        written += generate(
            network, processor.tokenizer, batch, length, num_beams=beams, grammars=grammars
        )
    return written


@pytest.mark.parametrize(("beams", "count"), [(1, 200), (3, 30)])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("name", "length"), [("detection", 30), ("segmentation", 60)])
def test_an_untrained_model_generates_nothing_malformed(
    name: str,
    length: int,
    family: str,
    beams: int,
    count: int,
    tiny: Callable[[str], Path],
    examples: list[Example],
) -> None:
    task = TASKS[name]()
    prompted = prompts(task, count, [example.images[0] for example in examples])
    num_objects = 0
    for example, output in zip(
        prompted, answers(tiny(family), task, prompted, beams, length), strict=True
    ):
        value = task.parse(output.text, example.size, output.confidence)
        assert isinstance(value, tuple), output.text
        assert not task.count_malformed(output.text), output.text
        assert output.finished
        labels = {i.label for i in value if isinstance(i, Instance)}
        assert labels <= set(example.prefix.removeprefix(f"{task.verb} ").split(" ; "))  # type: ignore[attr-defined]
        num_objects += len(value)
    assert num_objects >= count


@pytest.mark.parametrize("name", sorted({*OBJECT_TASKS} - {"detection", "segmentation"}))
def test_an_untrained_model_generates_nothing_malformed_in_the_other_object_tasks(
    name: str, tiny: Callable[[str], Path], examples: list[Example]
) -> None:
    for task in [TASKS[name](), *([TASKS[name](**LABELLED)] if "referring" in name else [])]:
        prompted = prompts(task, 20, [example.images[0] for example in examples])
        for output in answers(tiny("paligemma2"), task, prompted, 1, 40):
            assert isinstance(task.parse(output.text, (160, 120)), tuple), output.text
            assert not task.count_malformed(output.text), output.text
            assert output.finished


LABELLED: dict[str, Any] = {"include_label": True, "include_verb": True}


@pytest.mark.parametrize("ask", [PromptClasses.present, PromptClasses.some])
def test_well_formed_answers_do_not_change_with_the_grammar(ask: PromptClasses) -> None:
    model, task = Tiny(), Detection(prompt_classes=ask)
    processor, network = load_processor(model), load(model)
    [part] = load_split(
        Handwriting(annotations=EmbeddedAnnotationKind.detection), task, "validation"
    )
    some = part.examples[:40]
    batch = Collator(processor).collate_prompts(some)
    grammars = [task.grammar(example.prefix) for example in some]
    free = generate(network, processor.tokenizer, batch, 128)
    constrained = generate(network, processor.tokenizer, batch, 128, grammars=grammars)
    well_formed = 0
    for before, after, grammar in zip(free, constrained, grammars, strict=True):
        assert grammar
        automaton = compile_grammar(processor.tokenizer, grammar)
        if before.finished and accepts(automaton, list(before.token_ids), len(processor.tokenizer)):
            assert after.token_ids == before.token_ids
            well_formed += 1
        assert not task.count_malformed(after.text)
    assert well_formed > 10


@st.composite
def rows(draw: st.DrawFn, count: st.SearchStrategy[int]) -> Row:
    def instance() -> Instance:
        x0, x1 = sorted((draw(st.floats(0, 160)), draw(st.floats(0, 160))))
        y0, y1 = sorted((draw(st.floats(0, 120)), draw(st.floats(0, 120))))
        mask = toy_mask((160, 120), (x0, y0, x1, y1))
        return Instance(draw(st.sampled_from(CLASSES)), (x0, y0, x1, y1), mask=mask)

    return Row(
        id=draw(st.text(max_size=3)),
        images=("/harbour.png",),
        size=(160, 120),
        location="rows.jsonl:1",
        question=draw(st.sampled_from(["the left boat", "detect it", "a > b"])),
        instances=tuple(instance() for _ in range(draw(count))),
        classes=CLASSES,
    )


@pytest.mark.parametrize("name", OBJECT_TASKS)
@settings(max_examples=40)
@given(data=st.data())
def test_the_targets_of_a_task_are_accepted_by_its_grammar(name: str, data: st.DataObject) -> None:
    is_referring = name.startswith("referring")
    strategies = {"include_label": st.booleans(), "include_verb": st.booleans()}
    if not is_referring:
        strategies = {
            "prompt_classes": st.sampled_from(PromptClasses),
            "max_objects": st.none() | st.integers(1, 3),
        }
    options = {} if name == "text_spotting" else data.draw(st.fixed_dictionaries(strategies))
    task = TASKS[name](**options)
    row = data.draw(rows(st.just(1) if is_referring else st.integers(0, 4)))
    written = task.example(row)
    grammar = task.grammar(written.prefix)
    assert grammar is not None
    ids = BYTES(written.suffixes[0], add_special_tokens=False)["input_ids"]
    assert accepts(compile_grammar(BYTES, grammar), ids, len(BYTES)), written.suffixes[0]


@pytest.mark.parametrize("name", sorted(set(TASKS) - {*OBJECT_TASKS, "json"}))
def test_text_tasks_have_no_grammar(name: str) -> None:
    assert TASKS[name]().grammar("ocr") is None
