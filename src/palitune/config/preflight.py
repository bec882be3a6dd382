"""Checks of a composed run that need neither torch nor the contents of the data."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from palitune.config.recipes import (
    Align,
    Check,
    Evaluate,
    Export,
    Finetune,
    Inspect,
    ModelRecipeConfig,
    Predict,
    RecipeConfig,
)
from palitune.data.recognition.resolve import check_format, with_format_hint
from palitune.data.sources.base import DatasetSpec, Source
from palitune.data.sources.hub import Hub
from palitune.data.unlabeled import list_images
from palitune.distributed import collectives
from palitune.errors import DataError, ModelError
from palitune.metrics import METRICS, METRICS_WITH_EXTRAS
from palitune.models.adapters.config import SAVED_ADAPTER_FILES
from palitune.models.config import Local
from palitune.tasks import Task

_log = logging.getLogger(__name__)


def check_run(run: RecipeConfig) -> None:
    """Check paths, splits and optional packages of a run before torch is imported.

    Raises:
        ModelError: A folder of a model or adapter is missing.
        DataError: A path or split of the data, or an optional package, is missing.
    """
    if not isinstance(run, ModelRecipeConfig):
        return
    for key, path in _adapter_paths(run):
        _check_adapter(key, path)
    if isinstance(run.model, Local) and not _has_file(run.model.path, "config.json"):
        raise ModelError(
            f"model.path: there is no config.json in {run.model.path}. Set it to the folder of a "
            "PaliGemma checkpoint."
        )
    for task in _tasks(run):
        for metric in task.metrics:
            if metric in METRICS_WITH_EXTRAS:
                METRICS[metric]()
    if isinstance(run, Predict):
        list_images(run.images)
    for spec, split in _splits(run):
        if not isinstance(spec.source, Hub):
            _check_split(spec.source, split)


def _check_split(source: Source, split: str) -> None:
    """Raise DataError if a split has no file, or one of another format."""
    try:
        file = source.annotation_file(split)
    except DataError as error:
        raise with_format_hint(error, source) from error
    check_format(file, source)


def judge_on_validation(run: RecipeConfig) -> None:
    """Evaluate on the split `validation` if the data has it, but no `test`; log it."""
    if not isinstance(run, Finetune | Evaluate) or run.evaluation.split != "test":
        return
    splits = [
        set(spec.source.available_splits())
        for spec in _specs(run)
        if not isinstance(spec.source, Hub)
    ]
    if splits and not any("test" in s for s in splits) and all("validation" in s for s in splits):
        run.evaluation = replace(run.evaluation, split="validation")
        if collectives.is_main_process():
            _log.warning("the data has no split test: the metrics are those of validation")


def warn_of_whole_images(run: RecipeConfig) -> None:
    """Log a warning if a training on tiles is evaluated on whole images."""
    if not isinstance(run, Finetune) or run.evaluation.tiles is not None:
        return
    for spec in _specs(run):
        if (tiles := spec.source.tiles) is not None and collectives.is_main_process():
            _log.warning(
                "data.tiles cuts the training images, and evaluation.tiles is null: whole images "
                "are evaluated. Set evaluation.tiles={size: %d, overlap: %g} to evaluate tile by "
                "tile",
                tiles.size,
                tiles.overlap,
            )
            return


def _adapter_paths(run: ModelRecipeConfig) -> Iterator[tuple[str, str]]:
    if run.adapter.path is not None:
        yield "adapter.path", run.adapter.path
    if isinstance(run, Evaluate | Export):
        yield from (("adapters", path) for path in run.adapters if path is not None)


def _check_adapter(key: str, path: str) -> None:
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise ModelError(f"{key}: folder {path} does not exist. Set it to an adapter or its run.")
    if not any(
        _has_file(folder / inner, f) for inner in ("", "adapter") for f in SAVED_ADAPTER_FILES
    ):
        raise ModelError(
            f"{key}: {path} holds no adapter ({' or '.join(SAVED_ADAPTER_FILES)}). Set it to the "
            "folder of an adapter or of its run."
        )


def _has_file(folder: str | Path, name: str) -> bool:
    return (Path(folder).expanduser() / name).is_file()


def _specs(run: ModelRecipeConfig) -> list[DatasetSpec]:
    data = getattr(run, "data", None)
    return [] if data is None or isinstance(run, Predict) else data.dataset_specs(run.task)


def _tasks(run: ModelRecipeConfig) -> list[Task]:
    """Return the tasks whose metrics the run computes."""
    if isinstance(run, Finetune | Evaluate):
        return [spec.task for spec in _specs(run)]
    return []


def _splits(run: ModelRecipeConfig) -> Iterator[tuple[DatasetSpec, str]]:
    """Yield the splits that a run reads."""
    training, evaluation = run.training, run.evaluation
    names: list[str | None] = []
    if isinstance(run, Finetune | Align | Check):
        names.append(training.split)
    if isinstance(run, Finetune):
        names += [evaluation.split, training.validation_split]
    if isinstance(run, Evaluate):
        names.append(evaluation.split)
    if isinstance(run, Inspect):
        names += run.splits
        specs = [] if run.splits else _specs(run)
        yield from (
            (spec, "train")
            for spec in specs
            if not isinstance(spec.source, Hub) and not spec.source.available_splits()
        )
    for spec in _specs(run) if names else ():
        for split in filter(None, names):
            yield spec, split
