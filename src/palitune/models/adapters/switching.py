"""Switching between adapters of one base model, which is loaded once."""

from collections.abc import Sequence

from palitune.errors import ModelError
from palitune.models.adapters.checkpoint import AdapterMetadata, check_base_model, load_adapter
from palitune.models.adapters.config import AdapterConfig, Full
from palitune.models.adapters.peft_layers import unload_lora
from palitune.models.config import ModelConfig, Network
from palitune.models.loading import load_base, load_for_inference, with_saved_softcaps


class AdapterSwitcher:
    """Loads the networks of `load_for_inference` one at a time, with one base model in memory.

    A LoRA is removed before the next one is loaded. The base is loaded again only if the adapters
    were trained with different quantization or soft-caps, or with adapter=full.
    """

    def __init__(self, model: ModelConfig, adapters: Sequence[AdapterConfig]) -> None:
        """Read the metadata of the adapters. Raises ModelError if one is missing."""
        self._model = model
        self._adapters = [
            (adapter, AdapterMetadata.read(adapter.path) if adapter.path else None)
            for adapter in adapters
        ]
        self._network: Network | None = None
        self._base: tuple[ModelConfig, int | None] | None = None
        """Settings and bits per weight that the base was loaded with."""

    def load(self, adapter: AdapterConfig) -> Network:
        """Return the base with one of the adapters; earlier networks must not be used any more.

        Raises ModelError if this adapter or a later one was trained on another base.
        """
        metadata = next(metadata for item, metadata in self._adapters if item == adapter)
        if metadata and metadata.adapter == Full.name:
            self._network = None
            return load_for_inference(self._model, adapter)
        self._ensure_base(adapter, metadata)
        if adapter.path:
            self._network = load_adapter(
                self._network, adapter.path, allow_base_mismatch=adapter.allow_base_mismatch
            )
        return self._network

    def _ensure_base(self, adapter: AdapterConfig, metadata: AdapterMetadata | None) -> None:
        """Make `_network` the base without an adapter, as this adapter needs it."""
        needed = self._required_base(adapter, metadata)
        if self._network is not None and needed == self._base:
            self._network = unload_lora(self._network)
            return
        self._network = None  # frees it before the next one is loaded
        model, bits = self._base = needed
        self._network = load_base(model, adapter, bits)
        for other, other_metadata in self._adapters:
            if other_metadata and self._required_base(other, other_metadata) == needed:
                try:
                    check_base_model(self._network, other_metadata, other.allow_base_mismatch)
                except ModelError as error:
                    raise ModelError(f"{other.path}: {error}") from error

    def _required_base(
        self, adapter: AdapterConfig, metadata: AdapterMetadata | None
    ) -> tuple[ModelConfig, int | None]:
        if metadata is None:
            return self._model, adapter.quantization_bits()
        return with_saved_softcaps(self._model, metadata), metadata.bits
