"""Images are found wherever they lie, and each is prompts the same."""

from pathlib import Path

import pytest
from PIL import Image

from palitune.data.images.video import VideoSampling
from palitune.data.unlabeled import build_prompts, list_images
from palitune.errors import DataError
from palitune.tasks.infer_task import infer_task

from support.videos import frame_index, write_video

OCR = infer_task("ocr", None)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("b.png", "a.JPG", "deep/er/c.webp", ".hidden/d.png", "e.png"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 10)).save(file)
    (tmp_path / "notes.txt").write_text("x")
    return tmp_path


def names(*paths: Path | str) -> list[str]:
    return list(list_images([str(path) for path in paths]).files)


def test_a_folder_is_searched_with_its_subfolders(photos: Path) -> None:
    images = list_images([str(photos)])
    assert list(images.files) == ["a.JPG", "b.png", "deep/er/c.webp", "e.png"]
    assert images.num_other_files == 1


def test_a_pattern_matches_images_only_and_a_file_is_used_without_a_check(photos: Path) -> None:
    assert names(photos / "*") == ["a.JPG", "b.png", "deep/er/c.webp", "e.png"]
    assert names(photos / "*.png") == ["b.png", "e.png"]
    assert names(photos / "notes.txt") == ["notes.txt"]


def test_names_are_unique_across_paths_and_no_image_occurs_twice(
    photos: Path,
) -> None:
    assert names(photos / "deep", photos / "b.png", photos / "*.png") == [
        "deep/er/c.webp",
        "b.png",
        "e.png",
    ]


def test_brackets_in_an_existing_name_are_not_a_pattern(photos: Path) -> None:
    (photos / "[1].png").write_bytes((photos / "b.png").read_bytes())
    assert names(photos / "[1].png") == ["[1].png"]


def test_the_home_folder_may_be_abbreviated(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(photos))
    assert names("~/deep", "~/e.png") == ["deep/er/c.webp", "e.png"]


def test_every_image_gets_the_prompt_and_its_upright_size(photos: Path) -> None:
    prompts = build_prompts(list_images([str(photos)]), OCR, max_samples=2, skip_unreadable=False)
    assert [(e.id, e.prefix, e.size, e.component) for e in prompts.examples] == [
        ("a.JPG", "ocr", (20, 10), "ocr"),
        ("b.png", "ocr", (20, 10), "ocr"),
    ]
    text = "images: 2 of 4, limited by evaluation.max_samples; other files skipped: 1"
    assert prompts.summary() == text


def test_an_unreadable_image_is_refused_or_skipped(photos: Path) -> None:
    (photos / "b.png").write_text("not an image")
    images = list_images([str(photos)])
    with pytest.raises(DataError, match=r"b\.png is not in a format .*skip_unreadable=true"):
        build_prompts(images, OCR, max_samples=None, skip_unreadable=False)
    prompts = build_prompts(images, OCR, max_samples=None, skip_unreadable=True)
    assert len(prompts.examples) == 3
    assert prompts.summary() == "images: 3 of 4, unreadable and skipped: 1; other files skipped: 1"


def test_images_that_are_all_unreadable_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("x")
    with pytest.raises(DataError, match="none of 1 can be read, the first: image "):
        build_prompts(list_images([str(tmp_path)]), OCR, max_samples=None, skip_unreadable=True)


def test_all_images_can_be_in_one_prompt(photos: Path) -> None:
    images = list_images([str(photos / "*.png")])
    prompts = build_prompts(images, OCR, max_samples=None, skip_unreadable=False, multi_image=True)
    [example] = prompts.examples
    assert example.id == "b.png, e.png"
    assert example.images == (str(photos / "b.png"), str(photos / "e.png"))
    assert prompts.summary() == "images: 1 of 1"


def test_a_video_is_represented_by_its_frames(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mp4", 20)
    images = list_images([str(tmp_path)])
    frames = VideoSampling(count=3, stride=5)
    prompts = build_prompts(
        images, OCR, max_samples=None, skip_unreadable=False, video_sampling=frames
    )
    [example] = prompts.examples
    assert example.id == "clip.mp4"
    assert [frame_index(image) for image in example.images] == [0, 5, 10]


def test_a_detection_prompt_has_one_image_only(photos: Path) -> None:
    images = list_images([str(photos / "*.png")])
    boats = infer_task("detect boat", None)
    with pytest.raises(
        DataError, match="2 images, but task detection writes boxes, which refer to"
    ):
        build_prompts(images, boats, max_samples=None, skip_unreadable=False, multi_image=True)


def test_a_pattern_that_would_follow_links_for_ever_is_one_sentence(photos: Path) -> None:
    for name in ("up", "deep/up"):
        (photos / name).symlink_to(photos)
    for pattern in ("**/*.png", "*/**/*.png"):
        with pytest.raises(DataError, match=r"up is a link to a folder above it\. Remove"):
            names(photos / pattern)


def test_a_name_that_is_too_long_is_one_sentence() -> None:
    with pytest.raises(DataError, match=r"images: a+ cannot be read \(File name too long\)\.$"):
        names("a" * 300)
