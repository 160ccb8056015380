"""Every error lwc raises on purpose: one plain sentence, a hint, and the exit code of the command line."""

from __future__ import annotations

from typing import ClassVar


class LwcError(Exception):
    """Base of all errors raised on purpose.

    message: one sentence that names the thing; hint: the next step, may be empty.
    """

    code: ClassVar[str] = "internal"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class InternalError(LwcError):
    """A bug in lwc: a pass broke its own promise."""


class UsageError(LwcError):
    """Options that contradict each other or cannot be read."""

    code = "usage"
    exit_code = 2


class BadInput(LwcError):
    """A file or an array that cannot be used as it is."""

    code = "bad_input"
    exit_code = 3


class NotAModel(BadInput):
    """The file is not an ONNX protobuf, or a truncated one."""

    code = "not_a_model"


class InvalidGraph(BadInput):
    """The graph is cyclic, dangling, or names an operator that does not exist."""

    code = "invalid_graph"


class BadExternalData(BadInput):
    """External data is missing, too short, or escapes the model's folder."""

    code = "external_data"


class UnsupportedOpset(BadInput):
    """An opset that is unknown or cannot be raised."""

    code = "opset"


class UnsupportedOperator(BadInput):
    """An operator that no runtime at hand can execute."""

    code = "operator"


class BadCalibration(BadInput):
    """Calibration arrays that do not fit the model's inputs."""

    code = "calibration"


class BadPlan(BadInput):
    """A plan that does not fit the model, the target, or its own schema."""

    code = "plan"


class ChangedArtifact(BadInput):
    """A file of an artifact differs from its manifest."""

    code = "changed_artifact"


class BudgetNotHeld(LwcError):
    """No result within the accuracy, latency or size budget was found."""

    code = "budget"
    exit_code = 4


class MissingDependency(LwcError):
    """A backend or a package is not installed."""

    code = "missing_dependency"
    exit_code = 5


class Interrupted(LwcError):
    """The user pressed Ctrl-C; nothing was written."""

    code = "interrupted"
    exit_code = 130
