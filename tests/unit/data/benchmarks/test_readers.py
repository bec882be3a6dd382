"""Readers of official files."""

from pathlib import Path
from typing import Any

import pytest

from palitune.data.benchmarks import readers as read
from palitune.errors import DataError

from support.official_files import write_csv, write_file, write_jsonl


def test_every_order_of_the_spans_of_an_answer_is_returned() -> None:
    assert read.span_permutations(["a, b, c", "d"]) == [
        "a, b, c", "a, c, b", "b, a, c", "b, c, a", "c, a, b", "c, b, a", "d"
    ]  # fmt: skip
    assert read.span_permutations(["a, a"]) == ["a, a"]
    assert read.span_permutations(["1,000"]) == ["1,000"]
    assert len(read.span_permutations(["a, b, c, d, e, f"])) == 720
    assert read.span_permutations(["a, b, c, d, e, f, g"]) == ["a, b, c, d, e, f, g"]


def test_annotators_answers_become_text_and_bulk_is_dropped(tmp_path: Path) -> None:
    answer = {"answer": "red", "answer_confidence": "yes", "answer_id": 1}
    program = {"semantic": [1], "fullAnswer": "It is red.", "answer": "red", "imageId": "7"}
    write_file(tmp_path / "a.json", [{"answers": [answer], "question_tokens": ["a"]}, program])
    assert list(read.json_list()(tmp_path / "a.json")) == [
        {"answers": ["red"]},
        {"answer": "red", "imageId": "7"},
    ]


def test_english_captions_of_coco35l_are_the_sources_of_the_german_ones(tmp_path: Path) -> None:
    line = {"image_id": "57870_0", "caption_tokenized": "a boat", "translation_tokenized": "Boot"}
    write_jsonl(tmp_path / "a.jsonl", [line | {"trg_lang": "de"}, line | {"trg_lang": "sv"}])
    assert list(read.coco35l(tmp_path / "a.jsonl")) == [
        {"image": 57870, "language": "de", "captions": ["Boot"]},
        {"image": 57870, "language": "en", "captions": ["a boat"]},
        {"image": 57870, "language": "sv", "captions": ["Boot"]},
    ]


def test_tables_and_lists_of_names_are_read(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", ["screenId", "summary"], ["7", 'a "list", of items'])
    assert list(read.csv_rows(tmp_path / "a.csv")) == [
        {"screenId": "7", "summary": 'a "list", of items'}
    ]
    write_file(tmp_path / "a.txt", "7\n\n 8 \n")
    assert list(read.name_lines(tmp_path / "a.txt")) == [{"key": "7"}, {"key": "8"}]


@pytest.mark.parametrize(
    ("reader", "content", "why"),
    [
        (read.json_list("data"), {"rows": []}, "must contain a list under 'data'"),
        (read.json_list(), {}, "must contain a list\\."),
        (read.json_dict, [], "must be an object of records"),
        (read.json_lines, "{}\n{", ":2: line must be JSON"),
        (read.ai2d, "", "ai2d_test_ids.csv does not exist"),
    ],
)
def test_another_version_of_a_file_is_an_error(
    tmp_path: Path, reader: Any, content: Any, why: str
) -> None:
    write_file(tmp_path / "a.json", content)
    with pytest.raises(DataError, match=f"^{tmp_path}.*{why}"):
        list(reader(tmp_path / "a.json"))
