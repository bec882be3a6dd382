"""COCO's matching of detections to objects, kept so that other sets of its images can be scored.

`Matches.numbers` gives the twelve numbers of `detection_ap.coco_ap` for any number of test sets in
which each image stands so many times (0 leaves it out). Matching, which asks for IoUs, happens once
and within an image, so it is the same in all of them. The rules are those of pycocotools'
`COCOeval`. An image that stands twice counts twice where it stands in the ranking.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from palitune.metrics.base import FloatArray, ResampleCounts, ratio

IouType = Literal["bbox", "segm"]
CocoAnnotations = list[dict[str, Any]]

STAT_NAMES = (
    "AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl",
)  # fmt: skip
IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALL_THRESHOLDS = np.linspace(0.0, 1.0, 101)
AREA_RANGES = ((0, 1e10), (0, 32**2), (32**2, 96**2), (96**2, 1e10))
"""All, small, medium, large; square pixels, both ends included."""
MAX_DETECTIONS = (1, 10, 100)
"""Detections per image and class that count, the most confident ones."""

# An IoU of 1 reaches any threshold, whatever the rounding.
_ROUNDED_THRESHOLDS = np.minimum(IOU_THRESHOLDS, 1 - 1e-10).tolist()

UNMATCHED, MATCHED, IGNORED = 0, 1, 2
StatusArray = npt.NDArray[np.int8]

_MAX_TABLE_ENTRIES = 8_000_000  # entries of one table while it is scored


@dataclass(frozen=True)
class CocoClassMatches:
    """One class: its detections over all images by falling score, and how many objects it has."""

    image: npt.NDArray[np.int64]
    """(detections,)"""
    rank: npt.NDArray[np.int64]
    """(detections,) rank in its image, from 0."""
    status: StatusArray
    """(areas, thresholds, detections) FALSE, TRUE or IGNORED."""
    num_objects: FloatArray
    """(areas, images) objects to find."""


class CocoMatches:
    """Detections of a set of images, matched."""

    def __init__(
        self, ground_truth: dict[str, Any], results: CocoAnnotations, kind: IouType = "bbox"
    ) -> None:
        """Match COCO's result list to its annotation file; images count in the order of their ids.

        Raises ValueError where a result names an image that the ground truth does not have.
        """
        images = sorted(ground_truth["images"], key=lambda image: image["id"])
        number = {image["id"]: index for index, image in enumerate(images)}
        if unknown := {result["image_id"] for result in results} - number.keys():
            raise ValueError(
                f"results name image {min(unknown, key=str)!r}, which is not in the ground truth; "
                "evaluate on the annotation file that was predicted on"
            )
        annotations = ground_truth["annotations"]
        if kind == "segm":
            annotations, results = _to_rle(annotations, images), _to_rle(results, images)
        objects, detections = (
            _group_by_class_and_image(annotations, number),
            _group_by_class_and_image(results, number),
        )
        self.num_images = len(images)
        self.classes = [
            self._match_class(objects[category["id"]], detections[category["id"]], kind)
            for category in ground_truth["categories"]
            if objects[category["id"]]
        ]

    def compute(self, counts: ResampleCounts) -> dict[str, FloatArray]:
        """Return the twelve numbers, (test sets,) each, NaN where there is nothing to find.

        `counts`: (test sets, images), how often each image stands in each.
        """
        found: list[dict[str, FloatArray]] = []
        for one in self.classes:
            rows = max(1, _MAX_TABLE_ENTRIES // max(1, len(one.image)))
            blocks = [counts[start : start + rows] for start in range(0, len(counts), rows)]
            scored = [_class_stats(one, block) for block in blocks]
            found.append({name: np.concatenate([s[name] for s in scored]) for name in STAT_NAMES})
        return {
            name: _mean_over_classes([one[name] for one in found], len(counts))
            for name in STAT_NAMES
        }

    def compute_per_class(self) -> list[dict[str, float]]:
        """Return the twelve numbers of each class that there is to find, in their order."""
        once = np.ones((1, self.num_images))
        scored = [_class_stats(one, once) for one in self.classes]
        return [{name: float(values[0]) for name, values in one.items()} for one in scored]

    def _match_class(
        self,
        objects: dict[int, CocoAnnotations],
        detections: dict[int, CocoAnnotations],
        kind: IouType,
    ) -> CocoClassMatches:
        image: list[int] = []
        place: list[int] = []
        scores: list[float] = []
        states: list[StatusArray] = []
        wanted = np.zeros((len(AREA_RANGES), self.num_images))
        for index in sorted(objects.keys() | detections.keys()):
            truths = objects.get(index, [])
            guesses = sorted(detections.get(index, []), key=lambda d: -d["score"])[
                : MAX_DETECTIONS[-1]
            ]
            ignored = np.array(
                [_outside_area_ranges(_object_area(t), t.get("iscrowd", 0)) for t in truths], bool
            )
            ignored = ignored.reshape(len(truths), len(AREA_RANGES)).T
            wanted[:, index] = (~ignored).sum(axis=1)
            image += [index] * len(guesses)
            place += range(len(guesses))
            scores += [guess["score"] for guess in guesses]
            states.append(_match_image(guesses, truths, ignored, kind))
        order = np.argsort(-np.array(scores), kind="mergesort")
        state = np.concatenate(states, axis=2)
        return CocoClassMatches(
            np.array(image, np.int64)[order], np.array(place, np.int64)[order],
            state[:, :, order], wanted,
        )  # fmt: skip


def _group_by_class_and_image(
    annotations: CocoAnnotations, image_index: dict[Any, int]
) -> defaultdict[Any, dict[int, CocoAnnotations]]:
    """Sort annotations by class and then by image."""
    found: defaultdict[Any, dict[int, CocoAnnotations]] = defaultdict(dict)
    for entry in annotations:
        if entry["image_id"] in image_index:
            by_image = found[entry["category_id"]]
            by_image.setdefault(image_index[entry["image_id"]], []).append(entry)
    return found


def _to_rle(annotations: CocoAnnotations, images: CocoAnnotations) -> CocoAnnotations:
    """Write every outline as COCO's compressed run lengths, which are what it compares."""
    from pycocotools import mask as coco_mask

    size = {image["id"]: (image.get("height"), image.get("width")) for image in images}
    written = []
    for entry in annotations:
        outline = entry["segmentation"]
        if isinstance(outline, list):
            polygons = coco_mask.frPyObjects(outline, *size[entry["image_id"]])
            outline = coco_mask.merge(polygons)
        elif isinstance(outline["counts"], list):
            outline = coco_mask.frPyObjects(outline, *outline["size"])
        written.append(entry | {"segmentation": outline})
    return written


def _object_area(entry: dict[str, Any]) -> float:
    """The area of an object: as annotated, else that of its box."""
    return float(entry["area"] if "area" in entry else entry["bbox"][2] * entry["bbox"][3])


def _outside_area_ranges(area: float, crowd: int) -> list[bool]:
    return [bool(crowd) or area < low or area > high for low, high in AREA_RANGES]


def _match_image(
    detections: CocoAnnotations,
    ground_truths: CocoAnnotations,
    ignored: npt.NDArray[np.bool_],
    kind: IouType,
) -> StatusArray:
    """Match the detections of one image and class, (areas, thresholds, detections)."""
    outside = np.array([_outside_area_ranges(_detection_area(g), 0) for g in detections], bool)
    outside = outside.reshape(len(detections), len(AREA_RANGES)).T
    state: StatusArray = np.where(outside, IGNORED, UNMATCHED).astype(np.int8)[:, None, :]
    state = np.repeat(state, len(IOU_THRESHOLDS), axis=1)
    if not detections or not ground_truths:
        return state
    crowd = [int(truth.get("iscrowd", 0)) for truth in ground_truths]
    ious = _pairwise_iou(detections, ground_truths, crowd, kind)
    near = [[t for t, iou in enumerate(row) if iou >= IOU_THRESHOLDS[0]] for row in ious]
    known: dict[bytes, list[dict[int, int]]] = {}
    for area, passed_over in enumerate(ignored):
        pattern = passed_over.tobytes()
        if pattern not in known:
            known[pattern] = [
                _match_greedily(ious, near, passed_over, crowd, t) for t in _ROUNDED_THRESHOLDS
            ]
        for place, taken in enumerate(known[pattern]):
            for guess, truth in taken.items():
                state[area, place, guess] = IGNORED if passed_over[truth] else MATCHED
    return state


def _pairwise_iou(
    detections: CocoAnnotations, ground_truths: CocoAnnotations, crowd: Sequence[int], kind: IouType
) -> list[list[float]]:
    """Return IoU by detection and object; for a crowd the share of the detection inside."""
    from pycocotools import mask as coco_mask

    key = "bbox" if kind == "bbox" else "segmentation"
    found = coco_mask.iou(
        [g[key] for g in detections], [t[key] for t in ground_truths], list(crowd)
    )
    ious: list[list[float]] = found.tolist()
    return ious


def _detection_area(detection: dict[str, Any]) -> float:
    """The area of a detection: its box's where it has one, as in COCO."""
    from pycocotools import mask as coco_mask

    if detection.get("bbox"):
        return float(detection["bbox"][2] * detection["bbox"][3])
    return float(coco_mask.area(detection["segmentation"]))


def _match_greedily(
    ious: Sequence[Sequence[float]],
    candidates: Sequence[Sequence[int]],
    ignored: npt.NDArray[np.bool_],
    crowd: Sequence[int],
    min_iou: float,
) -> dict[int, int]:
    """Give each detection, the most confident first, the best free object; of equals, the last.

    An ignored object is taken only where no other is near enough; a crowd may be taken many times.
    """
    taken: dict[int, int] = {}
    used: set[int] = set()
    for guess, row in enumerate(candidates):
        if not row:
            continue
        overlap = ious[guess]
        free = [t for t in row if overlap[t] >= min_iou and (crowd[t] or t not in used)]
        if len(free) > 1:
            free = [t for t in free if not ignored[t]] or free
        if free:
            taken[guess] = max(free, key=lambda t: (overlap[t], t))
            used.add(taken[guess])
    return taken


def _class_stats(matches: CocoClassMatches, counts: ResampleCounts) -> dict[str, FloatArray]:
    """Return the numbers of one class, (test sets,) each, NaN where a set has no object of it."""
    weights = counts[:, matches.image]
    ap = np.full((len(AREA_RANGES), len(IOU_THRESHOLDS), len(counts)), np.nan)
    recall = {}
    for area in range(len(AREA_RANGES)):
        wanted = counts @ matches.num_objects[area]
        for most in MAX_DETECTIONS if area == 0 else MAX_DETECTIONS[-1:]:
            right = (matches.status[area] == MATCHED) & (matches.rank < most)
            recall[area, most] = ratio((weights @ right.T.astype(float)).mean(axis=1), wanted)
        for threshold in range(len(IOU_THRESHOLDS)):
            ap[area, threshold] = _average_precision(
                weights, matches.status[area, threshold], wanted
            )
    mean = ap.mean(axis=1)
    values = [mean[0], ap[0, 0], ap[0, 5], *mean[1:]]
    values += [recall[0, most] for most in MAX_DETECTIONS] + [
        recall[area, MAX_DETECTIONS[-1]] for area in (1, 2, 3)
    ]
    return dict(zip(STAT_NAMES, values, strict=True))


def _average_precision(
    weights: ResampleCounts, status: npt.NDArray[np.int8], num_objects: FloatArray
) -> FloatArray:
    """Return the mean of the precisions at 101 recalls, of each test set.

    Precision can only fall between one right detection and the next, so the others need not be
    looked at.
    """
    right = np.flatnonzero(status == MATCHED)
    if not right.size:
        return np.where(num_objects > 0, 0.0, np.nan)
    found = np.cumsum(weights[:, right], axis=1)
    every = np.cumsum(weights * (status != IGNORED), axis=1)[:, right]
    precision = ratio(found, every)
    np.nan_to_num(precision, copy=False)
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    reached = np.searchsorted(RECALL_THRESHOLDS, ratio(found, num_objects[:, None]), side="right")
    steps = np.diff(reached, axis=1, prepend=0)
    averaged: FloatArray = np.where(
        num_objects > 0, (best * steps).sum(axis=1) / len(RECALL_THRESHOLDS), np.nan
    )
    return averaged


def _mean_over_classes(values: Sequence[FloatArray], num_test_sets: int) -> FloatArray:
    """Average over the classes that are defined."""
    if not values:
        return np.full(num_test_sets, np.nan)
    table = np.stack(values)
    known = ~np.isnan(table)
    return ratio(np.where(known, table, 0).sum(axis=0), known.sum(axis=0).astype(float))
