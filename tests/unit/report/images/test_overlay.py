import re
import xml.etree.ElementTree as ET

import numpy as np

from palitune.records import Instance
from palitune.report.images.overlay import MAX_INSTANCES, Layer, draw_overlay

HOSTILE = '"><script>alert(1)</script>'


def parse(markup: str) -> ET.Element:
    return ET.fromstring(f"<div>{markup}</div>")


def test_boxes_are_paths_in_pixels_of_the_photo_with_label_and_score() -> None:
    boat = Instance("boat", (100, 50, 300, 250), score=0.9251)
    root = parse(draw_overlay((2000, 1000), [Layer("prediction", [boat])]))
    svg = root.find("div/svg")
    assert svg is not None
    assert svg.get("viewBox") == "0 0 2000 1000"
    (shape,) = svg.findall("g/g")
    assert (shape.get("data-label"), shape.get("data-score")) == ("boat", "0.925")
    assert [path.get("d") for path in shape] == ["M100 50H300V250H100z"] * 2
    (tag,) = root.findall(".//span")
    assert tag.text == "boat 0.93"


def test_a_label_is_placed_at_its_box_at_any_size_of_the_photo() -> None:
    """Its position is that of the corner in percent, plus a distance in CSS pixels."""
    objects = [Instance("boat", (500, 400, 900, 900)), Instance("top", (0, 0, 90, 90))]
    tags = parse(draw_overlay((1000, 1000), [Layer("objects", objects)])).findall(".//span")
    above, inside = (re.findall(r"([\d.]+)%(?: \+ (-?\d+)px)?", t.get("style", "")) for t in tags)
    assert above == [("50", ""), ("40", "-18")]
    assert inside[0][0] == "0"
    assert all(int(pixels or 0) >= 0 for _, pixels in inside)


def test_a_mask_is_drawn_at_its_place_and_long_masks_are_reduced() -> None:
    mask = np.zeros((1500, 2000), bool)
    mask[300:900, 400:1600] = True
    boat = Instance("boat", (400, 300, 1600, 900), mask=mask)
    path = parse(draw_overlay((2000, 1500), [Layer("objects", [boat])])).find(
        ".//path[@class='mask']"
    )
    assert path is not None
    points = re.findall(r"[ML]([\d.]+) ([\d.]+)", path.get("d", ""))
    assert {(float(x), float(y)) for x, y in points} == {
        (400, 300), (1600, 300), (1600, 900), (400, 900)
    }  # fmt: skip


def test_labels_stay_text_and_the_number_of_objects_is_limited() -> None:
    many = [Instance(HOSTILE, (0, 0, 9, 9))] * (MAX_INSTANCES + 5)
    markup = draw_overlay((10, 10), [Layer("objects", many)])
    assert "<script" not in markup
    assert len(parse(markup).findall(".//g/g")) == MAX_INSTANCES
