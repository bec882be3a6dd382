"""Settings that belong to a trained adapter: `run.yaml` in its folder.

It holds the configuration of the training, with the classes of the data where `task.classes` was
empty. Recipes that load an adapter take task and model from it, so that prompts and targets are
those of the training.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from omegaconf import DictConfig, OmegaConf

from palitune.config.config_store import defaults_list, load_stored_config
from palitune.config.recipes import DataRecipeConfig, Finetune, ModelRecipeConfig, RecipeConfig
from palitune.config.to_yaml import to_yaml
from palitune.data.sources.mixture import Mixture
from palitune.distributed import collectives
from palitune.errors import ConfigError
from palitune.models.adapters.config import adapter_folder
from palitune.tasks import Task
from palitune.tasks.detection import Detection
from palitune.tasks.json_task import Json

if TYPE_CHECKING:
    from palitune.data.dataset import TaskDataset

RUN_FILE = "run.yaml"
_INHERITED_GROUPS = ("task", "model", "data", "evaluation")
_MACHINE_SETTINGS = {
    "model": ("device",),
    "evaluation": (
        "split",
        "max_samples",
        "batch_size",
        "num_workers",
        "image_cache",
        "submission",
    ),
}
"""Settings that depend on the machine or on the evaluated data, not on the adapter."""

ConfigT = TypeVar("ConfigT", bound=DataRecipeConfig)


def save_trained_adapter(
    folder: Path,
    network: Any,
    processor: Any,
    run: Finetune,
    components: "Sequence[TaskDataset]",
    validation: "Sequence[TaskDataset]",
) -> list[str]:
    """Save the adapter of a training in `adapter`, with its settings and score thresholds.

    Args:
        folder: Run folder.
        network: The trained network.
        processor: Processor of the model.
        run: Configuration of the training.
        components: Data sets that the adapter was trained on.
        validation: Validation data sets, on which the thresholds are determined.

    Returns:
        A sentence for each stored threshold.
    """
    from palitune.evaluation.object_quality.thresholds import store_validation_thresholds
    from palitune.models.adapters.checkpoint import save_adapter

    adapter = folder / "adapter"
    save_adapter(network, adapter, run.model)
    write_adapter_settings(adapter, run, components)
    return store_validation_thresholds(
        adapter,
        network,
        processor,
        validation,
        run.evaluation,
        max_samples=run.training.eval_max_samples,
    )


def write_adapter_settings(
    folder: Path, run: DataRecipeConfig, components: "Sequence[TaskDataset]"
) -> None:
    """Write `run.yaml` to the folder of a trained adapter, on the main process.

    Args:
        folder: Folder of the adapter.
        run: Configuration of the training.
        components: Data sets that the adapter was trained on.
    """
    if collectives.is_main_process():
        text = to_yaml(_with_data_classes(run, components))
        (folder / RUN_FILE).write_text(text, encoding="utf-8")


def _with_data_classes(run: ConfigT, components: "Sequence[TaskDataset]") -> ConfigT:
    """Return a run whose tasks name the classes of the data they were trained on."""
    classes = {part.name: part.examples.row(0).classes or () for part in components}
    if run.task is not None:
        return replace(run, task=_with_classes(run.task, next(iter(classes.values()), ())))
    if not isinstance(run.data, Mixture):
        return run
    parts = {
        name: replace(part, task=_with_classes(part.task, classes.get(name, ())))
        for name, part in run.data.parts.items()
    }
    return replace(run, data=replace(run.data, parts=parts))


def _with_classes(task: Task, classes: Sequence[str]) -> Task:
    if isinstance(task, Detection) and not task.classes and classes:
        return replace(task, classes=list(classes))
    return task


def load_adapter_settings(path: str) -> DictConfig | None:
    """Return the settings of a saved adapter as an experiment; None if its folder has none."""
    file = Path(adapter_folder(path)).expanduser() / RUN_FILE
    if not file.is_file():
        return None
    trained = load_stored_config(file)
    if trained.get("task") is not None or not _is_mixture(trained):
        trained.pop("data", None)
    for name in [str(name) for name in trained if name not in (*_INHERITED_GROUPS, "defaults")]:
        del trained[name]
    for group, names in _MACHINE_SETTINGS.items():
        for name in names:
            (trained.get(group) or {}).pop(name, None)
    trained.defaults = [
        entry for entry in defaults_list(trained) if _group(entry) in set(map(str, trained))
    ]
    return trained


def check_trained_fields(run: RecipeConfig) -> None:
    """Set the fields of documents to those that the adapter of a run was trained with.

    Raises ConfigError if the run declares other ones. A training may change them.
    """
    if not isinstance(run, ModelRecipeConfig) or isinstance(run, Finetune):
        return
    if not isinstance(run.task, Json) or run.adapter.path is None:
        return
    settings = load_adapter_settings(run.adapter.path)
    fields = None if settings is None else OmegaConf.select(settings, "task.fields")
    if not fields:
        return
    trained = OmegaConf.to_container(fields)
    assert isinstance(trained, dict)
    if run.task.fields and list(run.task.fields.items()) != list(trained.items()):
        raise ConfigError(
            f"task.fields must be those that {run.adapter.path} was trained with, {trained}, got "
            f"{run.task.fields}. Remove task.fields, or train an adapter with the new ones."
        )
    run.task.fields = {str(name): each for name, each in trained.items()}


def drop_group(settings: DictConfig, group: str) -> None:
    """Remove a group from the settings of an adapter."""
    settings.pop(group, None)
    settings.defaults = [e for e in defaults_list(settings) if _group(e) != group]


def _group(entry: object) -> str:
    """Return the top-level key that an entry of a defaults list is composed at."""
    if not isinstance(entry, dict):
        return ""
    group, _, package = str(next(iter(entry))).removeprefix("override ").partition("@")
    return (package or group.strip("/")).partition(".")[0]


def option_of(settings: DictConfig, group: str) -> str | None:
    """Return the option of a group that the adapter was trained with."""
    for entry in defaults_list(settings):
        if isinstance(entry, dict) and f"override /{group}" in entry:
            return str(entry[f"override /{group}"])
    return None


def _is_mixture(trained: DictConfig) -> bool:
    return OmegaConf.select(trained, "data.parts") is not None
