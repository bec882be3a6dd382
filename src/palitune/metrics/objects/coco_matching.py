"""COCO's matching of detections to objects, stored so that resampled test sets can be scored.

`CocoMatches.compute` gives the twelve numbers of `detection.coco_ap` for any number of test sets
that contain each image a given number of times (0 leaves it out). Matching, which computes the
IoUs, happens once and within each image, so it is the same for all test sets. The rules are those
of pycocotools' `COCOeval`.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from palitune.codec.run_lengths import to_compressed_rle
from palitune.metrics.base import FloatArray, ResampleCounts, mean_of_defined
from palitune.metrics.objects.average_precision import (
    AREA_RANGES,
    IGNORED,
    IOU_THRESHOLDS,
    MATCHED,
    MAX_DETECTIONS,
    STAT_NAMES,
    UNMATCHED,
    CocoClassMatches,
    StatusArray,
    class_stats,
)

IouType = Literal["bbox", "segm"]
CocoAnnotations = list[dict[str, Any]]

# As in COCOeval: an IoU of 1 reaches every threshold despite rounding.
_ROUNDED_THRESHOLDS = np.minimum(IOU_THRESHOLDS, 1 - 1e-10).tolist()

_MAX_BLOCK_ENTRIES = 8_000_000  # (test sets x detections) scored at once, to limit memory


class CocoMatches:
    """Matched detections of a set of images, by class."""

    def __init__(
        self, ground_truth: dict[str, Any], results: CocoAnnotations, kind: IouType = "bbox"
    ) -> None:
        """Match COCO's result list to its annotation file.

        Args:
            ground_truth: Annotation file of COCO, as parsed from JSON. Images are ordered by id.
            results: Result list of COCO, as parsed from JSON.
            kind: Boxes or masks.

        Raises:
            ValueError: A result refers to an image that is not in the ground truth.
        """
        images = sorted(ground_truth["images"], key=lambda image: image["id"])
        image_index = {image["id"]: index for index, image in enumerate(images)}
        if unknown := {result["image_id"] for result in results} - image_index.keys():
            raise ValueError(
                f"results contain image {min(unknown, key=str)!r}, which is not in the ground "
                "truth; use the annotation file of the images that were predicted"
            )
        annotations = ground_truth["annotations"]
        if kind == "segm":
            annotations, results = _to_rle(annotations, images), _to_rle(results, images)
        objects = _group_by_class_and_image(annotations, image_index)
        detections = _group_by_class_and_image(results, image_index)
        self.num_images = len(images)
        self.classes = [
            _match_class(objects[category["id"]], detections[category["id"]], self.num_images, kind)
            for category in ground_truth["categories"]
            if objects[category["id"]]
        ]

    def compute(self, counts: ResampleCounts) -> dict[str, FloatArray]:
        """Return the twelve numbers, (test sets,) each, NaN without objects.

        `counts`: (test sets, images), how often each image occurs in each test set.
        """
        by_class: list[dict[str, FloatArray]] = []
        for matches in self.classes:
            block_size = max(1, _MAX_BLOCK_ENTRIES // max(1, len(matches.image)))
            blocks = [
                class_stats(matches, counts[start : start + block_size])
                for start in range(0, len(counts), block_size)
            ]
            by_class.append(
                {name: np.concatenate([block[name] for block in blocks]) for name in STAT_NAMES}
            )
        if not by_class:
            return {name: np.full(len(counts), np.nan) for name in STAT_NAMES}
        return {
            name: mean_of_defined(np.stack([stats[name] for stats in by_class]), axis=0)
            for name in STAT_NAMES
        }

    def compute_per_class(self) -> list[dict[str, float]]:
        """Return the twelve numbers of each class that has objects, in order of the categories."""
        once = np.ones((1, self.num_images))
        return [
            {name: float(values[0]) for name, values in class_stats(matches, once).items()}
            for matches in self.classes
        ]


def _match_class(
    objects: dict[int, CocoAnnotations],
    detections: dict[int, CocoAnnotations],
    num_images: int,
    kind: IouType,
) -> CocoClassMatches:
    """Match the objects and detections of one class, both by image index."""
    image: list[int] = []
    rank: list[int] = []
    scores: list[float] = []
    statuses: list[StatusArray] = []
    num_objects = np.zeros((len(AREA_RANGES), num_images))
    for index in sorted(objects.keys() | detections.keys()):
        truths = objects.get(index, [])
        ranked = sorted(detections.get(index, []), key=lambda detection: -detection["score"])
        ranked = ranked[: MAX_DETECTIONS[-1]]
        is_ignored = _outside_areas([_object_area(t) for t in truths])
        is_ignored |= np.array([bool(t.get("iscrowd", 0)) for t in truths], bool)
        num_objects[:, index] = (~is_ignored).sum(axis=1)
        image += [index] * len(ranked)
        rank += range(len(ranked))
        scores += [detection["score"] for detection in ranked]
        statuses.append(_match_image(ranked, truths, is_ignored, kind))
    order = np.argsort(-np.array(scores), kind="mergesort")
    return CocoClassMatches(
        image=np.array(image, np.int64)[order],
        rank=np.array(rank, np.int64)[order],
        status=np.concatenate(statuses, axis=2)[:, :, order],
        num_objects=num_objects,
    )


def _group_by_class_and_image(
    annotations: CocoAnnotations, image_index: dict[Any, int]
) -> defaultdict[Any, dict[int, CocoAnnotations]]:
    """Group annotations by class and then by image index."""
    groups: defaultdict[Any, dict[int, CocoAnnotations]] = defaultdict(dict)
    for entry in annotations:
        if entry["image_id"] in image_index:
            by_image = groups[entry["category_id"]]
            by_image.setdefault(image_index[entry["image_id"]], []).append(entry)
    return groups


def _to_rle(annotations: CocoAnnotations, images: CocoAnnotations) -> CocoAnnotations:
    """Convert every segmentation to COCO's compressed run lengths.

    Raises ValueError if one is damaged or of another size than its image.
    """
    from pycocotools import mask as coco_mask

    size = {image["id"]: (image.get("width"), image.get("height")) for image in images}
    converted = []
    for entry in (entry for entry in annotations if entry["image_id"] in size):
        mask, (width, height) = entry["segmentation"], size[entry["image_id"]]
        if isinstance(mask, list):
            mask = coco_mask.merge(coco_mask.frPyObjects(mask, height, width))
        declared = None if width is None or height is None else (width, height)
        mask = to_compressed_rle(mask, declared)
        converted.append(entry | {"segmentation": mask})
    return converted


def _object_area(entry: dict[str, Any]) -> float:
    """Return the annotated area of an object, or the area of its box."""
    return float(entry["area"] if "area" in entry else entry["bbox"][2] * entry["bbox"][3])


def _detection_area(detection: dict[str, Any]) -> float:
    """Return the area of the box of a detection if it has one, as COCO does, or of its mask."""
    from pycocotools import mask as coco_mask

    if detection.get("bbox"):
        return float(detection["bbox"][2] * detection["bbox"][3])
    return float(coco_mask.area(detection["segmentation"]))


def _outside_areas(areas: Sequence[float]) -> npt.NDArray[np.bool_]:
    """Return which areas are outside each range, (area ranges, areas)."""
    is_outside = [[area < low or area > high for area in areas] for low, high in AREA_RANGES]
    return np.array(is_outside, bool)


def _match_image(
    detections: CocoAnnotations,
    truths: CocoAnnotations,
    is_ignored: npt.NDArray[np.bool_],
    kind: IouType,
) -> StatusArray:
    """Match the detections of one image and class.

    Args:
        detections: Detections by descending score.
        truths: Reference objects.
        is_ignored: (areas, truths), crowds and objects outside the area range.
        kind: Boxes or masks.

    Returns:
        Status of each detection, (areas, thresholds, detections).
    """
    is_outside = _outside_areas([_detection_area(d) for d in detections])
    status: StatusArray = np.where(is_outside, IGNORED, UNMATCHED).astype(np.int8)[:, None, :]
    status = np.repeat(status, len(IOU_THRESHOLDS), axis=1)
    if not detections or not truths:
        return status
    crowd = [int(truth.get("iscrowd", 0)) for truth in truths]
    ious = pairwise_iou(detections, truths, crowd, kind)
    candidates = [[t for t, iou in enumerate(row) if iou >= IOU_THRESHOLDS[0]] for row in ious]
    if _are_pairs(candidates):
        for detection, near in enumerate(candidates):
            for truth in near:
                reached = np.array(_ROUNDED_THRESHOLDS) <= ious[detection][truth]
                found = np.where(is_ignored[:, truth], IGNORED, MATCHED)
                status[:, reached, detection] = found[:, None]
        return status
    # Area ranges often ignore the same objects, and then have the same matches.
    cache: dict[bytes, list[dict[int, int]]] = {}
    for area, ignored_here in enumerate(is_ignored):
        key = ignored_here.tobytes()
        if key not in cache:
            cache[key] = [
                _match_greedily(ious, candidates, ignored_here, crowd, threshold)
                for threshold in _ROUNDED_THRESHOLDS
            ]
        for threshold_index, matches in enumerate(cache[key]):
            for d, t in matches.items():
                status[area, threshold_index, d] = IGNORED if ignored_here[t] else MATCHED
    return status


def _are_pairs(candidates: Sequence[Sequence[int]]) -> bool:
    """Return whether no detection and no object has two candidates: then none competes."""
    near = [truth for truths in candidates for truth in truths]
    return len(set(near)) == len(near) and all(len(truths) < 2 for truths in candidates)


def pairwise_iou(
    detections: CocoAnnotations, truths: CocoAnnotations, crowd: Sequence[int], kind: IouType
) -> list[list[float]]:
    """Return IoU by detection and object; for a crowd the share of the detection inside."""
    from pycocotools import mask as coco_mask

    key = "bbox" if kind == "bbox" else "segmentation"
    ious: list[list[float]] = coco_mask.iou(
        [detection[key] for detection in detections], [truth[key] for truth in truths], list(crowd)
    ).tolist()
    return ious


def _match_greedily(
    ious: Sequence[Sequence[float]],
    candidates: Sequence[Sequence[int]],
    is_ignored: npt.NDArray[np.bool_],
    crowd: Sequence[int],
    min_iou: float,
) -> dict[int, int]:
    """Match each detection, the most confident first, to the best free object.

    An ignored object is matched only if no other object is near enough; a crowd may have any
    number of matches. Of equal IoUs the last object is taken, as in COCOeval.

    Args:
        ious: IoU by detection and object.
        candidates: Objects of each detection with at least the smallest IoU threshold.
        is_ignored: (objects,)
        crowd: 1 for each object that is a crowd, else 0.
        min_iou: IoU threshold.

    Returns:
        Index of the object by index of the detection.
    """
    matches: dict[int, int] = {}
    used: set[int] = set()
    for detection, (overlaps, near) in enumerate(zip(ious, candidates, strict=True)):
        free = [t for t in near if overlaps[t] >= min_iou and (crowd[t] or t not in used)]
        if len(free) > 1:
            free = [t for t in free if not is_ignored[t]] or free
        if free:
            matches[detection] = max(free, key=lambda t: (overlaps[t], t))
            used.add(matches[detection])
    return matches
