"""The library whose trainers are used, TRL: its version, and what its trainers cannot take."""

from importlib import metadata

from palitune.errors import TrainingError
from palitune.models.adapters.config import BASE_MODIFYING_INITIALIZATIONS, AdapterConfig, Lora

TESTED_TRL_VERSION = "1.16"
"""Releases of TRL that this was tested with. What is built on are three methods that TRL does not
promise to keep, so another release may be wrong without saying so."""


def check_trl_version() -> None:
    """Raise TrainingError where another version of TRL is installed."""
    installed = metadata.version("trl")
    if not f"{installed}.".startswith(f"{TESTED_TRL_VERSION}."):
        raise TrainingError(
            f"TRL {installed} is installed, and align was tested with TRL {TESTED_TRL_VERSION} only: install "
            f"it with pip install 'trl=={TESTED_TRL_VERSION}.*'"
        )


def check_adapter(adapter: AdapterConfig) -> None:
    """Raise TrainingError for what cannot be compared with the model as it was."""
    if not isinstance(adapter, Lora):
        raise TrainingError(
            f"adapter={adapter.name}: align compares with the model as it was, which a second "
            "adapter holds; use adapter=lora or qlora"
        )
    if "head" in adapter.targets:
        raise TrainingError(
            "adapter.targets: TRL does not train a head; leave head out of what align trains"
        )
    if adapter.path is None and adapter.initialization in BASE_MODIFYING_INITIALIZATIONS:
        raise TrainingError(
            f"adapter.initialization={adapter.initialization.value} moves weights out of the base, "
            "so that no second adapter can hold the model as it was; use default"
        )
