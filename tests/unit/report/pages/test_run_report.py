import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from palitune.report.pages.run_report import MAX_EXAMPLES, write_run_report

from support.run_folders import make_noisy_run

VOID = {"meta", "img", "input", "wbr"}


class Page(HTMLParser):
    """Parser that collects tags and text of a page and asserts that its elements are balanced."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in {"style", "script"}:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def page(finished_run: Path) -> Page:
    return Page(write_run_report(finished_run))


def test_the_page_is_in_the_run_folder(finished_run: Path) -> None:
    assert write_run_report(finished_run) == finished_run / "report.html"


def test_nothing_is_loaded_from_elsewhere(page: Page) -> None:
    for tag, attributes in page.tags:
        assert tag not in {"link", "iframe", "object", "embed", "base"}
        for name in ("src", "href", "xlink:href", "srcset", "action", "data"):
            assert attributes.get(name, "#").startswith(("#", "data:image/webp;base64,"))


def test_the_page_forbids_itself_to_load_anything(page: Page) -> None:
    policies = [m["content"] for m in page.all("meta") if "http-equiv" in m]
    assert len(policies) == 1
    # Photos beside the page may be shown; no scheme of a network is allowed.
    assert policies[0].startswith("default-src 'none'; img-src data: 'self' file:; style-src")


def test_generated_text_is_escaped(page: Page, finished_run: Path) -> None:
    assert len(page.all("script")) == 1
    assert "<script>alert(1)</script>" in page.text
    html = (finished_run / "report.html").read_text()
    assert "<script>alert" not in html
    assert "<b>pages</b>" in page.text
    assert "<b>pages" not in html


def test_every_image_has_a_text_and_a_size(page: Page) -> None:
    assert len(page.all("img")) == 40
    for image in page.all("img"):
        assert image["alt"]
        assert int(image["width"]) >= 100
        assert int(image["height"]) >= 100


def test_metrics_before_and_after_are_shown_with_their_change(page: Page) -> None:
    for text in ("0.123", "0.654", "+0.531", "−0.570", "40.0 %", "n = 20"):
        assert text in page.text
    assert "better" in page.text


def test_intervals_and_slices_are_shown_if_available(page: Page, evaluated_run: Path) -> None:
    assert "0.654±.023+0.531±.032 better" in " ".join(page.text.split()).replace(" +", "+")
    assert "95 % confidence interval: 0.628 to 0.674" in {
        cell.get("title") for cell in page.all("td")
    }
    assert (
        "± is half the width of the 95 % bootstrap confidence interval. Better/worse means that "
        "the interval excludes zero."
    ) in page.text
    assert "by digits" in page.text
    assert "0.412" in page.text
    assert "confidence interval" not in Page(write_run_report(evaluated_run)).text


def test_the_headline_names_task_model_and_adapter(page: Page) -> None:
    assert "Fine-tuning: ocr, detection" in page.text
    assert "tiny, resolution 112" in page.text
    assert "lora, rank 16, alpha 32.0" in page.text


def test_each_example_of_each_part_is_one_card(page: Page) -> None:
    assert [a["id"] for a in page.all("section")] == [
        "metrics",
        "curves",
        "scores",
        "confusion",
        "examples",
        "setup",
    ]
    for heading in (
        "Confusion matrix",
        "Setup and versions",
        "Are the confidence scores reliable?",
    ):
        assert heading in page.text
    assert "Rows are true classes, columns are predictions." in page.text
    cards = [a for a in page.all("article") if a["class"].startswith("card ")]
    assert len(cards) == 40
    assert {a["data-part"] for a in cards} == {"ocr", "detection"}
    galleries = {key for a in cards for key in json.loads(a["data-positions"])}
    assert galleries == {"sample", "worst", "best", "malformed", "improved", "worsened"}
    assert {"full", "zero", "malformed"} <= {a["data-grade"] for a in cards}


def test_links_of_the_page_have_targets(page: Page) -> None:
    ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    assert {a["href"][1:] for a in page.all("a")} <= ids


def test_curves_settings_and_skipped_rows_are_shown(page: Page) -> None:
    labels = [s["aria-label"] for s in page.all("svg") if "aria-label" in s]
    per_class = [label for label in labels if label.startswith("F1 over score:")]
    assert len(per_class) == 4
    assert [label for label in labels if label not in per_class] == [
        "loss over training steps",
        "learning_rate over training steps",
        "exact_match over training steps",
        "f1@.5 over training steps",
        "AP50 over training steps",
        "AP over training steps",
        "precision over recall of detection",
        "precision over score of detection",
        "F1 over score of detection",
    ]
    assert "override /model: tiny" in page.text
    assert "2.13.0" in page.text
    assert "pages.jsonl:17: image missing.png does not exist" in page.text


def test_the_same_folder_gives_the_same_page(finished_run: Path) -> None:
    first = write_run_report(finished_run).read_bytes()
    assert write_run_report(finished_run).read_bytes() == first


def test_an_evaluation_needs_no_file_but_its_metrics(evaluated_run: Path) -> None:
    page = Page(write_run_report(evaluated_run))
    assert "Evaluation: ocr" in page.text
    assert "0.250" in page.text
    assert "–" in page.text
    assert [a["id"] for a in page.all("section")] == ["metrics"]


def test_the_share_of_malformed_answers_is_added_to_the_metrics(
    evaluated_run: Path,
) -> None:
    metrics = {"split": "test", "examples": {"vqa": 4}, "before": None, "after": {"vqa/x": 0.1}}
    (evaluated_run / "metrics.json").write_text(json.dumps(metrics))
    record = {"part": "vqa", "images": [], "size": [1, 1], "prefix": "", "reference": ["7"]}
    answers = [None, "7", "8", "9"]
    lines = [
        json.dumps(record | {"id": str(i), "text": "", "prediction": answer, "scores": {}})
        for i, answer in enumerate(answers)
    ]
    (evaluated_run / "predictions.jsonl").write_text("\n".join(lines))
    page = Page(write_run_report(evaluated_run))
    assert "malformed" in page.text
    assert "25.0 %" in page.text


def test_half_a_surrogate_pair_does_not_stop_the_page(evaluated_run: Path) -> None:
    record = {
        "id": "1",
        "part": "ocr",
        "images": [],
        "size": [1, 1],
        "prefix": "ocr",
        "text": "\ud83d",
        "prediction": "\ud83d",
        "reference": ["7"],
        "scores": {"exact_match": 0.0},
    }
    (evaluated_run / "predictions.jsonl").write_text(json.dumps(record))
    assert r"prediction\ud83d" in "".join(Page(write_run_report(evaluated_run)).text.split())


def test_characters_that_garble_the_page_are_escaped(page: Page) -> None:
    assert r"<loc0001> ; \u202e boat\u0000 <script>" in page.text
    assert not set(page.text) & {"\x00", "\u202e"}


def test_the_date_is_that_of_the_metrics(evaluated_run: Path) -> None:
    os.utime(evaluated_run / "metrics.json", (1_700_000_000, 1_700_000_000))
    assert re.search(r"finished2023-11-1[45] \d\d:\d\d", Page(write_run_report(evaluated_run)).text)


def test_the_setup_names_metrics_versions_and_data(finished_run: Path, page: Page) -> None:
    assert "1 if the answer equals one of the references, else 0" in page.text
    assert "9f86d081884c7d65" in page.text
    assert "test, ocr" in page.text


def test_confusions_are_listed_with_a_button_that_shows_their_examples(page: Page) -> None:
    buttons = [b for b in page.all("button") if b.get("class") == "show"]
    assert {b["data-part"] for b in buttons} == {"detection"}
    pairs = [json.loads(b["data-pair"]) for b in buttons]
    assert ["buoy", ""] in pairs
    pairs_of_cards = [
        pair
        for a in page.all("article")
        if "data-pairs" in a
        for pair in json.loads(a["data-pairs"])
    ]
    assert all(pair in pairs_of_cards for pair in pairs)


def test_input_and_target_text_are_shown_with_their_newlines(page: Page) -> None:
    assert "Input text (after the image tokens and <bos>)" in page.text
    assert "detect boat ; buoy ; gull⏎" in page.text
    assert "Target text" in page.text


def test_a_thousand_examples_make_a_page_of_less_than_three_megabytes(tmp_path: Path) -> None:
    page = write_run_report(make_noisy_run(tmp_path / "run", 1000)).read_bytes()
    assert 2_000_000 < len(page) < 3_000_000
    assert page.count(b'<article class="card ') == MAX_EXAMPLES
