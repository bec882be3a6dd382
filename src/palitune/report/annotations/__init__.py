"""Predictions as pre-annotations: COCO, YOLO, Label Studio and Pascal VOC."""
