"""One adapter after another on a base model that is read once."""

from collections.abc import Sequence

from palitune.errors import ModelError
from palitune.models.adapters.checkpoint import AdapterMetadata, check_base_model, load_adapter
from palitune.models.adapters.config import AdapterConfig, Full
from palitune.models.adapters.peft_layers import unload_lora
from palitune.models.config import ModelConfig, Network
from palitune.models.loading import load_base, load_for_inference, with_saved_softcaps


class AdapterSwitcher:
    """Gives the networks that `load_trained` gives, one at a time.

    A LoRA is taken off again, so that its base is what it was. The base is read anew only where an
    adapter was trained on it quantized or soft-capped otherwise, or trained the weights themselves.
    """

    def __init__(self, model: ModelConfig, adapters: Sequence[AdapterConfig]) -> None:
        """Raise ModelError where an adapter is not there."""
        self._model = model
        self._adapters = [
            (one, AdapterMetadata.read(one.path) if one.path else None) for one in adapters
        ]
        self._network: Network | None = None
        self._base: tuple[ModelConfig, int | None] | None = None
        """What the network's base was read as: soft-caps and all, and bits per weight."""

    def load(self, adapter: AdapterConfig) -> Network:
        """Give the base with one of the adapters; the network given before is used up.

        Raises ModelError where this adapter, or a later one, is of another base than is read.
        """
        record = next(record for one, record in self._adapters if one == adapter)
        if record and record.adapter == Full.name:
            self._network = None
            return load_for_inference(self._model, adapter)
        self._ensure_base(adapter, record)
        if adapter.path:
            self._network = load_adapter(
                self._network, adapter.path, allow_base_mismatch=adapter.allow_base_mismatch
            )
        return self._network

    def _ensure_base(self, adapter: AdapterConfig, metadata: AdapterMetadata | None) -> None:
        """Have the bare base in the form that an adapter needs."""
        needed = self._required_base(adapter, metadata)
        if self._network is not None and needed == self._base:
            self._network = unload_lora(self._network)
            return
        self._network = None  # never two of them in memory
        model, bits = self._base = needed
        self._network = load_base(model, adapter, bits)
        for other, known in self._adapters:
            if known and self._required_base(other, known) == needed:
                try:
                    check_base_model(self._network, known, other.allow_base_mismatch)
                except ModelError as fault:
                    raise ModelError(f"{other.path}: {fault}") from fault

    def _required_base(
        self, adapter: AdapterConfig, metadata: AdapterMetadata | None
    ) -> tuple[ModelConfig, int | None]:
        if metadata is None:
            return self._model, adapter.quantization_bits()
        return with_saved_softcaps(self._model, metadata), metadata.bits
