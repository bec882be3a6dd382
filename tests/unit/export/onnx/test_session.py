"""Export of modules to ONNX."""

from pathlib import Path

import pytest
import torch

from palitune.errors import ModelError
from palitune.export.onnx import session as onnx_session


def test_named_axes_are_dynamic_and_shared_weights_are_stored_once(
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
    onnx_session.export_module(module, file, {"x": (torch.rand(2, 100), axes)}, {"y": axes})
    session = onnx_session.open_session(file)
    rows = torch.rand(5, 100)
    [output] = onnx_session.run_session(session, [rows])
    torch.testing.assert_close(output, module(rows).detach())
    assert 40_000 < file.stat().st_size < 42_000

    onnx_session.check_outputs(file, output, module(rows).detach())
    with pytest.raises(
        ModelError, match=r"twice.onnx: outputs must differ .* by at most 0.001 .*, got \S+\. Try"
    ):
        onnx_session.check_outputs(file, output + 0.1, output)
