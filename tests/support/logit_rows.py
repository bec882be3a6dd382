"""The largest number of logit rows that an operation creates."""

from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

from support.live_tensors import tensor_leaves


class LogitRows(TorchDispatchMode):
    """Records the rows of the largest new tensor whose last dimension is the vocabulary."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        inputs = {leaf.untyped_storage()._cdata for leaf in tensor_leaves((args, kwargs))}
        result = func(*args, **(kwargs or {}))
        for leaf in tensor_leaves(result):
            is_new = leaf.untyped_storage()._cdata not in inputs
            if (
                is_new
                and leaf.ndim
                and leaf.shape[-1] == self.vocab_size
                and leaf.is_floating_point()
            ):
                self.largest = max(self.largest, leaf.numel() // self.vocab_size)
        return result


def chunks_of(rows: int, vocab_size: int, monkeypatch: Any) -> None:
    """Set the chunk of `palitune.models.lm_head` on a CPU to a number of rows."""
    from palitune.models import lm_head

    monkeypatch.setitem(lm_head.CHUNK_BYTES, "cpu", rows * 4 * vocab_size)
