"""Current and peak bytes of the tensors that operations allocate."""

import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveTensors(TorchDispatchMode):
    """Counts allocations inside this context; tensors that existed before are not counted.

    Temporary buffers of kernels are not visible, except the exponentials of logsumexp.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sizes: dict[int, int] = {}
        self.current_bytes = self.peak_bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        inputs = {leaf.untyped_storage()._cdata for leaf in tensor_leaves((args, kwargs))}
        result = func(*args, **(kwargs or {}))
        for leaf in tensor_leaves(result):
            storage = leaf.untyped_storage()
            if storage._cdata not in self.sizes and storage._cdata not in inputs:
                self.sizes[storage._cdata] = storage.nbytes()
                self.current_bytes += storage.nbytes()
                self.peak_bytes = max(self.peak_bytes, self.current_bytes)
                weakref.finalize(storage, self._on_free, storage._cdata)
        if func is torch.ops.aten.logsumexp.default:
            self.peak_bytes = max(self.peak_bytes, self.current_bytes + args[0].nbytes)
        return result

    def _on_free(self, key: int) -> None:
        self.current_bytes -= self.sizes.pop(key)


def tensor_leaves(tree: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]
