"""Arrays of .npz files: equal to numpy's, and never larger than the file can hold."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from palitune.codec.npz import read_npz
from palitune.errors import DataError


def npy_header(shape: tuple[int, ...]) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        file, {"descr": "<f4", "fortran_order": False, "shape": shape}
    )
    return file.getvalue()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_are_those_of_numpy(save: object, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {
        "a/b": rng.normal(size=(3, 4)).astype(np.float32),
        "empty": np.zeros((0, 2)),
        "scalar": np.array(7),
        "columns": np.asfortranarray(rng.normal(size=(5, 2))),
    }
    save(tmp_path / "x.npz", **arrays)  # type: ignore[operator]
    read = dict(read_npz(tmp_path / "x.npz"))
    assert list(read) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name], array)


@pytest.mark.parametrize("shape", [(2**40,), (2**62, 8), (3,)])
def test_an_array_that_claims_another_size_is_refused(
    shape: tuple[int, ...], tmp_path: Path
) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("a.npy", npy_header(shape) + bytes(64))
    with pytest.raises(DataError, match=r"^a\.npy claims the shape \("):
        list(read_npz(tmp_path / "x.npz"))


def test_an_array_that_expands_a_thousandfold_is_refused(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "x.npz", a=np.zeros(2**20))
    with pytest.raises(DataError, match="more than 20 times as large as the file"):
        list(read_npz(tmp_path / "x.npz"))
