"""One adapter after another on a base model that is read once."""

from collections.abc import Sequence

from palitune.models.adapter_files import Record, check_base, load_adapter
from palitune.models.adapters import Adapter, Full
from palitune.models.checkpoints import Model, ModelError, Network
from palitune.models.loading import as_recorded, load_base, load_trained
from palitune.models.lora_layers import take_off


class Swapping:
    """Gives the networks that `load_trained` gives, one at a time.

    A LoRA is taken off again, so that its base is what it was. The base is read anew only where an
    adapter was trained on it quantized or soft-capped otherwise, or trained the weights themselves.
    """

    def __init__(self, model: Model, adapters: Sequence[Adapter]) -> None:
        """Raise ModelError where an adapter is not there."""
        self._model = model
        self._adapters = [(one, Record.read(one.path) if one.path else None) for one in adapters]
        self._network: Network | None = None
        self._base: tuple[Model, int | None] | None = None
        """What the network's base was read as: soft-caps and all, and bits per weight."""

    def load(self, adapter: Adapter) -> Network:
        """Give the base with one of the adapters; the network given before is used up.

        Raises ModelError where this adapter, or a later one, is of another base than is read.
        """
        record = next(record for one, record in self._adapters if one == adapter)
        if record and record.adapter == Full.name:
            self._network = None
            return load_trained(self._model, adapter)
        self._have_base(adapter, record)
        if adapter.path:
            self._network = load_adapter(self._network, adapter.path, any_base=adapter.any_base)
        return self._network

    def _have_base(self, adapter: Adapter, record: Record | None) -> None:
        """Have the bare base in the form that an adapter needs."""
        needed = self._needs(adapter, record)
        if self._network is not None and needed == self._base:
            self._network = take_off(self._network)
            return
        self._network = None  # never two of them in memory
        model, bits = self._base = needed
        self._network = load_base(model, adapter, bits)
        for other, known in self._adapters:
            if known and self._needs(other, known) == needed:
                try:
                    check_base(self._network, known, other.any_base)
                except ModelError as fault:
                    raise ModelError(f"{other.path}: {fault}") from fault

    def _needs(self, adapter: Adapter, record: Record | None) -> tuple[Model, int | None]:
        if record is None:
            return self._model, adapter.base_bits()
        return as_recorded(self._model, record), record.bits
