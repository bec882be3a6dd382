"""Arrays of an .npz file, whose claims are checked before anything is allocated."""

import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from palitune.errors import DataError

if TYPE_CHECKING:
    import numpy as np

_MAX_EXPANSION = 20
"""Most bytes of arrays per byte of the file. Weights hardly compress; zeros do a thousandfold."""


def read_npz(file: Path) -> Iterator[tuple[str, "np.ndarray"]]:
    """Yield the arrays of a file by name; never a pickle.

    Raises DataError, whose text does not name the file, if the arrays are larger than it can hold.
    Other damage raises the errors of zipfile and numpy.
    """
    import numpy as np

    _check_sizes(file)
    with np.load(file, allow_pickle=False) as arrays:
        for name in arrays.files:
            yield name, arrays[name]


def _check_sizes(file: Path) -> None:
    """Compare the shape in the header of each array with the bytes of its member."""
    import numpy as np

    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if sum(member.file_size for member in members) > _MAX_EXPANSION * file.stat().st_size:
            raise DataError(f"its arrays are more than {_MAX_EXPANSION} times as large as the file")
        for member in members:
            with archive.open(member) as content:
                version = np.lib.format.read_magic(content)
                read = np.lib.format.read_array_header_1_0
                if version != (1, 0):
                    read = np.lib.format.read_array_header_2_0
                shape, _, dtype = read(content)
                size = dtype.itemsize * math.prod(shape)
                if not dtype.hasobject and size != member.file_size - content.tell():
                    raise DataError(
                        f"{member.filename} claims the shape {shape}, which is not that of its "
                        "content"
                    )
