"""Formats of pre-annotations."""

from enum import Enum


class AnnotationFormat(Enum):
    """Formats of labelling tools."""

    coco = "coco"
    """`annotations.json` with a `score` for each object: CVAT, FiftyOne, Roboflow and others."""
    yolo = "yolo"
    """`data.yaml` with `labels/`; `labels_with_scores/` has the confidence in a last column."""
    label_studio = "label_studio"
    """`tasks.json` with `predictions`, and `config.xml` for the labelling interface."""
    voc = "voc"
    """A Pascal VOC XML file per image; each object has a `score`."""
