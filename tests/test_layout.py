"""What the folders, the packaging and the imports promise each other."""

import ast
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent
PARTS = ("compiler", "passes", "backends", "models")
# Training scripts, exports, and tasks whose samples or labels are what the float model makes of real input.
OUTSIDE_THE_COMPILER = ("models/train_", "models/tasks/", "models/architectures/export.py", "compiler/recover/")
RUNTIMES = {"onnxruntime", "tvm", "openvino", "torch"}


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def sources() -> list[Path]:
    return sorted(path for part in ("lwc", *PARTS) for path in (ROOT / part).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")


def test_the_listed_packages_are_the_folders() -> None:
    folders = {path.parent.relative_to(ROOT) for path in sources()}
    names = {".".join(folder.parts if folder.parts[0] == "lwc" else ("lwc", *folder.parts)) for folder in folders}
    assert set(pyproject()["tool"]["setuptools"]["packages"]) == names


def test_every_folder_of_code_is_a_package() -> None:
    assert [path for path in {path.parent for path in sources()} if not (path / "__init__.py").exists()] == []


def test_files_that_are_no_code_are_packaged() -> None:
    patterns = pyproject()["tool"]["setuptools"]["package-data"]
    packaged = {
        path
        for package, globs in patterns.items()
        for glob in globs
        for path in (ROOT / Path(*package.removeprefix("lwc.").split("."))).glob(glob)
    }
    data = {
        path
        for part in ("lwc", *PARTS)
        for path in (ROOT / part).rglob("*")
        if path.is_file() and path.suffix != ".py" and "__pycache__" not in path.parts
    }
    assert data == packaged


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_through_lwc(path: Path) -> None:
    roots = {name.split(".")[0] for name in imports(path)}
    assert not roots & {*PARTS, ""}, "write lwc.compiler, not compiler or a relative import"


def test_runtimes_are_imported_by_their_backend_alone() -> None:
    guilty = [
        str(path.relative_to(ROOT))
        for path in sources()
        if path.relative_to(ROOT).parts[0] != "backends"
        and not path.relative_to(ROOT).as_posix().startswith(OUTSIDE_THE_COMPILER)
        and {name.split(".")[0] for name in imports(path)} & RUNTIMES
    ]
    assert guilty == []


def test_nothing_but_the_command_line_prints() -> None:
    guilty = [
        str(path.relative_to(ROOT))
        for path in sources()
        if path.relative_to(ROOT).parts[:2] != ("compiler", "cli") and not path.name.startswith("train_")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert guilty == []


def test_importing_lwc_imports_nothing_heavy() -> None:
    code = "import sys, lwc; print(sorted({'numpy', 'onnx', 'onnx_ir', 'scipy', 'onnxruntime'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_facade_offers_what_it_lists() -> None:
    import lwc

    assert {"compile", "load", "verify", "Artifact", "LwcError", "__version__"} <= set(lwc.__all__) <= set(dir(lwc))
    assert all(getattr(lwc, name) is not None for name in lwc.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = lwc.nonsense


@pytest.mark.skipif(importlib.util.find_spec("importlinter") is None, reason="import-linter is not installed")
def test_the_layers_hold(tmp_path: Path) -> None:
    (tmp_path / "lwc").mkdir()
    for file in (ROOT / "lwc").glob("*.py"):
        (tmp_path / "lwc" / file.name).symlink_to(file)
    for part in PARTS:
        (tmp_path / "lwc" / part).symlink_to(ROOT / part)
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(sys.argv[1], no_cache=True))"
    command = [sys.executable, "-c", code, str(ROOT / "pyproject.toml")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
