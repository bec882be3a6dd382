"""Metrics on boxes and masks: COCO AP, F1, IoU, calibration and confusion matrices."""
