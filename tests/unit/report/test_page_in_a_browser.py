"""The report in a browser, at the size of a phone and of a desktop, by mouse and keyboard."""

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page

from palitune.records import Instance, instance_to_json
from palitune.report.pages.run_report import write_run_report

from support.browser import DESKTOP, PHONE, BrowserPage, open_page
from support.run_folders import HOSTILE, make_run, make_small_run

WINDOWS = [PHONE, DESKTOP]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a fine-tuning with 20 examples in each of two parts."""
    return write_run_report(make_run(tmp_path_factory.mktemp("browser") / "a-run", count=20))


@pytest.fixture
def page(report: Path) -> Iterator[Page]:
    with open_page(report) as visit:
        yield visit.page


def count_visible(page: Page) -> int:
    return page.locator("article.card:visible").count()


def count_text(page: Page) -> str:
    return page.locator("#filter output[name=count]").inner_text()


def choose_gallery(page: Page, name: str) -> None:
    page.locator(f'#filter [data-gallery="{name}"]').click()


def assert_no_errors(visit: BrowserPage) -> None:
    assert visit.page.locator("h1").count() == 1
    assert visit.broken_images() == []
    assert visit.overflow() <= 0
    assert visit.errors == []


@pytest.mark.parametrize("window", WINDOWS)
def test_the_report_loads_without_errors_and_fits_the_window(
    report: Path, window: tuple[int, int]
) -> None:
    with open_page(report, window) as visit:
        assert visit.page.locator("img, svg").count() > 0
        choose_gallery(visit.page, "")
        visit.page.locator("summary").evaluate_all("all => all.forEach(s => s.click())")
        visit.page.locator(".enlarge:visible").first.click()
        assert_no_errors(visit)


def test_it_opens_with_the_random_examples_and_galleries_change_what_is_shown(page: Page) -> None:
    pressed = page.locator('#filter [aria-pressed="true"]')
    assert pressed.inner_text().startswith("Random")
    assert (count_visible(page), count_text(page)) == (24, "24 of 24 shown")
    choose_gallery(page, "malformed")
    assert pressed.inner_text() == f"Malformed {count_visible(page)}"
    assert page.locator("article.card:visible").evaluate_all(
        "cards => cards.every(card => card.dataset.grade === 'malformed')"
    )
    choose_gallery(page, "")
    assert (count_visible(page), count_text(page)) == (24, "24 of 40 shown")
    page.locator("#more").click()
    assert (count_visible(page), count_text(page)) == (40, "40 of 40 shown")
    assert not page.locator("#more").is_visible()


def test_examples_are_found_by_part_score_and_text(page: Page) -> None:
    choose_gallery(page, "")
    page.locator("select[name=part]").select_option("ocr")
    assert count_visible(page) == 20
    page.locator("select[name=grade]").select_option("zero")
    wrong = count_visible(page)
    assert 0 < wrong < 20
    page.locator("select[name=grade]").select_option("")
    page.locator("input[name=text]").fill("PAGE-007 ")
    assert page.locator("article.card:visible h3").all_inner_texts() == ["page-007 ocr"]
    page.locator("input[name=text]").fill("no such text")
    assert count_visible(page) == 0
    assert page.locator("#none").is_visible()
    page.locator("button[type=reset]").click()
    page.wait_for_function(
        "document.querySelector('#filter output[name=count]').value.includes('of 40')"
    )


def test_examples_are_found_by_class_and_by_confusion(page: Page) -> None:
    button = page.locator(".show:visible").first
    times = int(button.locator("xpath=../../td[1]").inner_text())
    button.click()
    page.wait_for_function("document.querySelector('[name=pair]').value !== ''")
    pair = page.locator("select[name=pair]").input_value()
    assert 0 < count_visible(page) <= times
    assert page.locator("article.card:visible").evaluate_all(
        "(cards, pair) => cards.every(card => "
        "JSON.parse(card.dataset.pairs).some(p => JSON.stringify(p) === pair))",
        pair,
    )
    page.locator("select[name=pair]").select_option("")
    page.locator("select[name=label]").select_option("gull")
    assert 0 < count_visible(page) < 20


def test_examples_are_sorted_by_score_and_by_change(page: Page) -> None:
    choose_gallery(page, "")
    page.locator("select[name=part]").select_option("detection")
    for order, key, falling in (("low", "score", False), ("high", "score", True)):
        page.locator("select[name=sort]").select_option(order)
        values = page.locator("article.card:visible").evaluate_all(
            "(cards, key) => cards.map(card => Number(card.dataset[key]))", key
        )
        assert len(values) == 20
        assert values == sorted(values, reverse=falling)


def test_everything_can_be_reached_and_used_by_keyboard(page: Page) -> None:
    def press(key: str) -> Any:
        page.keyboard.press(key)
        return page.evaluate(
            "() => { const e = document.activeElement, s = getComputedStyle(e);"
            " return {tag: e.tagName, text: e.textContent, name: e.name ?? '',"
            " in: e.closest('article, form')?.id,"
            " kind: e.className, outlined: s.outlineStyle !== 'none'}; }"
        )

    assert press("Tab")["text"] == "Skip to the content"
    visited = []
    while (stop := press("Tab"))["tag"] != "BODY":  # which comes after the last
        visited.append(stop)
    assert all(stop["outlined"] for stop in visited)
    order = [stop["name"] for stop in visited if stop["in"] == "filter" and stop["name"]]
    fields = ["text", "part", "grade", "label", "pair", "sort"]
    assert order == [*fields, "layer-reference", "layer-after", "layer-before", "score"]
    kinds = [stop["kind"] for stop in visited]
    assert kinds.count("enlarge") == 24
    assert {"scroll", "show"} <= set(kinds)
    page.locator('#filter [data-gallery="worst"]').focus()
    page.keyboard.press("Enter")
    assert page.locator('#filter [aria-pressed="true"]').inner_text().startswith("Worst")
    page.locator("article.card:visible .enlarge").first.focus()
    page.keyboard.press("Space")
    assert page.locator("article.card.large").count() == 1


def test_controls_have_names_and_ids_are_unique(page: Page) -> None:
    nameless = page.evaluate(
        "[...document.querySelectorAll('button, select, input')].filter(e =>"
        " !(e.textContent.trim() && e.tagName === 'BUTTON') && !e.closest('label')).length"
    )
    assert nameless == 0
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))


def test_without_javascript_every_example_can_be_read(report: Path, tmp_path: Path) -> None:
    bare = tmp_path / "report.html"
    text = report.read_text(encoding="utf-8")
    bare.write_text(text[: text.index("<script>")] + "</body></html>", encoding="utf-8")
    with open_page(bare, PHONE) as visit:
        assert count_visible(visit.page) == 40
        assert not visit.page.locator("#filter").is_visible()
        assert visit.page.locator("button:not(.define):visible").count() == 0
        assert_no_errors(visit)


LONG = "a caption that goes on and on, " * 200
UNBROKEN = "w" * 4000
UNUSUAL = [
    HOSTILE,
    "</script><script>alert(1)</script>",
    "👩‍🚀 שלום עולם مرحبا \u202e",
    LONG,
    UNBROKEN,
    "",
    "\n",
]


@pytest.mark.parametrize("window", WINDOWS)
def test_unusual_texts_are_escaped_and_fit(tmp_path: Path, window: tuple[int, int]) -> None:
    records = [
        {
            "id": text[:200],
            "prefix": text,
            "text": text,
            "prediction": text,
            "reference": [text or "x"],
            "scores": {"exact_match": float(bool(text))},
        }
        for text in UNUSUAL
    ]
    run = make_small_run(tmp_path / HOSTILE.replace("/", "_"), "<i>", records, {"exact_match": 1})
    with open_page(write_run_report(run), window) as visit:
        visit.page.locator("summary").evaluate_all("all => all.forEach(s => s.click())")
        assert_no_errors(visit)
        assert count_visible(visit.page) == len(UNUSUAL)
        visit.page.locator("input[name=text]").fill("</script><script>alert(1)")
        assert count_visible(visit.page) == 1


@pytest.mark.parametrize("window", WINDOWS)
def test_masks_of_many_classes_fit_and_are_visible(tmp_path: Path, window: tuple[int, int]) -> None:
    Image.new("RGB", (200, 150), "white").save(tmp_path / "white.png")
    records = []
    for index in range(90):
        mask = np.zeros((150, 200), bool)
        mask[30:120, 40:160] = True
        label = f"a class with the rather long name {index % 30}"
        other = f"a class with the rather long name {(index * 7) % 30}"
        objects = [
            instance_to_json(Instance(name, (40, 30, 160, 120), mask=mask, score=score))
            for name, score in ((label, None), (other, 0.01 * index))
        ]
        records.append(
            {
                "images": [str(tmp_path / "white.png")],
                "size": [200, 150],
                "text": "<loc0000>",
                "prediction": objects[1:],
                "reference": objects[:1],
                "scores": {"mask_f1@.5": float(label == other)},
            }
        )
    run = make_small_run(tmp_path / "run", "segmentation", records, {"mask_AP50": 0.1})
    with open_page(write_run_report(run), window) as visit:
        assert_no_errors(visit)
        assert visit.page.locator(".scroll tbody tr").count() == 17  # 16 classes, and the others
        # Precision and recall, calibration, and F1 over the score of all and of eight classes.
        assert visit.page.locator("#scores svg").count() == 2 + 9
        card = visit.page.locator("article.card:visible").first
        shot = Image.open(io.BytesIO(card.locator(".photo").screenshot()))
        assert min(shot.convert("RGB").getpixel((shot.width // 2, shot.height // 2))) < 200


@pytest.fixture(scope="module")
def photo_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a detection on three photos of 2,000 pixels."""
    folder = tmp_path_factory.mktemp("photos")
    noise = np.random.default_rng(0).integers(0, 256, (75, 100, 3), np.uint8)
    records = []
    for index in range(3):
        file = folder / f"photo {index}.jpg"
        Image.fromarray(noise).resize((2000, 1500)).save(file)
        reference = [instance_to_json(Instance("gull", (200, 300, 800, 900)))]
        predicted = [
            instance_to_json(Instance("gull", (220, 300, 800, 900), score=0.9)),
            instance_to_json(Instance("boat", (1200, 900, 1900, 1400), score=0.3)),
        ]
        records.append(
            {
                "id": f"p{index}",
                "images": [str(file)],
                "size": [2000, 1500],
                "text": "<loc0000>",
                "prediction": predicted,
                "reference": reference,
                "scores": {"f1@.5": 0.5},
            }
        )
    return write_run_report(make_small_run(folder / "run", "detection", records, {"AP50": 0.5}))


def visible_labels(page: Page) -> list[str]:
    texts: list[str] = (
        page.locator("article.card:visible").first.locator(".tag:visible").all_inner_texts()
    )
    return texts


def test_layers_classes_and_low_scores_can_be_hidden(photo_report: Path) -> None:
    with open_page(photo_report) as visit:
        page = visit.page
        assert visible_labels(page) == ["gull 0.90", "boat 0.30"]
        page.locator("input[name=score]").fill("0.5")
        assert visible_labels(page) == ["gull 0.90"]
        page.locator("#drawing summary").click()
        page.locator('input[name="class-gull"]').uncheck()
        assert visible_labels(page) == []
        page.locator('input[name="class-gull"]').check()
        page.locator('input[name="layer-prediction"]').uncheck()
        assert visible_labels(page) == ["gull"]  # the reference gets its labels
        page.locator('input[name="layer-reference"]').uncheck()
        assert page.locator(".overlay g.layer:visible").count() == 0
        assert visit.errors == []


def test_an_enlarged_card_shows_the_photo_itself_with_letters_of_one_size(
    photo_report: Path,
) -> None:
    with open_page(photo_report) as visit:
        page = visit.page
        card = page.locator("article.card:visible").first
        box = card.locator(".overlay .prediction path").last

        def measure() -> tuple[float, float, float]:
            tag, drawn, photo = (
                part.bounding_box()
                for part in (card.locator(".tag:visible").first, box, card.locator(".photo"))
            )
            assert tag
            assert drawn
            assert photo
            return tag["height"], photo["width"], (drawn["x"] - photo["x"]) / photo["width"]

        small = measure()
        card.locator(".enlarge").click()
        card.locator("img").evaluate(
            "img => new Promise(done => img.naturalWidth === 2000 ? done() : (img.onload = done))"
        )
        large = measure()
        assert card.locator("img").evaluate("img => img.naturalWidth") == 2000
        assert large[0] == small[0]
        assert large[1] > 2 * small[1]
        assert large[2] == pytest.approx(1200 / 2000, abs=0.015)
        assert small[2] == pytest.approx(1200 / 2000, abs=0.015)
        page.keyboard.press("ArrowRight")
        assert page.locator("article.card.large h3").inner_text() == "p1"
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("Escape")
        assert page.locator("article.card.large").count() == 0
        assert visit.errors == []


def test_the_address_holds_the_filter(report: Path) -> None:
    with open_page(report) as visit:
        choose_gallery(visit.page, "worst")
        visit.page.locator("select[name=part]").select_option("detection")
        visit.page.locator('input[name="layer-before"]').check()
        visit.page.locator("input[name=score]").fill("0.6")
        shown = visit.page.locator("article.card:visible h3").all_inner_texts()
        address = visit.page.url
    with open_page(address) as visit:
        pressed = visit.page.locator('#filter [aria-pressed="true"]')
        assert pressed.inner_text().startswith("Worst")
        assert visit.page.locator("article.card:visible h3").all_inner_texts() == shown
        assert visit.page.locator('input[name="layer-before"]').is_checked()
        assert visit.page.locator("input[name=score]").input_value() == "0.6"
        assert visible_labels(visit.page)
        visit.page.locator("button[type=reset]").click()
        visit.page.wait_for_timeout(50)
        assert visit.page.evaluate("location.hash") == "#?gallery="
        assert not visit.page.locator('input[name="layer-before"]').is_checked()


def test_charts_show_values_at_the_pointer_and_can_be_saved(page: Page) -> None:
    chart = page.locator("figure.chart").first
    chart.scroll_into_view_if_needed()
    box = chart.locator("svg").bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert re.fullmatch(r"step \d+: training [\d.]+", chart.locator(".readout").inner_text())
    for kind, start in (("PNG", b"\x89PNG"), ("CSV", b"step,training\n10,")):
        with page.expect_download() as download:
            chart.get_by_role("button", name=kind).click()
        assert download.value.suggested_filename == f"loss.{kind.lower()}"
        assert Path(download.value.path()).read_bytes().startswith(start)


def test_a_question_mark_beside_a_number_opens_its_definition(page: Page) -> None:
    page.get_by_role("button", name="Definition of AP50").click()
    assert "at IoU .5" in page.locator(".definition:popover-open").inner_text()


def test_the_confusion_matrix_can_show_shares_of_the_row(page: Page) -> None:
    cell = page.locator(".confusion td.right").first
    assert cell.inner_text().isdigit()
    page.locator(".normalize input").first.check()
    assert re.fullmatch(r"\d+ %", cell.inner_text())


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("count", [0, 1])
def test_a_run_with_almost_no_content_has_a_page(
    tmp_path: Path, count: int, window: tuple[int, int]
) -> None:
    record = {"text": "7", "prediction": "7", "reference": ["7"], "scores": {"anls_rrc": None}}
    run = make_small_run(tmp_path / "run", "ocr", [record] * count, {"anls_rrc": None})
    with open_page(write_run_report(run), window) as visit:
        assert_no_errors(visit)
        assert count_visible(visit.page) == count
        assert "–" in visit.page.locator("#metrics").inner_text()
        assert (
            "malformed"
            not in json.dumps(visit.page.locator("#filter button").all_inner_texts()).lower()
        )
