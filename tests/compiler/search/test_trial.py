import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx.parser
import pytest

from lwc import backends
from lwc.compiler.core.errors import LwcError
from lwc.compiler.core.model import Model
from lwc.compiler.core.target import host
from lwc.compiler.search.trial import Crashed, Trials

SQUARE = """<ir_version: 8, opset_import: ["" : 17]> g (float[N] x) => (float[N] y) { y = Mul(x, x) }"""
FEEDS = {"x": np.full(3, 2.0, np.float32)}


@pytest.fixture
def trials():  # type: ignore[no-untyped-def]
    found = Trials(backends.get("onnxruntime"), host().with_threads(1))
    yield found
    found.close()


def square() -> Model:
    return Model.from_proto(onnx.parser.parse_model(SQUARE), "square")


def kill(trials: Trials) -> None:
    assert trials._child is not None
    trials._child.kill()
    trials._child.wait()


def test_what_runs_in_the_child_is_what_runs_here(trials: Trials) -> None:
    session = trials.open(square())
    here = backends.get("onnxruntime").session(square(), host())
    assert list(session.inputs) == list(here.inputs)
    assert list(session.outputs) == list(here.outputs)
    np.testing.assert_array_equal(session.run(FEEDS)["y"], here.run(FEEDS)["y"])


def test_a_model_that_ends_the_child_has_crashed_and_is_opened_again_when_it_is_asked_for(trials: Trials) -> None:
    first, second = trials.open(square()), trials.open(square())
    kill(trials)
    with pytest.raises(Crashed, match="crashed"):
        first.run(FEEDS)
    for session in (second, first):
        assert session.run(FEEDS)["y"][0] == 4.0
    assert first.time_ratio(second, FEEDS, 0.1) > 0.0


def test_what_the_runtime_says_is_the_reason_and_the_child_goes_on(trials: Trials) -> None:
    session = trials.open(square())
    with pytest.raises(LwcError, match="float64"):
        session.run({"x": np.ones(3)})
    assert session.run(FEEDS)["y"][0] == 4.0


def test_a_session_that_nobody_holds_is_closed_in_the_child(trials: Trials) -> None:
    kept, dropped = trials.open(square()), trials.open(square())
    number = dropped.number
    del dropped
    kept.run(FEEDS)
    assert number not in trials._open
    assert kept.number in trials._open


def test_the_child_ends_with_the_trials() -> None:
    trials = Trials(backends.get("onnxruntime"), host().with_threads(1))
    trials.open(square())
    child = trials._child
    assert child is not None
    del trials
    deadline = time.monotonic() + 20
    while child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert child.poll() is not None


def test_a_script_without_a_guard_is_not_run_again(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.split() == ["once", "4.0"]


SCRIPT = f"""
import numpy as np, onnx.parser
from lwc import backends
from lwc.compiler.core.model import Model
from lwc.compiler.core.target import host
from lwc.compiler.search.trial import Trials
print("once", flush=True)
trials = Trials(backends.get("onnxruntime"), host())
model = Model.from_proto(onnx.parser.parse_model('''{SQUARE}'''), "square")
print(trials.open(model).run({{"x": np.full(3, 2.0, np.float32)}})["y"][0])
"""
