import inspect
import json
from dataclasses import fields
from pathlib import Path

import pytest

from lwc.compiler.core.errors import UsageError
from lwc.compiler.options import (
    FIELD_OF_FLAG,
    CompileOptions,
    is_module_attribute,
    make_options,
    parse_shape,
    read_recipe,
    user_cache_folder,
)


def test_flags_fill_the_fields_that_carry_units() -> None:
    options = make_options({"max-latency": 3.5, "max_size": 2.0, "max-memory": 0.5, "tune": 0.0})
    assert (options.max_latency_ms, options.max_size_mb, options.max_memory_gb) == (3.5, 2.0, 0.5)


def test_a_flag_that_is_none_was_not_given() -> None:
    assert make_options({"max_drop": None, "out": None}) == CompileOptions()


def test_flags_win_over_the_recipe(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('max-drop = 0.5\nmetric = "top1"\nbest-effort = true\n[shape]\nx = [1, 3, 8, 8]\n')
    options = make_options({"max-drop": 0.1}, recipe)
    assert (options.max_drop, options.metric, options.best_effort) == (0.1, "top1", True)
    assert options.shape == {"x": (1, 3, 8, 8)}


def test_paths_of_a_recipe_start_at_its_folder(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('calib = "samples.npz"\nout = "compiled"\n')
    options = make_options({}, recipe)
    assert (options.calib, options.out) == (str(tmp_path / "samples.npz"), tmp_path / "compiled")


def test_a_function_in_a_recipe_is_no_path(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('calib = "my.samples:calibration"\n')
    assert make_options({}, recipe).calib == "my.samples:calibration"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("max-drop = 'much'", "'max_drop' must be a number"),
        ("portable = 1", "must be true or false"),
        ("samples = 1.5", "must be a whole number"),
        ("seed = true", "must be a whole number"),
        ("shape = [1, 2]", "must be a table"),
        ("speed = 3", "There is no option 'speed'"),
        ("max-drop = = 1", "cannot be read"),
    ],
)
def test_refuses_a_recipe_that_makes_no_sense(tmp_path: Path, text: str, words: str) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(text)
    with pytest.raises(UsageError, match=words):
        read_recipe(recipe)


def test_refuses_a_recipe_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_recipe(tmp_path / "recipe.toml")


@pytest.mark.parametrize(
    "flags",
    [
        {"max_drop": -0.1},
        {"max_drop": float("nan")},
        {"max_latency": 0.0},
        {"max_size": float("inf")},
        {"samples": 0},
        {"workers": 0},
        {"seed": -1},
        {"max_memory": 0.0},
        {"backend": "cuda"},
        {"objective": "beauty"},
        {"precision": "int7"},
        {"sparsity": "channels:2"},
        {"metric": "accuracy"},
        {"shape": {"x": (0, 3)}},
        {"nonsense": 1},
    ],
    ids=str,
)
def test_refuses_a_value_out_of_range(flags: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        make_options(flags)


@pytest.mark.parametrize("sparsity", ["none", "auto", "channels:0.5", "2:4", "block:4x1"])
def test_takes_every_sparsity(sparsity: str) -> None:
    assert make_options({"sparsity": sparsity}).sparse.asked == (sparsity not in ("none", "auto"))


@pytest.mark.parametrize("precision", ["auto", "fp32", "int8", "int8-dynamic"])
def test_takes_every_precision_that_is_built(precision: str) -> None:
    assert make_options({"precision": precision}).precision == precision


@pytest.mark.parametrize(
    ("text", "shape"), [("x=1,3,224,224", ("x", (1, 3, 224, 224))), ("a=b=2", ("a=b", (2,))), ("x=", ("x", ()))]
)
def test_reads_a_shape(text: str, shape: tuple[str, tuple[int, ...]]) -> None:
    assert parse_shape(text) == shape


@pytest.mark.parametrize("text", ["x", "=1,2", "x=1,two", "x=-1,3"])
def test_refuses_a_shape_it_cannot_read(text: str) -> None:
    with pytest.raises(UsageError):
        parse_shape(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("package.module:function", True),
        ("module:function", True),
        ("C:samples", False),
        ("samples.npz", False),
        ("/data/a:b/samples.npz", False),
    ],
)
def test_tells_a_module_attribute_from_a_path(text: str, expected: bool) -> None:
    assert is_module_attribute(text) is expected


def test_resolved_options_are_json_and_complete(tmp_path: Path) -> None:
    def metric(outputs: object, sample: object) -> float:
        return 0.0

    options = make_options({"metric": metric, "calib": [{}], "out": str(tmp_path), "shape": {"x": [1, 2]}})
    resolved = json.loads(json.dumps(options.resolved()))
    assert set(resolved) == {field.name for field in fields(CompileOptions)}
    assert resolved["metric"].endswith("metric")
    assert (resolved["calib"], resolved["shape"]) == ("builtins:list", {"x": [1, 2]})


def test_the_artifact_lies_beside_the_model_unless_told() -> None:
    assert CompileOptions().destination(Path("a/model.onnx")) == Path("a/model.lwc")
    assert CompileOptions(out=Path("b")).destination(Path("a/model.onnx")) == Path("b")
    with pytest.raises(UsageError, match="memory"):
        CompileOptions().destination(None)


def test_no_cache_wins_over_a_cache_folder(tmp_path: Path) -> None:
    assert CompileOptions(cache=tmp_path, no_cache=True).cache_folder is None
    assert CompileOptions(cache=tmp_path).cache_folder == tmp_path
    assert CompileOptions().cache_folder == user_cache_folder()


def test_the_cache_follows_the_desktop_convention(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert user_cache_folder() == tmp_path / "lwc"


def test_python_and_command_line_offer_every_option_by_the_same_name() -> None:
    from lwc.compiler.api import compile
    from lwc.compiler.cli.compile import compile_

    flag_of = {field_name: flag.replace("-", "_") for flag, field_name in FIELD_OF_FLAG.items()}
    expected = {flag_of.get(field.name, field.name) for field in fields(CompileOptions)}
    in_python = set(inspect.signature(compile).parameters) - {"model", "recipe", "progress"}
    on_command_line = {parameter.name for parameter in compile_.params} - {
        "model", "recipe", "as_json", "verbose", "quiet",
    }  # fmt: skip
    assert in_python == expected
    assert on_command_line == expected


def test_tuning_needs_the_cache(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cache"):
        make_options({"tune": 1.0, "no_cache": True})
    assert make_options({"tune": 1.0, "cache": tmp_path}).tune_minutes == 1.0


def test_a_tuner_needs_time() -> None:
    with pytest.raises(UsageError, match="no time"):
        make_options({"tuner": "rpc://board:9190/arm"})
