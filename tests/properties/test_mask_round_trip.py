"""Tasks with masks parse the suffixes they write to the reference.

The parsed mask equals the reconstruction of the reference mask by the codec.
"""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palitune.codec import masks
from palitune.codec.tokens import NUM_LOC_BINS
from palitune.records import Example, Instance, Mask, Row, Size
from palitune.tasks import Task
from palitune.tasks.detection import ObjectOrder, PromptClasses
from palitune.tasks.referring_segmentation import ReferringSegmentation
from palitune.tasks.segmentation import Segmentation

from support.toy_data import toy_mask

CODEC = masks.load_codec("embedded")
CLASSES = ("boat", "traffic light", "bird's nest")
SIZES = st.tuples(st.integers(1, 120), st.integers(1, 120))
EXPRESSIONS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters=";<"), min_size=1, max_size=20
).filter(lambda text: text.strip() != "")


@st.composite
def instances(draw: st.DrawFn, size: Size) -> Instance:
    """Objects whose mask is an ellipse or noise, in a box that may have no area."""
    x0, x1 = sorted(draw(st.floats(0, size[0])) for _ in range(2))
    y0, y1 = sorted(draw(st.floats(0, size[1])) for _ in range(2))
    mask: Mask = toy_mask(size, (x0, y0, x1, y1))
    if draw(st.booleans()):
        mask = mask & (np.random.default_rng(draw(st.integers(0))).random(mask.shape) < 0.7)
    label = draw(st.sampled_from([*CLASSES, "never asked for"]))
    return Instance(label, (x0, y0, x1, y1), mask=mask, crowd=draw(st.booleans()))


def row(size: Size, found: tuple[Instance, ...], question: str | None = None) -> Row:
    return Row(
        id="17",
        images=("/harbour.png",),
        size=size,
        location="rows.jsonl:1",
        question=question,
        instances=found,
        classes=CLASSES,
    )


def assert_reads_back(task: Task, example: Example) -> None:
    expected = [i for i in example.reference if isinstance(i, Instance) and not i.crowd]
    [suffix] = example.suffixes
    value = task.parse(suffix, example.size)
    assert isinstance(value, tuple)
    read: list[Any] = list(value)
    assert [instance.label for instance in read] == [i.label for i in expected]
    for after, before in zip(read, expected, strict=True):
        for side, length in enumerate((*example.size, *example.size)):
            # half a bin of rounding, and one where a box without area was widened
            assert (
                abs(after.box[side] - before.box[side]) <= 1.5 * length / (NUM_LOC_BINS - 1) + 1e-6
            )
    crops = [masks.crop_to_box(i.mask, i.box) for i in expected if i.mask is not None]
    codes = CODEC.encode(masks.resize_crops(crops))
    drawn = masks.decode_masks(codes, [i.box for i in read], example.size, CODEC)
    for after, mask in zip(read, drawn, strict=True):
        assert np.array_equal(after.mask, mask)


@settings(max_examples=50)
@given(
    data=st.data(),
    size=SIZES,
    ask=st.sampled_from(PromptClasses),
    order=st.sampled_from(ObjectOrder),
)
def test_segmentation_reads_back_what_the_codec_keeps(
    data: st.DataObject, size: Size, ask: PromptClasses, order: ObjectOrder
) -> None:
    task = Segmentation(prompt_classes=ask, order=order)
    found = data.draw(st.lists(instances(size), max_size=4))
    example = task.example(row(size, tuple(found)))
    assert example.prefix.startswith("segment ")
    assert all(instance in found for instance in example.reference)
    assert_reads_back(task, example)


@pytest.mark.parametrize("verb", [True, False])
@pytest.mark.parametrize("label", [True, False])
@settings(max_examples=25)
@given(data=st.data(), size=SIZES, expression=EXPRESSIONS)
def test_referring_segmentation_reads_back_what_the_codec_keeps(
    verb: bool, label: bool, data: st.DataObject, size: Size, expression: str
) -> None:
    task = ReferringSegmentation(include_verb=verb, include_label=label)
    example = task.example(row(size, (data.draw(instances(size)),), expression))
    words = expression.strip()
    assert example.prefix == (f"segment {words}" if verb else words)
    assert [i.label for i in example.reference if isinstance(i, Instance)] == [
        words if label else ""
    ]
    assert_reads_back(task, example)


@given(text=st.text(), size=SIZES)
@pytest.mark.parametrize("task", [Segmentation(), ReferringSegmentation()], ids=lambda t: t.name)
def test_reading_a_models_text_never_raises(task: Task, text: str, size: Size) -> None:
    task.parse(text, size)
