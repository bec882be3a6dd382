"""WebDataset: samples out of tar files, and archives that are not to be trusted."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from palitune.data.sources.webdataset import MAX_MEMBER_BYTES, WebDataset
from palitune.errors import DataError
from palitune.records import Row

from support.official_files import draw_image


def write(folder: Path, files: dict[str, bytes], name: str = "train-000000.tar") -> Path:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(folder / name, "w") as archive:
        for member, content in files.items():
            member_info = tarfile.TarInfo(member)
            member_info.size = len(content)
            archive.addfile(member_info, io.BytesIO(content))
    return folder


@pytest.fixture
def image(tmp_path: Path) -> bytes:
    draw_image(tmp_path / "drawn.jpg")
    return (tmp_path / "drawn.jpg").read_bytes()


def rows(folder: Path, **settings: Any) -> list[Any]:
    return list(WebDataset(path=str(folder), **settings).rows("train"))


def test_files_of_one_name_are_one_row(tmp_path: Path, image: bytes) -> None:
    columns = json.dumps({"question": "where?", "answers": ["here"], "kind": 3}).encode()
    folder = write(
        tmp_path / "d", {"a/1.jpg": image, "a/1.json": columns, "a/1.npy": b"\x93",
                         "b/2.jpg": image,
                         "b/2.txt": b" a boat \n", "b/2.seg.png": image}
    )  # fmt: skip
    first, second = rows(folder)
    assert (first.id, first.question, first.answers) == ("a/1", "where?", ("here",))
    assert first.location == f"{folder}/train-000000.tar, a/1"
    assert Path(first.images[0]).read_bytes() == image
    assert second.id == "b/2"
    [captioned] = [row for row in rows_with_captions(folder) if isinstance(row, Row)]
    assert captioned.captions == ("a boat",)


def rows_with_captions(folder: Path) -> list[Any]:
    return rows(folder, columns={"captions": "txt"})


def test_a_split_may_be_several_files(tmp_path: Path, image: bytes) -> None:
    for name in ("train-000001.tar", "train-000000.tar", "test.tar"):
        write(tmp_path / "d", {f"{name[:-4]}.jpg": image}, name)
    assert [row.id for row in rows(tmp_path / "d")] == ["train-000000", "train-000001"]
    source = WebDataset(path=str(tmp_path / "d"))
    assert source.available_splits() == ["train", "test"]
    assert [file.name for file in source.files("train")] == ["train-000000.tar", "train-000001.tar"]


@pytest.mark.parametrize("name", ["../evil.jpg", "/etc/evil.jpg", "a/../../evil.jpg"])
def test_a_file_that_leads_out_of_the_archive_is_refused(
    tmp_path: Path, image: bytes, name: str
) -> None:
    write(tmp_path / "d", {name: image})
    with pytest.raises(DataError, match=r"train-000000\.tar: file names must stay .*evil\.jpg'"):
        rows(tmp_path / "d")
    assert not list(tmp_path.rglob("evil*"))


@pytest.mark.parametrize("name", ["{private}", "../private.jpg", "a/../../private.jpg"])
def test_a_path_in_a_record_that_leads_out_of_the_folder_is_refused(
    tmp_path: Path, image: bytes, name: str
) -> None:
    private = tmp_path / "private.jpg"
    private.write_bytes(image)
    record = json.dumps({"image": name.format(private=private)}).encode()
    [error] = rows(write(tmp_path / "d", {"1.json": record}))
    assert isinstance(error, DataError)
    assert ": image must be inside the data folder, got '" in str(error)
    assert str(error).endswith("private.jpg'. Copy the image into it.")
    (tmp_path / "d/inside.jpg").write_bytes(image)
    [row] = rows(write(tmp_path / "d", {"1.json": b'{"image": "inside.jpg"}'}))
    assert row.images == (str(tmp_path / "d/inside.jpg"),)


def test_links_are_not_followed(tmp_path: Path, image: bytes) -> None:
    write(tmp_path / "d", {"1.jpg": image})
    with tarfile.open(tmp_path / "d/train-000000.tar", "a") as archive:
        link = tarfile.TarInfo("2.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    assert [row.id for row in rows(tmp_path / "d")] == ["1"]


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"1.json": b"{}"}, "column 'image' must be present"),
        ({"1.json": b"{"}, ".json must be a JSON object (Expecting"),
        ({"1.json": b"[3]"}, ".json must be a JSON object (got [3])"),
        ({"1.txt": b"\xff"}, ".txt must be UTF-8 text ('utf-8' codec"),
        ({"1.jpg": b"no"}, "is not in a format that can be read"),
    ],
)
def test_a_bad_sample_is_named(tmp_path: Path, files: dict[str, bytes], why: str) -> None:
    [bad] = rows(write(tmp_path / "d", files))
    assert isinstance(bad, DataError)
    assert str(bad).startswith(f"{tmp_path}/d/train-000000.tar, 1: ")
    assert why in str(bad)


@pytest.mark.parametrize("content", [b"", b"nothing", b"\x00" * 100 + b"x" * 900])
def test_a_file_that_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "train.tar").write_bytes(content)
    with pytest.raises(DataError, match=r"train\.tar: file must be a tar file \("):
        rows(tmp_path)


def test_an_archive_that_was_cut_off_is_refused(tmp_path: Path, image: bytes) -> None:
    folder = write(tmp_path / "d", {"1.jpg": image * 20})
    file = folder / "train-000000.tar"
    file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(DataError, match=r"file must be a tar file \("):
        rows(folder)


def test_a_file_that_claims_too_many_bytes_is_refused_before_it_is_read(tmp_path: Path) -> None:
    info = tarfile.TarInfo("a.txt")
    info.size = MAX_MEMBER_BYTES + 1
    (tmp_path / "train.tar").write_bytes(info.tobuf() + b"\0" * 1024)
    with pytest.raises(DataError, match=r"files must have at most \d+ bytes .* got 'a\.txt'"):
        rows(tmp_path)


def test_a_sparse_file_is_refused(tmp_path: Path) -> None:
    info = tarfile.TarInfo("a.txt")
    info.pax_headers = {"GNU.sparse.map": "0,1", "GNU.sparse.size": str(2**42)}
    info.size = 1
    with tarfile.open(tmp_path / "train.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(info, io.BytesIO(b"x"))
    with pytest.raises(DataError, match=r"got 'a\.txt', which is sparse"):
        rows(tmp_path)
