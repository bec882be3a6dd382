"""Modules as ONNX files."""

from pathlib import Path

import pytest
import torch

from palitune.errors import ModelError
from palitune.export import onnx_session


def test_named_sizes_differ_from_call_to_call_and_weights_that_are_shared_are_stored_once(
    tmp_path: Path,
) -> None:
    class Twice(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shared = torch.nn.Linear(100, 100, bias=False)

        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            twice: torch.Tensor = self.shared(rows) @ self.shared.weight
            return twice

    module, file, axes = Twice(), tmp_path / "onnx" / "twice.onnx", {0: "rows"}
    session = onnx_session.export_module(
        module, file, {"x": (torch.rand(2, 100), axes)}, {"y": axes}
    )
    rows = torch.rand(5, 100)
    (found,) = onnx_session.run_session(session, [rows])
    torch.testing.assert_close(found, module(rows).detach())
    assert 40_000 < file.stat().st_size < 42_000

    onnx_session.check_outputs(file, found, module(rows).detach())
    with pytest.raises(ModelError, match=r"twice.onnx gives numbers up to \S+ standard deviations"):
        onnx_session.check_outputs(file, found + 0.1, found)
