import importlib
import subprocess
import sys

import pytest

from lwc import backends
from lwc.compiler.core.errors import MissingDependency, UsageError


@pytest.mark.parametrize("name", ["onnxruntime", "ort"])
def test_backend_is_found_by_name_and_alias(name: str) -> None:
    assert backends.get(name).name == "onnxruntime"


def test_unknown_backend_is_a_usage_error_that_lists_the_known() -> None:
    with pytest.raises(UsageError, match="onnxruntime"):
        backends.get("abacus")


def test_available_lists_what_is_installed() -> None:
    assert "onnxruntime" in backends.available()


def test_absent_package_is_not_available(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "TABLE", {"x": backends.Entry("nowhere:X", "no_such_module", "x")})
    assert backends.available() == ()


@pytest.mark.parametrize(("name", "extra"), [("onnxruntime", "cpu"), ("openvino", "openvino")])
def test_missing_package_says_how_to_install_it(name: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", refuse)
    with pytest.raises(MissingDependency, match=rf"pip install 'lwc-compiler\[{extra}\]'") as raised:
        backends.get(name)
    assert raised.value.exit_code == 5


def test_the_table_imports_no_runtime() -> None:
    code = "import sys, lwc.backends as b; b.available(); sys.exit(any(name in sys.modules for name in sys.argv[1:]))"
    assert subprocess.run([sys.executable, "-c", code, "onnxruntime", "openvino"], check=False).returncode == 0
