"""Exports of labelling programs: Label Studio, LabelMe and CVAT."""
