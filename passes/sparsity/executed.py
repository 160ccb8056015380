"""Which patterns of zeros a runtime executes faster than a dense weight. Measured: docs/sparsity.md."""

from __future__ import annotations

from lwc.compiler.core.target import Target

_EXECUTED: dict[tuple[str, str], frozenset[str]] = {}  # (device, backend) -> patterns


def sparse_patterns(target: Target, backend: str) -> frozenset[str]:
    """Patterns, as `Masked` names them, that are faster there than dense weights; none where it multiplies by zeros.

    backend: a name in lwc.backends.TABLE.  ONNX Runtime, OpenVINO and TVM on a CPU: none. On a GPU nothing has been
    measured, so none is promised: TensorRT has kernels for 2:4, ONNX Runtime's CUDA provider has none.
    """
    return _EXECUTED.get((target.device, backend), frozenset())
