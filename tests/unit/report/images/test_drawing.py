from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops

from palitune.metrics.objects.matching import intersection_area
from palitune.records import Box, Instance
from palitune.report.images import drawing
from palitune.report.images.drawing import (
    MAX_LONG_SIDE,
    MAX_SHORT_SIDE,
    MIN_LONG_SIDE,
    REFERENCE_COLOR,
    display_size,
    draw_instances,
    label_color,
    load_for_display,
    upscaled_size,
)

BOAT = Instance(label="boat", box=(20, 60, 80, 90), score=0.5)


def blank(width: int = 300, height: int = 200) -> Image.Image:
    return Image.new("RGB", (width, height), (128, 128, 128))


def has_color(image: Image.Image, color: tuple[int, int, int]) -> bool:
    return bool((np.asarray(image) == color).all(axis=-1).any())


def test_colors_are_the_same_in_every_process() -> None:
    colors = [label_color(label) for label in ("boat", "buoy", "7")]
    assert colors == [(90, 120, 10), (30, 110, 40), (190, 80, 0)]


def test_digits_have_ten_colors() -> None:
    assert len({label_color(str(digit)) for digit in range(10)}) == 10


def test_drawing_leaves_the_image_as_it_was() -> None:
    image = blank()
    draw_instances(image, [BOAT], references=[BOAT])
    assert ImageChops.difference(image, blank()).getbbox() is None


def test_a_box_is_drawn_at_its_position() -> None:
    drawn = draw_instances(blank(), [Instance(label="boat", box=(20, 60, 80, 90))])
    changed = ImageChops.difference(drawn, blank()).getbbox()
    assert changed is not None
    assert changed[0] in range(17, 21)
    assert changed[3] in range(90, 94)
    assert has_color(drawn, label_color("boat"))


def test_boxes_follow_a_resized_image() -> None:
    small = Instance(label="boat", box=(2, 6, 8, 9), score=0.5)
    drawn = draw_instances(blank(), [small], size=(30, 20))
    assert ImageChops.difference(drawn, draw_instances(blank(), [BOAT])).getbbox() is None


def test_references_are_green_and_behind() -> None:
    assert has_color(draw_instances(blank(), [], references=[BOAT]), REFERENCE_COLOR)
    assert not has_color(draw_instances(blank(), [BOAT]), REFERENCE_COLOR)


def test_an_object_without_label_and_score_has_no_label() -> None:
    drawn = draw_instances(blank(), [Instance(label="", box=(20, 60, 80, 90))])
    changed = ImageChops.difference(drawn, blank()).getbbox()
    assert changed == (19, 59, 82, 92)
    scored = draw_instances(blank(), [Instance(label="", box=(20, 60, 80, 90), score=0.5)])
    assert ImageChops.difference(drawn, scored).getbbox() is not None


def test_a_mask_tints_its_pixels_only() -> None:
    mask = np.zeros((200, 300), dtype=bool)
    mask[150:160, 200:220] = True
    drawn = draw_instances(blank(), [Instance(label="boat", box=(0, 0, 9, 9), mask=mask)])
    assert drawn.getpixel((210, 155)) != (128, 128, 128)
    assert drawn.getpixel((210, 165)) == (128, 128, 128)


@settings(max_examples=40, deadline=None)
@given(
    boxes=st.lists(
        st.tuples(*[st.floats(-400, 900, allow_nan=False)] * 4),
        max_size=4,
    ),
    label=st.text(st.characters(), max_size=60),
)
def test_any_box_and_label_can_be_drawn(
    boxes: list[tuple[float, float, float, float]], label: str
) -> None:
    instances = [Instance(label=label, box=box, crowd=len(label) % 2 == 0) for box in boxes]
    drawn = draw_instances(blank(64, 48), instances, references=instances)
    assert drawn.size == (64, 48)


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        ((112, 112), (336, 336)),
        ((28, 14), (280, 140)),
        ((300, 200), (300, 200)),
        ((4000, 3000), (560, 420)),
        ((1000, 20), (1000, 20)),
        ((500, 5000), (120, 1200)),
    ],
)
def test_images_are_shown_at_a_legible_size(size: tuple[int, int], shown: tuple[int, int]) -> None:
    assert display_size(size) == shown


def test_an_image_of_text_may_be_shown_larger() -> None:
    assert display_size((1000, 1400), max_short_side=700) == (700, 980)


@given(st.tuples(st.integers(1, 20000), st.integers(1, 20000)))
def test_display_sizes_are_within_the_limits(size: tuple[int, int]) -> None:
    width, height = display_size(size)
    assert min(width, height) >= 1
    assert MIN_LONG_SIDE <= max(width, height) <= MAX_LONG_SIDE
    assert min(width, height) <= MAX_SHORT_SIDE


def test_a_missing_image_becomes_a_placeholder_of_its_size(tmp_path: Path) -> None:
    assert load_for_display(str(tmp_path / "missing.png"), (640, 480)).size == display_size(
        (640, 480)
    )


def test_an_unreadable_image_becomes_a_placeholder(tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_text("not an image")
    assert load_for_display(str(broken), (112, 112)).size == (336, 336)


def test_a_small_image_is_enlarged(tmp_path: Path) -> None:
    Image.new("L", (112, 112), 200).save(tmp_path / "page.png")
    shown = load_for_display(str(tmp_path / "page.png"), (112, 112))
    assert (shown.size, shown.mode) == ((336, 336), "RGB")


def label_positions(image: Image.Image, instances: list[Instance]) -> list[Box]:
    """Draw instances and return the positions of their labels."""
    positions: list[Box] = []
    place_label = drawing.place_label

    def recordingplace_label(*args: Any) -> Box:
        positions.append(place_label(*args))
        return positions[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawing, "place_label", recordingplace_label)
        draw_instances(image, instances)
    return positions


@pytest.mark.parametrize("size", [(32, 32), (300, 40), (640, 480), (200, 3000), (8000, 500)])
def test_labels_are_inside_the_image_and_legible(size: tuple[int, int]) -> None:
    large = upscaled_size(size)
    corners = [(0.0, 0.0), (0.9, 0.0), (0.0, 0.9), (0.9, 0.9)]
    width, height = large
    instances = [
        Instance(
            "a lighthouse",
            (x * width, y * height, (x + 0.1) * width, (y + 0.1) * height),
            None,
            0.5,
        )
        for x, y in corners
    ]
    for x0, y0, x1, y1 in label_positions(Image.new("RGB", large), instances):
        assert 0 <= x0 < x1 <= width + 0.01
        assert 0 <= y0 < y1 <= height + 0.01
        assert y1 - y0 >= 16


def test_labels_of_crowded_objects_do_not_overlap() -> None:
    crowd = [Instance("boat", (100 + n, 80 + n, 180 + n, 150 + n), None, 0.5) for n in range(8)]
    labels = label_positions(blank(), crowd)
    assert len(labels) == 8
    for number, label in enumerate(labels):
        assert all(intersection_area(label, other) == 0 for other in labels[:number])


@pytest.fixture
def built_in_font(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No font is installed, so that Pillow's own one is used."""
    monkeypatch.setattr(drawing, "FONTS", ("no-such-font.ttf",))
    drawing.load_font.cache_clear()
    yield
    drawing.load_font.cache_clear()


def drawn_labels(*labels: str) -> list[bytes]:
    """Return the pixels of images with one label each, all on boxes of one color."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawing, "label_color", lambda label: (20, 55, 120))
        return [draw_instances(blank(), [Instance(x, (20, 60, 80, 90))]).tobytes() for x in labels]


def test_a_label_with_non_latin_letters_is_drawn_with_an_installed_font() -> None:
    words = ["лодка", "лодки", "βάρκα", "סירה", "قارب", "łódź"]
    assert len(set(drawn_labels(*words, *("?" * len(word) for word in words)))) == 6 + 2


@pytest.mark.usefixtures("built_in_font")
def test_letters_that_the_font_lacks_become_question_marks() -> None:
    replaced, mixed, expected, expected_mixed = drawn_labels(
        "лодка", "boat лодка", "?????", "boat ?????"
    )
    assert (replaced, mixed) == (expected, expected_mixed)
    assert drawing.load_font(20).getname()[0] == "Aileron"


def test_letters_without_a_glyph_in_any_font_become_question_marks() -> None:
    first, second = drawn_labels("\U0003fffe", "?")
    assert first == second


@pytest.mark.parametrize(
    ("size", "drawn"),
    [((32, 32), (288, 288)), ((100, 280), (100, 280)), ((8000, 6000), (8000, 6000))],
)
def test_predictions_are_drawn_at_the_size_of_the_image_unless_it_is_tiny(
    size: tuple[int, int], drawn: tuple[int, int]
) -> None:
    assert upscaled_size(size) == drawn


def test_a_mask_has_an_outline_inside_its_edge() -> None:
    mask = np.zeros((200, 300), dtype=bool)
    mask[50:150, 80:220] = True
    drawn = draw_instances(blank(), [Instance("boat", (80, 50, 220, 150), mask)])
    color = label_color("boat")
    column = [drawn.getpixel((150, y)) for y in range(50, 100)]
    assert color in column[:6]
    assert column[-1] not in (color, (128, 128, 128))
    assert drawn.getpixel((150, 45)) == (128, 128, 128)


def test_a_mask_follows_a_resized_image() -> None:
    mask = np.zeros((20, 30), dtype=bool)
    mask[5:15, 8:22] = True
    drawn = draw_instances(blank(), [Instance("", (8, 5, 22, 15), mask)], size=(30, 20))
    changed = ImageChops.difference(drawn, blank()).getbbox()
    assert changed is not None
    assert np.abs(np.array(changed) - (80, 50, 220, 150)).max() <= 3


def test_an_empty_mask_leaves_the_image_as_it_was() -> None:
    empty = Instance("", (300, 200, 300, 200), np.zeros((200, 300), dtype=bool))
    drawn = np.asarray(draw_instances(blank(), [empty]))
    assert (drawn[:190, :290] == 128).all()
