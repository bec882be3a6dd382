"""Record the behavior of Palitune, and compare two recordings.

    python tests/support/behavior_snapshot.py OUT.json [--sections train,plan]
    python tests/support/behavior_snapshot.py --compare A.json B.json [--renamed-keys FILE.json]

A recording before a change and one after it are equal if the change alters no batch, metric,
trained weight, generation, plan or composed configuration. Everything runs on one CPU thread in
float32 from fixed seeds, without network access, in a few minutes.

The file of renamed keys holds `{"keys": {"training.warmup": "training.warmup_ratio"}, "values":
{"task": {"ocr": "reading"}}}`. Both apply to the first recording, in the sections `compose` and
`plan`. A key is replaced wherever its components occur in a dotted key, and dropped if its new name
is null; a value is replaced at every key that ends with the key given.
"""

import argparse
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from hashlib import sha256
from io import StringIO
from pathlib import Path
from typing import Any

from snapshot_cases import OBJECT_CASES, TEXT_CASES, ellipse, write_toy_data

from palitune.data.dataset import ConcatDataset, load_training_split
from palitune.models.loading import load_processor

ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "WANDB_MODE": "disabled",
}

# ------------------------------------------------------------------------------------------------
# Names of Palitune: modules, command line, files. A renaming changes this section and no other.
# ------------------------------------------------------------------------------------------------

CACHE_VARIABLE = "PALITUNE_CACHE"
TINY = ["model=tiny", "model.dtype=fp32", "model.device=cpu"]
RANDOM_MODEL = ["model=local", "model.path=random_model", "model.dtype=fp32", "model.device=cpu"]
BRIEF_TRAINING = [
    "training.max_steps=20", "training.global_batch_size=8", "training.micro_batch_size=4",
    "training.log_every=1", "training.num_workers=0", "evaluate_before=false", "seed=3",
]  # fmt: skip
BRIEF_EVALUATION = ["evaluation.num_workers=0", "evaluation.bootstrap_samples=20"]

PAGES = ["data=handwriting", "data.max_samples=40"]
QUICKSTART = "experiment=quickstart"
SEGMENTATION = ["experiment=handwriting_segmentation", "data.max_samples=40"]
OBJECTS = ["data=jsonl", "data.path=objects.jsonl", "data.masks=true"]
OBJECTS += ["data.classes=[red,green,blue]"]
SINGLE = ["data=jsonl", "data.path=single.jsonl", "data.masks=true"]
PAIRS = ["data=jsonl", "data.path=pairs.jsonl"]
LIGHT, PAGE = "augmentation=light", "augmentation=document"
CHOICES_PROMPT = "task.template='answer {language} {question} {choices}'"

COLLATED: dict[str, list[str]] = {
    "caption": ["task=caption", *OBJECTS, "training.target_sampling=cycle"],
    "caption, light": ["task=caption", *OBJECTS, LIGHT],
    "caption, marked": ["task=caption", "task.mark=true", *SINGLE],
    "caption, two images": ["task=caption", *PAIRS, "training.target_sampling=all"],
    "grounded_caption": ["task=grounded_caption", *SINGLE],
    "grounded_caption, light": ["task=grounded_caption", *SINGLE, LIGHT],
    "vqa, sample": ["task=vqa", *OBJECTS, "training.target_sampling=sample"],
    "vqa, cycle": ["task=vqa", *OBJECTS, "training.target_sampling=cycle"],
    "vqa, majority": ["task=vqa", *OBJECTS, "training.target_sampling=majority"],
    "vqa, all": ["task=vqa", *OBJECTS, "training.target_sampling=all"],
    "vqa, choices": ["task=vqa", CHOICES_PROMPT, *OBJECTS],
    "vqa, two images, light": ["task=vqa", *PAIRS, LIGHT],
    "science_qa": ["task=science_qa", *OBJECTS],
    "ocr": ["task=ocr", *OBJECTS],
    "ocr, page": ["task=ocr", *PAGES, PAGE],
    "text": ["task=text", *OBJECTS, "data.columns={prefix: question, suffix: text}"],
    "text_spotting": ["task=text_spotting", *OBJECTS],
    "table_structure": ["task=table_structure", "data=jsonl", "data.path=tables.jsonl"],
    "detection, all": ["task=detection", *OBJECTS, "task.order=random"],
    "detection, one": [
        "task=detection", *OBJECTS, "task.prompt_classes=one", "task.negative_ratio=0.5",
    ],
    "detection, some": [
        "task=detection", *OBJECTS, "task.prompt_classes=some", "task.min_box_side=14",
    ],
    "detection, noise": [
        "task=detection", *OBJECTS, "task.classes=[red,green,blue]", "task.pad_objects_to=5", LIGHT,
    ],
    "detection, light": ["task=detection", *OBJECTS, "task.prompt_classes=present", LIGHT],
    "referring_detection": ["task=referring_detection", *SINGLE],
    "referring_detection, light": [
        "task=referring_detection", "task.include_verb=true", "task.include_label=true", *SINGLE,
        LIGHT,
    ],
    "segmentation": ["task=segmentation", *PAGES],
    "segmentation, light": ["task=segmentation", *OBJECTS, LIGHT],
    "referring_segmentation": ["task=referring_segmentation", *SINGLE, LIGHT],
    "mixture, page": [QUICKSTART, "data.max_samples=4"],
    "mixture, weighted": ["experiment=domain_adaptation", "data.max_samples=6"],
}  # fmt: skip

ALL_SUFFIXES = ["task=vqa", *OBJECTS, *TINY, "training.target_sampling=all"]
TRAINED: dict[str, list[str]] = {
    "lora": ["task=ocr", *PAGES, *TINY, "adapter=lora"],
    "lora, head, masks": [*SEGMENTATION, "training.label_smoothing=0.1"],
    "lora, random gemma2": ["task=ocr", *PAGES, *RANDOM_MODEL, "adapter.targets=[language,vision]"],
    "qlora, 4 bits": ["task=ocr", *PAGES, *TINY, "adapter=qlora"],
    "qlora, 8 bits": ["task=ocr", *PAGES, *TINY, "adapter=qlora", "adapter.bits=8"],
    "full": ["task=ocr", *PAGES, *TINY, "adapter=full", "training.learning_rate=1e-4"],
    "mixture, page": [QUICKSTART, "data.max_samples=40"],
    "mixture, weighted, by token": [
        "experiment=domain_adaptation", "data.max_samples=40", "training.loss_reduction=token",
    ],
    "light": ["task=detection", *PAGES, *TINY, LIGHT, "task.max_new_tokens=40"],
    "suffixes, all": [*ALL_SUFFIXES, "training.prompts_per_image=2"],
    "dora, dropout, checkpointed": [
        "task=vqa", *PAGES, *TINY, "training.gradient_checkpointing=true",
        "adapter.dora=true", "adapter.dropout=0.1", "training.weight_decay=0.1",
    ],
}  # fmt: skip
TOY_SPLITS = ["data.splits={train: objects.jsonl, test: objects.jsonl}", "data.path=."]

PROMPTS = [
    QUICKSTART,
    *TINY,
    "data.max_samples=17",
    "evaluation.max_samples=17",
    "evaluation.batch_size=8",
]
MASKS = [*SEGMENTATION, *RANDOM_MODEL, "evaluation.max_samples=4"]
GENERATED: dict[str, list[str]] = {
    **{
        f"{name}, beams {beams}, grammar {grammar}": [
            "evaluate", *prompts, f"evaluation.num_beams={beams}",
            f"evaluation.constrained_decoding={grammar}",
        ]
        for name, prompts in (("mixture", PROMPTS), ("masks", MASKS))
        for beams in (1, 2)
        for grammar in ("false", "true")
    },
    "choices": [
        "evaluate", "task=vqa", *OBJECTS, *TOY_SPLITS, *TINY,
        "evaluation.multiple_choice=loglikelihood",
        "evaluation.perplexity=true", "evaluation.split=train",
    ],
    "prompted": ["predict", "images=images", "prompt=detect 1 ; 2 ; 3", *TINY],
    "prompted, two images": [
        "predict", "images=[images/0.png,images/1.png]", "multi_image=true",
        "prompt=answer en which is larger?", *TINY,
    ],
}  # fmt: skip

OWN_PLAN = "released=false"
PLANNED: dict[str, list[str]] = {
    "docvqa, 10b, qlora": ["experiment=docvqa", "model.size=10b", "adapter=qlora", "examples=1000"],
    "docvqa, 3b, 896": ["experiment=docvqa", "model.resolution=896", "prefix_tokens=40", OWN_PLAN],
    "detection, paligemma, lora": [
        "data=coco", "task=detection", "model=paligemma", "model.resolution=448", "gpu_memory=24",
        "suffix_tokens=200", "prefix_tokens=9", OWN_PLAN,
        "training.gradient_checkpointing=true",
    ],
    "refcoco, 28b, qlora": ["experiment=refcoco", "model.size=28b", "adapter=qlora", OWN_PLAN],
    "refcoco, full": ["experiment=refcoco", "adapter=full", OWN_PLAN, "mfu=0.3"],
    "quickstart": [QUICKSTART, OWN_PLAN],
}  # fmt: skip

OBJECT_METRICS = ("box_accuracy", "detection", "text_spotting", "segmentation", "semantic_iou")
ONE_OBJECT_METRICS = ("referring_segmentation",)
JAVA_METRICS = ("meteor", "spice")
PREDICTION_FIELDS = (
    "id", "part", "task", "prefix", "prompt", "suffixes", "text", "prediction", "value", "scores",
    "malformed", "finished", "confidence", "likelihood",
)  # fmt: skip
HISTORY_FIELDS = ("step", "loss", "learning_rate")


def command(*arguments: str) -> str:
    """Run a command line of Palitune in this process and return its standard output."""
    from palitune.__main__ import run

    shown, logged = StringIO(), StringIO()
    with redirect_stdout(shown), redirect_stderr(logged):
        code = run(list(arguments))
    if code != 0:
        raise RuntimeError(f"palitune {' '.join(arguments)}: exit code {code}\n{logged.getvalue()}")
    return shown.getvalue()


def package_folder() -> Path:
    import palitune

    return Path(palitune.__file__).parent


def collate_examples(overrides: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield batches of training samples of two epochs, and of prompts, each with a name."""
    from palitune.config.compose import compose
    from palitune.config.recipes import Finetune
    from palitune.data.collator import Collator
    from palitune.data.training_set import build_training_set

    run: Any = compose(Finetune, [*overrides, *TINY, "output_dir=none", "seed=5"])
    examples = ConcatDataset(load_training_split(run.data, run.task, "train", run.seed))
    samples = build_training_set(examples, run.training.target_sampling, run.seed, run.augmentation)
    collator = Collator(load_processor(run.model), resize_backend=run.training.resize)
    indices = range(0, len(examples), max(1, len(examples) // 8))[:8]
    for epoch in range(2):
        samples.set_epoch(epoch)
        for start in range(0, len(indices), 4):
            batch = [samples[index] for index in indices[start : start + 4]]
            yield f"epoch {epoch}, batch {start // 4}", collator.collate_train(batch)
    yield "prompts", collator.collate_prompts([examples[index] for index in indices[:4]])


def metric_values() -> Iterator[tuple[str, dict[str, Any] | None]]:
    """Yield the values of each metric on the fixed cases; None for one that is not installed."""
    import numpy as np

    from palitune.errors import MetricError
    from palitune.metrics import METRICS
    from palitune.records import Example, Instance, Prediction

    def objects(rows: Any) -> Any:
        return rows and tuple(
            Instance(label, box, mask=ellipse(box), score=score, crowd=crowd)
            for label, box, score, crowd in rows
        )

    for name in sorted(set(METRICS) - set(JAVA_METRICS)):
        try:
            metric = METRICS[name]()
        except MetricError:
            yield name, None
            continue
        cases: list[tuple[Any, Any]] = list(TEXT_CASES)
        if name in OBJECT_METRICS:
            cases = [
                (objects(predicted), objects(reference)) for predicted, reference in OBJECT_CASES
            ]
        elif name in ONE_OBJECT_METRICS:
            cases = [
                (objects(predicted), objects(reference[:1]))
                for predicted, reference in OBJECT_CASES[:-1]
            ]
        scores = []
        for number, (value, reference) in enumerate(cases):
            example = Example(
                id=str(number), images=("a.png",), size=(100, 100), prefix="detect boat ; buoy",
                suffixes=("",), reference=reference, location=f"a:{number}",
                attributes={"question_type": ("count", "presence")[number % 2]},
            )  # fmt: skip
            text = value if isinstance(value, str) else ""
            scores.append(
                metric.update(example, Prediction(id=str(number), text=text, value=value))
            )
        counts = np.array([[1.0] * len(cases), [float(n % 3) for n in range(len(cases))]])
        weighted = {key: value.tolist() for key, value in metric.compute_weighted(counts).items()}
        yield (
            name,
            {
                "scores": scores,
                "corpus_scores": metric.per_example_scores(),
                "corpus": metric.compute(),
                "weighted": weighted,
                "slices": metric.compute_slices(),
            },
        )


def train(name: str, overrides: list[str]) -> dict[str, Any]:
    """Train 20 steps by command line; return the weights, the losses and the metrics."""
    from safetensors.torch import load_file

    data = TOY_SPLITS if "data=jsonl" in overrides else []
    evaluation = ["evaluation.max_samples=4", *BRIEF_EVALUATION]
    options = [*overrides, *data, *BRIEF_TRAINING, *evaluation]
    command("finetune", *options, f"output_dir=train/{name}")
    folder = Path("train", name)
    history = read_lines(folder / "history.jsonl")
    return {
        "weights": {
            key: described(tensor, most_values=0)
            for file in sorted((folder / "adapter").glob("*.safetensors"))
            for key, tensor in sorted(load_file(file).items())
        },
        "history": [{key: row[key] for key in HISTORY_FIELDS if key in row} for row in history],
        "metrics": json.loads((folder / "metrics.json").read_text())["after"],
        "predictions": predictions(folder),
    }


def generate(name: str, arguments: list[str]) -> list[dict[str, Any]]:
    """Generate by command line and return the lines of the file of predictions."""
    command(*arguments, *BRIEF_EVALUATION, f"output_dir=generate/{name}")
    return predictions(Path("generate", name))


def predictions(folder: Path) -> list[dict[str, Any]]:
    rows = read_lines(folder / "predictions.jsonl")
    return [{key: row[key] for key in PREDICTION_FIELDS if key in row} for row in rows]


def plan(name: str, overrides: list[str]) -> dict[str, Any]:
    """Plan by command line and return the content of the plan."""
    command("plan", *overrides, f"output_dir=plan/{name}")
    content: dict[str, Any] = json.loads(Path("plan", name, "plan.json").read_text())
    return content


def composed() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the configuration that each experiment composes to, with its chosen options."""
    import yaml

    from palitune.paths import resource_dir

    for file in sorted((resource_dir("conf") / "experiment").rglob("*.yaml")):
        text = command("finetune", f"experiment={file.stem}", "output_dir=none", "--cfg", "job")
        values: dict[str, Any] = yaml.safe_load(text)
        chosen = {key: option for row in values.pop("defaults") for key, option in row.items()}
        options = {re.split("[/@]", key)[-1]: option for key, option in chosen.items()}
        yield file.stem, values | {"options": options}


def save_random_model(folder: Path) -> None:
    """Save a random PaliGemma 2 of under a million parameters with its processor."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from support.tiny_models import build_tiny

    build_tiny(folder, "paligemma2", seed=1)


# ------------------------------------------------------------------------------------------------
# Recording
# ------------------------------------------------------------------------------------------------


def described(tensor: Any, most_values: int = 1024) -> dict[str, Any]:
    """Describe a tensor by a hash of its bytes and its norm; a small one by its values too."""
    import torch

    flat = tensor.detach().contiguous().cpu().reshape(-1)
    content = {
        "type": f"{tensor.dtype} {list(tensor.shape)}",
        "sha256": sha256(flat.view(torch.uint8).numpy().tobytes()).hexdigest()[:16],
        "norm": flat.double().norm().item(),
    }
    return content | ({"values": flat.tolist()} if len(flat) <= most_values else {})


def read_lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def batches() -> Iterator[tuple[str, Any]]:
    for case, overrides in COLLATED.items():
        for name, batch in collate_examples(overrides):
            yield f"{case}/{name}", {key: described(value) for key, value in sorted(batch.items())}


def cases(run: Callable[[str, list[str]], Any], table: dict[str, list[str]]) -> Iterator[Any]:
    return ((name, run(name.replace(" ", "_").replace(",", ""), table[name])) for name in table)


SECTIONS: dict[str, Callable[[], Iterator[tuple[str, Any]]]] = {
    "collate": batches,
    "metric": metric_values,
    "train": lambda: cases(train, TRAINED),
    "generate": lambda: cases(generate, GENERATED),
    "plan": lambda: cases(plan, PLANNED),
    "compose": composed,
}


def record(sections: list[str]) -> dict[str, Any]:
    """Record the sections in a temporary folder; return the entries by `section/name`."""
    import torch

    torch.set_num_threads(1)
    print(f"recording {package_folder()}", flush=True)
    entries: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ[CACHE_VARIABLE] = str(Path(folder, "cache"))
        write_toy_data()
        save_random_model(Path("random_model"))
        for section in sections:
            start, before = time.monotonic(), len(entries)
            entries |= {f"{section}/{name}": entry for name, entry in SECTIONS[section]()}
            seconds = time.monotonic() - start
            print(f"{section}: {len(entries) - before} entries, {seconds:.0f} s", flush=True)
        os.chdir("/")
    return entries


# ------------------------------------------------------------------------------------------------
# Comparison
# ------------------------------------------------------------------------------------------------


def flattened(value: Any, key: str = "") -> dict[str, Any]:
    """Return the leaves of nested dictionaries and lists by dotted key."""
    if isinstance(value, dict | list) and value:
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        parts = (flattened(inner, f"{key}.{name}" if key else str(name)) for name, inner in pairs)
        return {name: leaf for part in parts for name, leaf in part.items()}
    return {key: value}


def renamed(leaves: dict[str, Any], renames: dict[str, Any]) -> dict[str, Any]:
    """Apply renamed keys and values to leaves by dotted key."""
    result = {}
    for key, value in leaves.items():
        new_key: str | None = key
        for old, new in renames.get("keys", {}).items():
            pattern = rf"(?:^|(?<=\.)){re.escape(old)}(?=\.|$)"
            if new_key and re.search(pattern, new_key):
                new_key = re.sub(pattern, new, new_key) if new else None
        for old, options in renames.get("values", {}).items():
            if f".{key}".endswith(f".{old}") and isinstance(value, str):
                value = options.get(value, value)
        if new_key:
            result[new_key] = value
    return result


def differs(a: Any, b: Any) -> bool:
    return not (a == b or (a != a and b != b))  # NaN equals NaN here


def distance(a: Any, b: Any) -> float:
    numbers = all(isinstance(value, int | float) for value in (a, b))
    return abs(a - b) if numbers and differs(a, b) else 0.0


def difference(a: dict[str, Any], b: dict[str, Any]) -> str:
    """Describe how the leaves of two entries differ; empty if they are equal."""
    keys = [key for key in {**a, **b} if differs(a.get(key, "missing"), b.get(key, "missing"))]
    if not keys:
        return ""
    largest = max(distance(a.get(key), b.get(key)) for key in keys)
    shown = (f"{key}: {a.get(key, 'missing')} != {b.get(key, 'missing')}" for key in keys[:4])
    summary = f"{len(keys)} values differ, largest absolute difference {largest:.3g}"
    return "\n    ".join([summary, *(text[:300] for text in shown)])


def compare(files: list[Path], renames: dict[str, Any]) -> int:
    """Print the entries that differ and return their number."""
    a, b = (json.loads(file.read_text()) for file in files)
    count = 0
    for name in {**a, **b}:
        if name not in a or name not in b:
            text = f"only in {files[name in b]}"
        else:
            rename = renames if name.startswith(("compose/", "plan/")) else {}
            text = difference(renamed(flattened(a[name]), rename), flattened(b[name]))
        if text:
            count += 1
            print(f"{name}: {text}")
    print(f"{count} of {len({**a, **b})} entries differ")
    return count


def main() -> None:
    """Record or compare, as the command line requests."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", nargs="?", type=Path)
    parser.add_argument("--sections", default=",".join(SECTIONS))
    parser.add_argument("--compare", nargs=2, type=Path, metavar=("A", "B"))
    parser.add_argument("--renamed-keys", type=Path)
    arguments = parser.parse_args()
    if arguments.compare:
        renames = json.loads(arguments.renamed_keys.read_text()) if arguments.renamed_keys else {}
        sys.exit(compare(arguments.compare, renames) > 0)
    if arguments.out is None:
        parser.error("OUT.json must be given, or --compare A.json B.json")
    os.environ.update(ENVIRONMENT)
    out = arguments.out.absolute()
    entries = record(arguments.sections.split(","))
    out.write_text(json.dumps(entries, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
