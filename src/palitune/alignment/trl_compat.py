"""Compatibility with TRL: its version, and adapters that its trainers do not support."""

from importlib import metadata

from palitune.errors import TrainingError
from palitune.models.adapters.config import BASE_MODIFYING_INITIALIZATIONS, AdapterConfig, Lora

TESTED_TRL_VERSION = "1.16"
"""Tested releases of TRL. The trainers override three private methods, so that another release may
give wrong results without an error."""


def check_trl_version() -> None:
    """Raise TrainingError if another version of TRL is installed."""
    installed = metadata.version("trl")
    if not f"{installed}.".startswith(f"{TESTED_TRL_VERSION}."):
        raise TrainingError(
            f"TRL must be version {TESTED_TRL_VERSION}, got {installed}. Run pip install "
            f"'trl=={TESTED_TRL_VERSION}.*'"
        )


def check_adapter(adapter: AdapterConfig) -> None:
    """Raise TrainingError for an adapter that cannot be compared with the initial model."""
    if not isinstance(adapter, Lora):
        raise TrainingError(
            f"align does not support adapter={adapter.name}: the initial model is kept as a second "
            "adapter. Set adapter=lora or adapter=qlora."
        )
    if "head" in adapter.targets:
        raise TrainingError(
            "adapter.targets: TRL does not train the LM head. Remove head from adapter.targets."
        )
    if adapter.path is None and adapter.initialization in BASE_MODIFYING_INITIALIZATIONS:
        raise TrainingError(
            f"adapter.initialization={adapter.initialization.value} changes the base weights, so "
            "that a second adapter cannot keep the initial model. Set "
            "adapter.initialization=default."
        )
