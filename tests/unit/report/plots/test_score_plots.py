import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np

from palitune.records import Instance
from palitune.report.plots.score_plots import draw_score_plots, instance_overlaps
from palitune.report.run_reader import EvaluatedExample, ScoredPrediction

BOX, OTHER = (10.0, 10.0, 40.0, 40.0), (60.0, 60.0, 90.0, 90.0)


def answer(*instances: Instance) -> ScoredPrediction:
    return ScoredPrediction(text="", value=instances, scores={})


def example(after: ScoredPrediction, before: ScoredPrediction | None = None) -> EvaluatedExample:
    return EvaluatedExample(
        id="1",
        part="boats",
        images=(),
        size=(100, 100),
        prefix="detect boat",
        reference=(Instance("boat", BOX), Instance("boat", OTHER)),
        after=after,
        before=before,
    )


PREDICTED = answer(Instance("boat", BOX, score=0.8), Instance("boat", (0, 0, 5, 5), score=0.35))


def test_the_precision_recall_curve_has_ap50_in_its_legend() -> None:
    curve, bars, _ = draw_score_plots("boats", [example(PREDICTED, answer())], ["f1@.5", "AP50"])
    assert curve.title == "precision over recall"
    assert curve.legend == (("after", "0.505"), ("before", "0.000"))  # 51 of 101 recalls
    assert "Boxes at IoU .5" in curve.note
    lines = [path.get("class") for path in ET.fromstring(curve.svg).iter("path")]
    assert [name for name in lines if name != "grid"] == ["line-0", "line-1"]
    assert bars.title == "precision over score"


def test_reliability_has_a_bar_for_each_score_that_occurs() -> None:
    (bars,) = draw_score_plots("boats", [example(PREDICTED)], ["box_accuracy@.5"])
    root = ET.fromstring(bars.svg)
    tooltips = [title.text for title in root.iter("title")]
    assert tooltips == [
        "1 objects with score 0.3 to 0.4: precision 0.000, mean score 0.350",
        "1 objects with score 0.8 to 0.9: precision 1.000, mean score 0.800",
    ]
    assert bars.legend == (("calibration error", "0.275"),)


def test_nothing_is_drawn_without_scores() -> None:
    assert draw_score_plots("boats", [example(answer(Instance("boat", BOX)))], ["AP50"]) == []
    text = replace(example(ScoredPrediction(text="7", value="7", scores={})), reference=("7",))
    assert draw_score_plots("ocr", [text], ["exact_match"]) == []


def test_masks_are_compared_by_masks() -> None:
    whole, half = np.zeros((100, 100), bool), np.zeros((100, 100), bool)
    whole[10:40, 10:40], half[10:40, 10:19] = True, True
    evaluated = replace(
        example(answer(Instance("boat", BOX, mask=half, score=0.9))),
        reference=(Instance("boat", BOX, mask=whole),),
    )
    assert instance_overlaps(evaluated, evaluated.after) == [[0.3]]
    curve, bars, _ = draw_score_plots("boats", [evaluated], ["mask_AP50", "AP50"])
    assert "Masks at IoU .5" in curve.note
    assert curve.legend == (("precision", "0.000"),)
    assert "precision 0.000" in bars.svg


def test_an_example_without_references_has_no_curve() -> None:
    curve, _ = draw_score_plots("boats", [replace(example(PREDICTED), reference=())], ["AP50"])
    assert curve.legend == (("precision", "–"),)
    assert 'class="line-0"' not in curve.svg


def test_the_best_threshold_is_drawn_for_all_classes_and_for_each() -> None:
    (_, _, plot) = draw_score_plots("boats", [example(PREDICTED)], ["AP50"])
    assert plot.title == "F1 over score"
    assert plot.legend == (("precision", "1.000"), ("recall", "0.500"), ("F1", "0.667"))
    assert plot.note.endswith("the best F1 at IoU .5 is that of min_score=0.575 (dashed).")
    assert (
        plot.csv
        == "score,precision,recall,F1\n0,0.5,0.5,0.5\n0.35,0.5,0.5,0.5\n0.8,1,0.5,0.66667\n"
    )
    buoy = replace(example(PREDICTED), reference=(Instance("boat", BOX), Instance("buoy", OTHER)))
    titles = [plot.title for plot in draw_score_plots("boats", [buoy], ["AP50"])][2:]
    assert titles == ["F1 over score", "F1 over score: boat", "F1 over score: buoy"]
    missed = draw_score_plots("boats", [buoy], ["AP50"])[-1]
    assert missed.note == "1 reference objects; no prediction is correct at IoU .5."
