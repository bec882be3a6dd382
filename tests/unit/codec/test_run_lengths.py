"""Run lengths are checked before a pixel is written, whatever a file holds."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_mask

from palitune.codec.run_lengths import decode_run_lengths, to_compressed_rle
from palitune.records import mask_to_json

MASKS = st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(lambda shape: arrays(bool, shape))


def compress(lengths: list[int]) -> str:
    """Write lengths as pycocotools' `rleToString` does, also ones that it would not write."""
    text = ""
    for index, length in enumerate(lengths):
        rest = length - lengths[index - 2] if index > 2 else length
        while True:
            digit, rest = rest & 31, rest >> 5
            more = rest != (-1 if digit & 16 else 0)
            text += chr(48 + digit + 32 * more)
            if not more:
                break
    return text


@given(MASKS)
def test_a_mask_is_the_same_after_a_round_trip_in_both_forms(mask: Any) -> None:
    rle = mask_to_json(mask)
    columns = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(np.concatenate(([0], columns, [1 - columns[-1]]))))
    counts = np.diff(edges, prepend=0).tolist()
    uncompressed = {"size": list(mask.shape), "counts": counts}
    height, width = mask.shape
    for form in (rle, uncompressed):
        assert np.array_equal(decode_run_lengths(form, (width, height)), mask)
        assert np.array_equal(coco_mask.decode(to_compressed_rle(form)), mask)
    assert compress(counts) == rle["counts"]


@given(
    st.dictionaries(
        st.sampled_from(["size", "counts"]),
        st.text("0123456789:;<=>?@ABCPQSTdefmnop") | st.binary()
        | st.lists(st.integers(-3, 40) | st.floats() | st.booleans() | st.integers(), max_size=6)
        | st.just([4, 5]) | st.none(),
    )
)  # fmt: skip
def test_any_run_lengths_are_a_mask_of_their_size_or_a_sentence(rle: Any) -> None:
    try:
        mask = decode_run_lengths(rle)
    except ValueError as error:
        message = str(error)
    else:
        message = "run lengths must be those of the mask"
        assert list(mask.shape) == rle["size"]
        assert np.array_equal(coco_mask.decode(to_compressed_rle(rle)), mask)
    assert message.startswith("run lengths must")
    assert len(message) < 300


def wrapping_lengths(num_pixels: int) -> list[int]:
    """Return lengths that add up to 2**64 more than the mask, with steps of 35 bits at most."""
    count = 60_000
    weight = count * (count + 1) // 2
    step, rest = divmod(2**64 + num_pixels, weight)
    lengths = [rest]
    for index in range(1, count + 1):
        lengths += [index * step, 0]
    return lengths


def test_lengths_whose_sum_wraps_around_do_not_end_the_process() -> None:
    counts = compress(wrapping_lengths(30 * 40))
    program = (
        "import sys; from palitune.data.sources.masks.formats import parse_segmentation\n"
        "rle = {'size': [30, 40], 'counts': sys.stdin.read()}\n"
        "try: parse_segmentation(rle, (40, 30), 'a.json:5')\n"
        "except ValueError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], input=counts, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("a.json:5: run lengths must add up to the 1200 pixels")


@pytest.mark.parametrize("counts", ["1", "", "PP", "52", "ooo", [3, 2**70], [True] * 12, [1.0, 11]])
def test_wrong_lengths_are_refused(counts: Any) -> None:
    rle = {"size": [4, 3], "counts": counts}
    for read in (decode_run_lengths, to_compressed_rle):
        with pytest.raises(ValueError, match="must add up to the 12 pixels"):
            read(rle)


@pytest.mark.parametrize("size", [[4], [4, 0], [-4, 3], [4.0, 3], [1 << 20, 1 << 20], None, "43"])
def test_a_wrong_size_is_refused_before_memory_is_allocated(size: Any) -> None:
    with pytest.raises(ValueError, match="size"):
        decode_run_lengths({"size": size, "counts": [12]})
    with pytest.raises(ValueError, match=r"must have the size \[4, 3\] \(height, width\)"):
        decode_run_lengths({"size": size, "counts": [12]}, (3, 4))
