"""Feed random and damaged input to the readers; each must return a value or raise one sentence.

    python scripts/fuzz.py --seconds 600 --seed 0

A child process runs the cases, so that a memory fault is found too. A failed case is printed with
the command that repeats it. The exit code is the number of failures, at most 100.
"""

import argparse
import faulthandler
import io
import json
import os
import random
import signal
import string
import subprocess
import sys
import tarfile
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

CASE_SECONDS = 20
"""CPU time after which a case counts as a hang."""
MAX_MESSAGE_CHARACTERS = 2000
WORDS = [
    "<loc0000>", "<loc1023>", "<seg000>", "<seg127>", "<table>", "<tr>", "<td>", "<![", "<!--",
    "]]>", "<image>", "<eos>", "${oc.env:HOME}", "[/red]", "\\ud800", "\ud800", "\u2581", "\x00",
    "\u202e", "\n", "; ", "NaN", "1e999", "-1", "[", "{", "}", "]", '"', ":", ",", "&a", "*a",
    "null", "\ufeff",
]  # fmt: skip

Case = Callable[[random.Random, Path], None]


def random_text(rng: random.Random) -> str:
    """Return a short text of words that readers treat specially, and of random characters."""
    pieces = [
        rng.choice(WORDS) if rng.random() < 0.6 else rng.choice(string.printable)
        for _ in range(rng.randrange(30))
    ]
    return "".join(pieces) * rng.choice([1, 1, 1, 200])


def random_json(rng: random.Random, depth: int = 0) -> Any:
    """Return a random JSON value."""
    kind = rng.randrange(9 if depth < 4 else 6)
    simple = (
        None,
        rng.random() < 0.5,
        rng.choice([0, -1, 7, 2**31, 2**63, 10**400]),
        rng.choice([0.5, -0.5, float("nan"), float("inf"), 1e308]),
        random_text(rng),
        "a.png",
    )
    if kind < 6:
        return simple[kind]
    if kind == 6:
        keys = ("image", "bbox", "box", "label", "id", "text", "size", "counts", "segmentation")
        return {rng.choice(keys): random_json(rng, depth + 1) for _ in range(rng.randrange(5))}
    return [random_json(rng, depth + 1) for _ in range(rng.randrange(6))]


def mutate(content: bytes, rng: random.Random) -> bytes:
    """Return content with some bytes changed, removed or repeated."""
    changed = bytearray(content)
    for _ in range(rng.choice([1, 1, 3, 20])):
        start = rng.randrange(len(changed) + 1)
        end = min(len(changed), start + rng.choice([1, 1, 4, 64]))
        changed[start:end] = rng.choice(
            [
                rng.randbytes(end - start),
                b"",
                changed[start:end] * 2,
                random_text(rng).encode("utf-8", "replace"),
            ]
        )
    return bytes(changed)


def set_random_field(value: Any, rng: random.Random) -> Any:
    """Replace one value inside a JSON value by a random one."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(sorted(value))
        return value | {key: set_random_field(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.9:
        index = rng.randrange(len(value))
        return [*value[:index], set_random_field(value[index], rng), *value[index + 1 :]]
    return random_json(rng)


def fuzz_answers(rng: random.Random, folder: Path) -> None:
    """Parse generated texts and score tables."""
    from palitune.codec import boxes
    from palitune.codec.masks import parse_objects
    from palitune.metrics.text.teds import TableTooLargeError, teds

    text = random_text(rng)
    boxes.decode(text, (40, 30))
    parse_objects(text, (40, 30))
    with suppress(TableTooLargeError):
        teds("<table>" + text, "<table><tr><td>a</td></tr></table>")


def fuzz_masks(rng: random.Random, folder: Path) -> None:
    """Decode run lengths and polygons."""
    from palitune.data.sources.masks.formats import parse_segmentation

    counts: Any = [rng.randrange(-1, 700) for _ in range(rng.randrange(9))]
    if rng.random() < 0.5:
        counts = "".join(rng.choice("0123@BPQSTdefmno~") for _ in range(rng.randrange(40)))
    masks = [{"size": [30, 40], "counts": counts}, random_json(rng), [[1, 2, 3, 4, 5, 6]]]
    parse_segmentation(set_random_field(rng.choice(masks), rng), (40, 30), "a.json")


def fuzz_json_files(rng: random.Random, folder: Path) -> None:
    """Read JSONL and COCO files."""
    from palitune.data.sources.coco import Coco
    from palitune.data.sources.jsonl import Jsonl

    record = {"image": "a.png", "text": "b", "objects": [{"label": "c", "bbox": [1, 2, 3, 4]}]}
    line = json.dumps(set_random_field(record, rng)).encode()
    (folder / "train.jsonl").write_bytes(mutate(line, rng) if rng.random() < 0.5 else line)
    read(Jsonl(path=str(folder), masks=True, splits={"train": "train.jsonl"}))
    coco = {
        "images": [{"id": 1, "file_name": "a.png", "width": 40, "height": 30}],
        "annotations": [
            {"id": 5, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "iscrowd": 0,
             "segmentation": {"size": [30, 40], "counts": [600, 600]}}
        ],
        "categories": [{"id": 1, "name": "boat"}],
    }  # fmt: skip
    text = json.dumps(set_random_field(coco, rng)).encode()
    (folder / "coco.json").write_bytes(mutate(text, rng) if rng.random() < 0.3 else text)
    read(Coco(path=str(folder), masks=True, splits={"train": "coco.json"}))


def fuzz_yolo(rng: random.Random, folder: Path) -> None:
    """Read YOLO's description and labels."""
    from palitune.data.sources.yolo import Yolo

    description = b"names: [boat, buoy]\ntrain: images\n"
    (folder / "data.yaml").write_bytes(mutate(description, rng))
    read(Yolo(path=str(folder)))


def fuzz_labelling(rng: random.Random, folder: Path) -> None:
    """Read Label Studio, LabelMe, CVAT and CSV files, and recognize their folder."""
    from palitune.data.recognition.resolve import recognize_folder
    from palitune.data.sources.columns.csv_file import Csv
    from palitune.data.sources.labelling.cvat import Cvat
    from palitune.data.sources.labelling.label_studio import LabelStudio
    from palitune.data.sources.labelling.labelme import LabelMe

    regions = [
        {"id": f"r{number}", "type": kind, "from_name": "x", "to_name": "image",
         "original_width": 40, "original_height": 30, "image_rotation": 0, "value": value}
        for number, (kind, value) in enumerate([
            ("rectanglelabels", {"x": 1, "y": 2, "width": 9, "height": 8, "rotation": 0,
                                 "rectanglelabels": ["boat"], "text": ["a"]}),
            ("polygonlabels", {"points": [[1, 1], [9, 1], [9, 9]], "polygonlabels": ["boat"]}),
            ("brushlabels", {"rle": [0, 0, 18, 192, 57, 27, 254], "brushlabels": ["boat"]}),
            ("choices", {"choices": ["a"]}),
        ])
    ]  # fmt: skip
    annotations = [{"id": 1, "was_cancelled": False, "result": regions}]
    studio = [{"id": 1, "data": {"image": "/data/upload/a.png"}, "annotations": annotations}]
    shapes = [
        {"label": "boat", "points": [[1, 2], [9, 8]], "group_id": 1, "shape_type": "rectangle"},
        {"label": "boat", "points": [[1, 2], [9, 8]], "shape_type": "mask", "mask": "aGk="},
        {"label": "boat", "points": [[1, 2], [9, 8], [1, 8]], "shape_type": "polygon"},
    ]
    labelme = {"version": "5", "flags": {"a": True}, "shapes": shapes, "imagePath": "a.png",
               "imageData": None, "imageHeight": 30, "imageWidth": 40}  # fmt: skip
    cvat = (
        '<?xml version="1.0"?><annotations><image id="0" name="a.png" width="40" height="30">'
        '<box label="boat" xtl="1" ytl="2" xbr="9" ybr="8" rotation="0"/><tag label="calm"/>'
        '<polygon label="boat" points="1,2;9,2;9,8"/>'
        '<ellipse label="b" cx="9" cy="9" rx="3" ry="2"/>'
        '<mask label="boat" rle="2, 4" left="1" top="2" width="3" height="2"/>'
        "</image></annotations>"
    )
    csv = "filename,width,height,class,xmin,ymin,xmax,ymax\na.png,40,30,boat,1,2,9,8\n"
    records = 'image,text\na.png,"a, b\nc"\n'
    json_text = json.dumps(set_random_field(rng.choice([studio, labelme]), rng))
    names = {"train.json": json_text, "annotations.xml": cvat, "train.csv": csv, "b.csv": records}
    name = rng.choice(sorted(names))
    content = names[name].encode()
    changes = rng.random() < (0.3 if name == "train.json" else 0.9)
    (folder / name).write_bytes(mutate(content, rng) if changes else content)
    sources: dict[str, list[Any]] = {
        "train.json": [LabelStudio(path=str(folder), masks=True)],
        "annotations.xml": [Cvat(path=str(folder), masks=True)],
        "train.csv": [Csv(path=str(folder))],
        "b.csv": [Csv(path=str(folder), splits={"train": "b.csv"})],
    }
    if name == "train.json" and rng.random() < 0.5:
        sources[name] = [LabelMe(path=str(folder), masks=True)]
    if rng.random() < 0.3:
        recognize_folder(str(folder))
    for source in sources[name]:
        read(source)


def fuzz_tables(rng: random.Random, folder: Path) -> None:
    """Read Parquet and Arrow tables."""
    import pyarrow as pa
    from pyarrow import parquet

    from palitune.data.sources.parquet import Parquet

    table = pa.Table.from_pylist([{"image": "a.png", "text": "b" * n} for n in range(9)])
    sink = io.BytesIO()
    name = rng.choice(["table.parquet", "table.arrow"])
    if name == "table.parquet":
        parquet.write_table(table, sink)
    else:
        new = rng.choice([pa.ipc.new_stream, pa.ipc.new_file])
        with new(sink, table.schema) as writer:
            writer.write_table(table)
    (folder / name).write_bytes(mutate(sink.getvalue(), rng))
    read(Parquet(path=str(folder), splits={"train": name}))


def fuzz_archives(rng: random.Random, folder: Path) -> None:
    """Read WebDataset archives."""
    from palitune.data.sources.webdataset import WebDataset

    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode=rng.choice(["w", "w:gz", "w:xz"])) as archive:
        for name in ("0.png", "0.json", "0.txt"):
            content = random_text(rng).encode("utf-8", "replace")
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    (folder / "train.tar").write_bytes(mutate(sink.getvalue(), rng))
    read(WebDataset(path=str(folder), splits={"train": "train.tar"}))


def fuzz_images(rng: random.Random, folder: Path) -> None:
    """Decode images."""
    from PIL import Image

    from palitune.data.images.io import decode_image

    sink = io.BytesIO()
    form = rng.choice(["PNG", "JPEG", "TIFF", "GIF", "BMP", "WEBP"])
    Image.new("RGB", (40, 30), (rng.randrange(256), 0, 0)).save(sink, form)
    (folder / "damaged.img").write_bytes(mutate(sink.getvalue(), rng))
    decode_image(str(folder / "damaged.img"))


def fuzz_adapters(rng: random.Random, folder: Path) -> None:
    """Read the configuration and metadata of an adapter."""
    import torch

    from palitune.models.adapters.stored_lora import CONFIG_FILE, read_lora_config

    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["a.q_proj"]}
    text = json.dumps(set_random_field(config, rng) if rng.random() < 0.9 else config).encode()
    (folder / CONFIG_FILE).write_bytes(mutate(text, rng) if rng.random() < 0.3 else text)
    read_lora_config(folder, {"base_model.model.a.q_proj.lora_A.weight": torch.zeros(4, 8)})


def fuzz_configurations(rng: random.Random, folder: Path) -> None:
    """Compose a run from the configuration of a run folder."""
    from palitune.config.compose import compose
    from palitune.config.recipes import Evaluate

    (folder / "config.yaml").write_bytes(mutate(_configuration().encode(), rng))
    compose(Evaluate, [], run_folder=str(folder))


def fuzz_predictions(rng: random.Random, folder: Path) -> None:
    """Read stored predictions."""
    from palitune.codec.parsing import parse_json
    from palitune.records import prediction_from_json

    mask = {"size": [30, 40], "counts": [600, 600]}
    value = [{"label": "boat", "box": [1, 2, 3, 4], "score": 0.5, "mask": mask}]
    record = {"id": "7", "text": "a", "prediction": value, "likelihood": [-1.0, 3]}
    changed = parse_json(json.dumps(set_random_field(record, rng)))
    if isinstance(changed, dict) and {"id", "text", "prediction"} <= changed.keys():
        prediction_from_json(changed, (40, 30))


def fuzz_other_models(rng: random.Random, folder: Path) -> None:
    """Read results of another detector, as a list or as lines."""
    from palitune.evaluation.config import EvaluationConfig
    from palitune.evaluation.prediction_files import load_predictions, predicted_datasets

    if not _DATASETS:
        from palitune.data.dataset import load_split
        from palitune.data.sources.embedded import Handwriting
        from palitune.tasks.detection import Detection

        _DATASETS.extend(load_split(Handwriting(max_samples=5), Detection(), "test"))
    mask = {"size": [112, 112], "counts": [12000, 544]}
    entry = {"image": "test-0001.png", "category": "1", "bbox": [1, 2, 3, 4], "score": 0.5}
    entries = [entry, {**entry, "image_id": "test-0001"}]
    if rng.random() < 0.7:
        entries[1] = set_random_field(entries[1], rng)
    entries.append({**entry, "segmentation": mask})
    if rng.random() < 0.7:
        entries[2] = set_random_field(entries[2], rng)
    text = json.dumps(entries, indent=rng.choice([None, 1]))
    if rng.random() < 0.3:
        text = "\n".join(map(json.dumps, entries))
    content = text.encode("utf-8", "replace")
    (folder / "yolo.json").write_bytes(mutate(content, rng) if rng.random() < 0.5 else content)
    datasets = predicted_datasets(folder / "yolo.json", _DATASETS)
    load_predictions(folder / "yolo.json", datasets, EvaluationConfig(max_samples=4))


_DATASETS: list[Any] = []


def fuzz_http(rng: random.Random, folder: Path) -> None:
    """Send ten requests to the server at the same time; a few are valid and must be answered."""
    application = _application()
    maker = application.requests.RequestMaker(rng, mutate, set_random_field, random_text)
    requests = [
        maker.valid() if rng.random() < 0.2 else maker.damaged()
        for _ in range(application.requests.REQUESTS_PER_CASE)
    ]
    try:
        answers = application.served.answer(requests)
        for request, answer in zip(requests, answers, strict=True):
            application.requests.check(request, answer)
    except ValueError as error:  # a sentence elsewhere, here a fault of the server
        raise AssertionError(f"{type(error).__name__}: {error}") from error


CASES: dict[str, Case] = {
    name.removeprefix("fuzz_"): function
    for name, function in list(globals().items())
    if name.startswith("fuzz_")
}


def _configuration() -> str:
    from palitune.config.compose import compose
    from palitune.config.recipes import Finetune
    from palitune.config.to_yaml import to_yaml

    if not _CONFIGURATION:
        overrides = ["data=coco", "data.path=boats", "task=detection", "output_dir=out"]
        _CONFIGURATION.append(to_yaml(compose(Finetune, overrides)))
    return _CONFIGURATION[0]


_CONFIGURATION: list[str] = []


@cache
def _application() -> SimpleNamespace:
    """Return the module of HTTP requests and the application that they are sent to."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sys.path.insert(0, str(Path(__file__).parent))
        import fuzz_requests

    return SimpleNamespace(requests=fuzz_requests, served=fuzz_requests.Application())


def read(source: Any) -> None:
    """Read all rows of a source. Raises DataError for a bad file, and TypeError for a bad row."""
    from palitune.errors import DataError
    from palitune.records import Row

    for row in source.rows("train"):
        if not isinstance(row, Row | DataError):
            raise TypeError(f"got {row!r}")


def run_case(name: str, seed: str) -> str:
    """Run one case; return `value` or `sentence`. Raises anything else as a failure."""
    from PIL import Image

    signal.signal(signal.SIGVTALRM, _report_hang)
    with tempfile.TemporaryDirectory() as folder:
        Image.new("RGB", (40, 30)).save(Path(folder) / "a.png")
        signal.setitimer(signal.ITIMER_VIRTUAL, CASE_SECONDS)
        try:
            CASES[name](random.Random(f"{name} {seed}"), Path(folder))
        except ValueError as error:
            if type(error) is UnicodeEncodeError or "\n" in str(error):
                raise
            if len(str(error)) > MAX_MESSAGE_CHARACTERS:
                raise AssertionError(f"a message of {len(str(error))} characters") from error
            return "sentence"
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    return "value"


def _report_hang(signum: int, frame: Any) -> None:
    raise TimeoutError(f"more than {CASE_SECONDS} s of CPU time")


def run_child(names: list[str], seed: int, first: int, deadline: float) -> None:
    """Run cases until the deadline and print the name and result of each."""
    faulthandler.enable()
    index = first
    while time.time() < deadline:
        name = names[index % len(names)]
        print(f"start {index} {name}", flush=True)
        print(f"end {run_case(name, f'{seed}:{index}')}", flush=True)
        index += 1


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60, help="wall time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=sorted(CASES), help="run only these cases")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--child-deadline", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    names = [arguments.only] if arguments.only else sorted(CASES)
    if arguments.child_deadline:
        run_child(names, arguments.seed, arguments.first, arguments.child_deadline)
        return 0
    deadline, first, failures = time.time() + arguments.seconds, arguments.first, 0
    counts: Counter[str] = Counter()
    while time.time() < deadline:
        only = ["--only", arguments.only] if arguments.only else []
        command = [
            sys.executable, __file__, "--seed", str(arguments.seed), "--first", str(first), *only,
            "--child-deadline", str(deadline),
        ]  # fmt: skip
        child = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
        lines = child.stdout.splitlines()
        starts = [line.split() for line in lines if line.startswith("start ")]
        ends = [line.split()[1] for line in lines if line.startswith("end ")]
        counts.update(f"{start[2]}: {end}" for start, end in zip(starts, ends, strict=False))
        if child.returncode == 0:
            break
        failures += 1
        number, name = (starts[-1][1], starts[-1][2]) if starts else (str(first), "start")
        print(f"FAILED {name}, exit code {child.returncode}:\n{child.stderr[-2000:]}")
        again = " ".join([*only, "--seed", str(arguments.seed), "--first", number])
        print(f"repeat: python {__file__} {again}\n")
        first = int(number) + 1
    for result, count in sorted(counts.items()):
        print(f"{count:8,} {result}")
    print(f"{sum(counts.values()):,} cases, {failures} failures")
    return min(failures, 100)


if __name__ == "__main__":
    sys.exit(main())
