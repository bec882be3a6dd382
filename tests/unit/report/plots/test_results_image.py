from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from palitune.report.metrics_table import metric_values
from palitune.report.plots.results_image import write_results_image
from palitune.report.plots.training_curves import training_charts


@pytest.mark.parametrize("num_charts", [0, 1, 9])
def test_the_image_has_the_metrics_and_a_line_for_each_chart(
    tmp_path: Path, num_charts: int
) -> None:
    history = [
        {"step": step, **{f"metric {i}": float(step + i) for i in range(num_charts)}}
        for step in (1, 2, 3)
    ]
    values = metric_values({"after": {"ocr/exact_match": 0.5}, "before": {"ocr/exact_match": 0.1}})
    write_results_image(tmp_path / "r.png", "Fine-tuning", values, training_charts(history))
    pixels = np.asarray(Image.open(tmp_path / "r.png")).astype(int)
    # The ink of a title is gray; only a line of a chart is blue.
    blue = pixels[..., 2] - pixels[..., 0] > 120
    columns = 3 if num_charts > 2 else num_charts
    assert pixels.min() < 60
    assert (blue.sum() > 0) == (num_charts > 0)
    widths = np.flatnonzero(blue.any(axis=0))
    assert columns == 0 or widths.max() - widths.min() > (columns - 1) * 700
