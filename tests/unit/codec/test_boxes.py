"""`<loc>` text: literals of the format, the round trip, and malformed text of a model."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palitune.codec.boxes import Decoded, decode, encode, encode_box, is_valid_label
from palitune.codec.tokens import NUM_LOC_BINS
from palitune.records import Box, Instance, Size

SIZE = (1023, 1023)  # a pixel is a bin
CAT = "<loc0010><loc0020><loc0030><loc0040> cat"
CAT_BOX = (20, 10, 40, 30)

SIZES = st.tuples(st.integers(2, 4000), st.integers(2, 4000))
LABELS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters=";<"), min_size=1, max_size=12
).filter(lambda label: label == label.strip())
TOKENS = "<loc0010> <loc0500> <loc1023> <loc1024> <loc9999> <loc12> <loc١٢٣٤> <seg007> <loc loc1>"
FRAGMENTS = st.lists(
    st.sampled_from([*TOKENS.split(), CAT, " ", ";", " ; ", "cat", "he's", "<", "\n"]), max_size=12
).map("".join)


@st.composite
def boxes_in(draw: st.DrawFn, size: Size) -> Box:
    def side(length: int) -> tuple[float, float]:
        low = draw(st.floats(0, length * (1 - 1 / (NUM_LOC_BINS - 1))))
        return low, draw(st.floats(min(low + length / (NUM_LOC_BINS - 1), length), length))

    (x0, x1), (y0, y1) = side(size[0]), side(size[1])
    return x0, y0, x1, y1


@st.composite
def scenes(draw: st.DrawFn) -> tuple[Size, list[Instance]]:
    size = draw(SIZES)
    return size, [
        Instance(draw(LABELS), draw(boxes_in(size))) for _ in range(draw(st.integers(0, 4)))
    ]


@pytest.mark.parametrize(
    ("box", "size", "text"),
    [
        ((0, 0, 640, 480), (640, 480), "<loc0000><loc0000><loc1023><loc1023>"),
        ((320, 120, 640, 240), (640, 480), "<loc0256><loc0512><loc0512><loc1023>"),
        ((20, 10, 40, 30), SIZE, "<loc0010><loc0020><loc0030><loc0040>"),  # y before x
        ((0.5, 1.5, 10, 10), SIZE, "<loc0002><loc0000><loc0010><loc0010>"),  # half to even
        ((-50, -50, 2000, 2000), SIZE, "<loc0000><loc0000><loc1023><loc1023>"),  # clipped
        ((100, 100, 100, 100), SIZE, "<loc0100><loc0100><loc0101><loc0101>"),  # widened
        ((1023, 1023, 1023, 1023), SIZE, "<loc1022><loc1022><loc1023><loc1023>"),
    ],
)
def test_a_box_is_written_as_four_bins_of_1023(box: Box, size: Size, text: str) -> None:
    assert encode_box(box, size) == text


def test_objects_are_joined_by_spaced_semicolons() -> None:
    instances = [Instance("cat", CAT_BOX), Instance("traffic light", (0, 0, 1023, 1023))]
    text = f"{CAT} ; <loc0000><loc0000><loc1023><loc1023> traffic light"
    assert encode(instances, SIZE) == text
    assert decode(text, SIZE) == Decoded(tuple(instances), malformed=0)
    assert encode([], SIZE) == ""
    assert decode("", SIZE) == Decoded((), malformed=0)


@given(scenes())
def test_a_decoded_box_is_within_half_a_bin_of_the_original(
    scene: tuple[Size, list[Instance]],
) -> None:
    size, instances = scene
    decoded = decode(encode(instances, size), size)
    assert decoded.malformed == 0
    assert [i.label for i in decoded.instances] == [i.label for i in instances]
    for before, after in zip(instances, decoded.instances, strict=True):
        for side, length in enumerate((*size, *size)):
            assert abs(before.box[side] - after.box[side]) <= length / (NUM_LOC_BINS - 1) / 2 + 1e-6


@given(scenes())
def test_a_second_round_trip_changes_nothing(scene: tuple[Size, list[Instance]]) -> None:
    size, instances = scene
    text = encode(instances, size)
    assert encode(decode(text, size).instances, size) == text


@given(st.tuples(*[st.floats(-1e4, 1e4)] * 4), SIZES)
def test_every_upright_box_is_parsed_back(corners: tuple[float, ...], size: Size) -> None:
    x0, x1 = sorted(corners[:2])
    y0, y1 = sorted(corners[2:])
    decoded = decode(encode_box((x0, y0, x1, y1), size), size, labelled=False)
    assert len(decoded.instances) == 1
    assert decoded.malformed == 0


@pytest.mark.parametrize(
    "label",
    ["dining table", "bird's nest", "7", "no. 4", "and/or", "1.5 l", "<b>", "seg007", "猫", "a  b"],
)
def test_labels_of_all_kinds_are_parsed_back(label: str) -> None:
    instances = (Instance(label, CAT_BOX), Instance(label, CAT_BOX))
    assert decode(encode(instances, SIZE), SIZE).instances == instances


@given(st.text() | FRAGMENTS, SIZES)
def test_decoding_never_raises_and_reads_only_boxes_in_the_image(text: str, size: Size) -> None:
    for instance in decode(text, size).instances:
        x0, y0, x1, y1 = instance.box
        assert 0 <= x0 < x1 <= size[0] + 1e-6
        assert 0 <= y0 < y1 <= size[1] + 1e-6
        assert instance.label


@pytest.mark.parametrize(
    ("text", "labels", "malformed"),
    [
        ("there is no cat", [], 1),
        (" ;  ; ", [], 0),
        (f"I see {CAT}", ["cat"], 1),
        (f"{CAT} ; dog ; {CAT}", ["cat", "cat"], 1),  # garbage between two objects
        (f"{CAT} ; ", ["cat"], 0),
        (f"{CAT}{CAT}", ["cat", "cat"], 0),  # a forgotten separator
        (f"{CAT} ; <loc0010><loc00", ["cat"], 1),  # cut off in a token
        (f"{CAT} ; <loc0010><loc0020><loc0030>", ["cat"], 1),  # cut off before the fourth
        (f"{CAT} ; <loc0010><loc0020><loc0030><loc0040>", ["cat"], 1),  # before the label
        ("<loc0010><loc0020><loc0030><loc0040><loc0050> cat", [], 1),
        ("<loc0010> <loc0020>\n<loc0030> <loc0040>cat", ["cat"], 0),
        ("<loc0010><loc0020><loc0030><loc1024> cat", [], 1),
        ("<loc0030><loc0020><loc0010><loc0040> cat", [], 1),  # bottom above top
        ("<loc0010><loc0040><loc0030><loc0020> cat", [], 1),  # right of left
        ("<loc0010><loc0020><loc0010><loc0040> cat", [], 1),  # no height
        ("<loc010><loc020><loc030><loc040> cat", [], 1),
        ("<loc00१०><loc0020><loc0030><loc0040> cat", [], 2),  # digits of another script
        ("<loc0010><loc0020><loc0030><loc0040><seg000><seg127> cat", ["cat"], 0),
        (f"{CAT} <seg001>", ["cat"], 1),
    ],
)
def test_well_formed_objects_are_parsed_and_the_rest_is_counted_as_malformed(
    text: str, labels: list[str], malformed: int
) -> None:
    decoded = decode(text, SIZE)
    assert [instance.label for instance in decoded.instances] == labels
    assert decoded.malformed == malformed


def test_a_missing_label_is_accepted_if_labels_are_not_required() -> None:
    instance = Instance("", CAT_BOX)
    text = encode([instance], SIZE, labelled=False)
    assert text == "<loc0010><loc0020><loc0030><loc0040>"
    assert decode(text, SIZE, labelled=False) == Decoded((instance,), malformed=0)
    assert decode(text, SIZE) == Decoded((), malformed=1)


def test_confidence_is_computed_from_the_text_of_each_object() -> None:
    text = f"well, {CAT} ; <loc9999> ;  {CAT}\n"
    spans: list[str] = []

    def confidence(start: int, end: int) -> float:
        spans.append(text[start:end])
        return len(spans) / 10

    decoded = decode(text, SIZE, confidence=confidence)
    assert spans == [CAT, CAT]
    assert [instance.score for instance in decoded.instances] == [0.1, 0.2]


@pytest.mark.parametrize(
    ("instance", "message"),
    [
        (Instance("cat; dog", CAT_BOX), "label 'cat; dog' contains ';'"),
        (Instance("<loc0001>", CAT_BOX), "label '<loc0001>' contains"),
        (Instance("<seg001>", CAT_BOX), "label '<seg001>' contains"),
        (Instance(" cat", CAT_BOX), "outer spaces"),
        (Instance("", CAT_BOX), "empty label"),
        (Instance("cat", (40, 10, 20, 30)), r"box \(40, 10, 20, 30\) is inverted"),
        (Instance("cat", (20, 30, 40, 10)), "is inverted"),
        (Instance("cat", (float("nan"), 10, 40, 30)), "is inverted"),
    ],
)
def test_objects_that_could_not_be_parsed_back_are_refused(
    instance: Instance, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        encode([instance], SIZE)


PIECES = st.lists(st.sampled_from([*"ab ;<>", "<loc0001>", "<seg001>"]), min_size=1)


@given(PIECES.map("".join))
def test_a_label_is_valid_exactly_if_it_is_parsed_back(label: str) -> None:
    text = f"<loc0010><loc0020><loc0030><loc0040> {label}"
    labels = [instance.label for instance in decode(text, SIZE).instances]
    assert is_valid_label(label) == (labels == [label])
