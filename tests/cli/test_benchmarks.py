"""Every experiment on a benchmark: the prompts it writes, and two steps on a miniature of its data.

Prompts and suffixes are those of PaliGemma's transfers (big_vision, configs/proj/paligemma).
"""

import gc
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from palitune import __main__ as program
from palitune.config.catalog import options, resolve_option, summary_line
from palitune.config.compose import compose
from palitune.config.recipes import RECIPE_CONFIGS, ModelRecipeConfig
from palitune.data.dataset import load_split

from support.official_files import write_benchmark
from support.tiny_models import build_tiny

CAT = "caption en"
OBJECT = "<loc0128><loc0128><loc0639><loc0639>"  # 8, 6 to 40, 30 of 64 x 48 pixels
CELLS = (  # x first, of 64 x 64 pixels: 8, 6 to 40, 30, and 40, 30 to 64, 48
    "<loc0128><loc0096><loc0639><loc0480>", "<loc0639><loc0480><loc1023><loc0767>",
)  # fmt: skip
MC = "answer en  {} choose from: {}"
SCIENCE = "Question: Which force is it?\nContext: {}\nOptions: (A) push, (B) pull\nAnswer:"
TEN = ("Red",) * 7 + ("red",) * 3

GOLDEN: dict[str, tuple[str, str, tuple[str, ...]]] = {
    # experiment: (miniature, the first prompt of the split it evaluates on, its suffixes)
    "docvqa": ("docvqa", "What is the date? 0", ("Jan. 7", "January 7")),
    "infovqa": ("infovqa", "answer en Which two are shown?", ("red, blue", "blue, red", "30%")),
    "stvqa": ("stvqa", "answer en What does the sign say?", ("stop", "stop sign")),
    "textvqa": ("textvqa", "answer en what brand is it?", ("Nokia",) * 6 + ("nokia",) * 3),
    "chartqa": ("chartqa", "What is the Peak?", ("41.5%",)),
    "ocrvqa": ("ocrvqa", "answer en Who wrote this book?", ("Sandra",)),
    "vqav2": ("vqav2", "answer en What colour is it?", TEN),
    "okvqa": ("okvqa", "answer en What colour is it?", TEN),
    "aokvqa_da": ("aokvqa_da", "answer en What is the man doing?", ("hit",) * 8 + ("play",) * 2),
    "aokvqa_mc": (
        "aokvqa_mc", MC.format("What is the man doing?", "ride \t shop \t hit \t pass"), ("hit",)
    ),
    "ai2d": ("ai2d", MC.format("Which letter is the leaf?", "A \t B"), ("B",)),
    "scienceqa": ("scienceqa", SCIENCE.format("Look at the hand."), ("The answer is B.",)),
    "vizwiz": ("vizwiz", "answer en What is this?", ("unanswerable",) * 4 + ("Can",) * 5),
    "gqa": ("gqa", "answer en Are there horses?", ("no",)),
    "xgqa": ("xgqa", "answer en (bn) Gibt es Pferde?", ("no",)),
    "tallyqa": ("tallyqa", "answer en How many?", ("3",)),
    "countbenchqa": (
        "countbenchqa", "answer en How many pigs are there in the image?", ("4",)
    ),
    "rsvqa_lr": ("rsvqa_lr", "answer en Is it comp?", ("yes",)),
    "rsvqa_hr": ("rsvqa_hr", "answer en Is it comp?", ("yes",)),
    "pope": ("pope", "answer en Is there a cup in the image?", ("yes",)),
    "vsr": ("vsr", "answer en The plant is left of the bench.", ("True",)),
    "nlvr2": ("nlvr2", "answer en Both dogs are black.", ("False",)),
    "marvl": ("marvl", "answer en Gambar kiri.", ("True",)),
    "activitynet_captions": ("activitynet_captions", CAT, ("A man runs.",)),
    "activitynet_qa": ("activitynet_qa", "answer en is he wet", ("yes",)),
    "msrvtt_captions": ("msrvtt_captions", CAT, ("a car 0", "a car 1")),
    "msrvtt_qa": ("msrvtt_qa", "answer en what is a man doing?", ("singing",)),
    "msvd_qa": ("msvd_qa", "answer en who eats?", ("squirrel",)),
    "vatex": ("vatex", CAT, tuple(f"A baby laughs {n}." for n in range(10))),
    "mmmu": ("mmmu", MC.format("Which <image 1> fits <image 2>?", "push \t pull"), ("pull",)),
    "mathvista": ("mathvista", MC.format("Which is longer?", "AB \t CD"), ("CD",)),
    "table_structure": (
        "pubtabnet", "table",
        (f'<table><tr><td coords="{CELLS[0]}"><b>n</b></td><td colspan="2"></td>'
         f'<td coords="{CELLS[1]}">&lt;5</td></tr></table>',),
    ),
    "molecules": ("molecules", "ocr", ("C1=CC=CC=C1O",)),
    "music_scores": ("grandstaff", "ocr", ("**kern\t**kern\n4c\t4e 4g\n*-\t*-",)),
    "coco_captions": ("coco_captions", CAT, tuple(f"A Red boat. {n}" for n in range(5))),
    "coco35l": ("coco35l", "caption de", ("de Boot 0", "de Boot 1")),
    "xm3600": ("xm3600", CAT, ("A boat.",)),
    "nocaps": ("nocaps", CAT, tuple(f"A baby {n}." for n in range(10))),
    "textcaps": ("textcaps", CAT, ("a nokia phone", "a phone.")),
    "scicap": ("scicap", CAT, ("the curve .",)),
    "screen2words": ("screen2words", CAT, tuple(f"screen of an app, {n}" for n in range(5))),
    "widgetcap": ("widgetcap", CAT, ("go back", "return to the last page")),
    "docci": ("docci", CAT, ("An indoor angled view of a boat.",)),
    "refcoco": ("refcoco", "the left boat 0", (OBJECT,)),
    "refcocoplus": ("refcoco", "the left boat 0", (OBJECT,)),
    "refcocog": ("refcoco", "the left boat 0", (OBJECT,)),
    "coco_detection": ("coco_detection", "detect all classes", (f"{OBJECT} text",)),
    "doclaynet": ("doclaynet", "detect all classes", (f"{OBJECT} text",)),
    "text_spotting": (
        "icdar15", "ocr", ("<loc0085><loc0144><loc0277><loc0496> Genaxis, Theatre",)
    ),
    "ade20k": ("ade20k", "segment building", ("<loc0128><loc0128><loc0661><loc0655>", " building")),
    "forkme": ("forkme", CAT, ("A red boat.",)),
    "mix_docvqa": ("docvqa", "answer en What is the date? 0", ("Jan. 7", "January 7")),
    "mix_refcoco": ("refcoco", "segment the left boat 0", (OBJECT, " the left boat 0")),
    "mix_coco_detection": ("coco_detection", "detect text", (f"{OBJECT} text",)),
    "mix_docci": ("docci", "describe en", ("An indoor angled view of a boat.",)),
}  # fmt: skip
WITH_MASKS = ("refcoco", "refcocoplus", "refcocog", "mix_refcoco", "ade20k")
WITH_NOISE = ("coco_detection", "doclaynet")
NOISY = ["task.classes=[table,text]", "task.pad_objects_to=3", "task.max_new_tokens=60"]
WITHOUT_SCORE = ("ade20k", "docci", "forkme", "mathvista", "mix_", "mmmu")
SHORT = [
    "training.max_steps=2", "training.global_batch_size=2", "training.micro_batch_size=2",
    "training.num_workers=0", "training.self_check=false", "training.max_length=1000",
    "adapter.rank=2", "evaluate_before=false",
]  # fmt: skip
FEW = ["evaluation.max_samples=2", "evaluation.num_workers=0", "evaluation.bootstrap_samples=0"]


class Runs:
    """Shortened configurations of a user whose downloads are elsewhere, each composed once."""

    def __init__(self, downloads: Path, model: Path) -> None:
        self.downloads, self.model = downloads, model
        self.composed: dict[str, ModelRecipeConfig] = {}

    def __getitem__(self, experiment: str) -> ModelRecipeConfig:
        if experiment not in self.composed:
            written = NOISY if experiment in WITH_NOISE else ["task.max_new_tokens=4"]
            told = [*self._places(experiment), *written, *FEW]
            run = compose(RECIPE_CONFIGS[recipe_of(experiment)], [*told, *SHORT])
            assert isinstance(run, ModelRecipeConfig)
            self.composed[experiment] = run
        return self.composed[experiment]

    def _places(self, experiment: str) -> list[str]:
        miniature = GOLDEN[experiment][0]
        path = write_benchmark(miniature, self.downloads / miniature)
        told = [f"experiment={experiment}", f"data.path={path}", f"model.path={self.model}"]
        told += ["data.frames.count=2"] * ("frames: " in text_of(experiment))
        images = {"refcoco": "train2014", "doclaynet": "PNG"}.get(miniature, "null")
        return [*told, f"data.images={images}"] if "images: " in text_of(experiment) else told


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """Runs with a random model of four image tokens."""
    model = build_tiny(tmp_path_factory.mktemp("model"), "paligemma2", image_size=28)
    gc.collect()
    gc.freeze()  # each training collects garbage: what is imported by now is none
    yield Runs(tmp_path_factory.mktemp("downloads"), model)
    gc.unfreeze()


def file_of(experiment: str) -> Path:
    return options("experiment")[resolve_option("experiment", experiment)]


def text_of(experiment: str) -> str:
    return file_of(experiment).read_text(encoding="utf-8")


def recipe_of(experiment: str) -> str:
    """Experiments without settings for training evaluate what another one has trained."""
    return "finetune" if "override /training" in text_of(experiment) else "evaluate"


def test_every_experiment_on_a_benchmark_has_its_golden_strings() -> None:
    without_file = {  # embedded data, or folders that a user names
        "rf100vl",
        "handwriting_rewards",
        "quickstart",
        "receipts_demo",
        "tiles_demo",
        "handwriting_segmentation",
        "domain_adaptation",
    }
    assert {*GOLDEN, *without_file} == {file.stem for file in options("experiment").values()}


@pytest.mark.parametrize("experiment", GOLDEN)
def test_prompts_and_suffixes_are_those_of_the_transfer(experiment: str, runs: Runs) -> None:
    run = runs[experiment]
    [part] = load_split(run.data, run.task, run.evaluation.split)
    example = part.examples[0]
    _, prefix, suffixes = GOLDEN[experiment]
    assert example.prefix == prefix
    if experiment in WITH_MASKS:
        start, end = suffixes[0], suffixes[1] if len(suffixes) > 1 else ""
        [suffix] = example.suffixes
        assert suffix.startswith(f"{start}<seg")
        assert suffix.endswith(f">{end}")
        assert suffix.count("<seg") == 16
    elif experiment in WITH_NOISE:
        [suffix] = example.suffixes
        assert re.fullmatch(rf"{suffixes[0]}( ; (<loc[0-9]{{4}}>){{4}} <noise>){{2}}", suffix)
    else:
        assert example.suffixes == suffixes


@pytest.mark.parametrize("experiment", GOLDEN)
def test_an_experiment_says_first_its_task_metric_split_and_published_score(
    experiment: str, runs: Runs
) -> None:
    run = runs[experiment]
    assert run.task is not None
    line = summary_line(file_of(experiment))
    assert f" {run.task.name};" in line
    assert f"; {run.task.metrics[0]};" in line.replace("mean_iou", "referring_segmentation")
    assert run.evaluation.split.rpartition("/")[2] in line or "no published score" in line
    has_score = any(character.isdigit() for character in line.partition(";")[2])
    assert has_score or experiment.startswith(WITHOUT_SCORE)
    assert "\n# Needs:\n# - " in text_of(experiment)


@pytest.mark.parametrize("experiment", GOLDEN)
def test_an_experiment_walks_two_steps(experiment: str, runs: Runs, tmp_path: Path) -> None:
    recipe = recipe_of(experiment)
    program._load_recipe(recipe)(replace(runs[experiment], output_dir=str(tmp_path / "run")))
    assert (tmp_path / "run/adapter").is_dir() == (recipe == "finetune")
    assert json.loads((tmp_path / "run/metrics.json").read_text())["after"]
    [record, *_] = (tmp_path / "run/predictions.jsonl").read_text().splitlines()
    assert json.loads(record)["prefix"] == GOLDEN[experiment][1]
