"""The report in a browser, at the size of a phone and of a desktop, by mouse and keyboard."""

import json
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
    return page.locator("#filter output").inner_text()


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
    page.wait_for_function("document.querySelector('#filter output').value.includes('of 40')")


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
    assert order == ["text", "part", "grade", "label", "pair", "sort"]
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
        assert visit.page.locator("button:visible").count() == 0
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
        assert visit.page.locator("#scores svg").count() == 2
        tinted = visit.page.evaluate(
            "async () => { const image = document.querySelector('.pictures img');"
            " await image.decode(); const canvas = document.createElement('canvas');"
            " canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;"
            " const context = canvas.getContext('2d'); context.drawImage(image, 0, 0);"
            " return [...context.getImageData(canvas.width / 2, canvas.height / 2, 1, 1).data]; }"
        )
        assert min(tinted[:3]) < 200


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
