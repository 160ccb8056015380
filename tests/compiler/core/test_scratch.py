import os
import subprocess
import sys
from pathlib import Path

import pytest

from lwc.compiler.core import scratch

pytestmark = pytest.mark.skipif(os.name != "posix", reason="processes cannot be asked for")
DEAD = """
import os, tempfile
from pathlib import Path
from lwc.compiler.core import scratch
folder = scratch.temporary_folder("samples")
(Path(folder.name) / "half").write_bytes(b"half")
scratch.temporary_file("weights")
beside = scratch.temporary_folder("artifact", beside=Path(tempfile.gettempdir()))
os.kill(os.getpid(), 9)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(scratch.tempfile, "tempdir", str(tmp_path))
    scratch.remove_orphans.cache_clear()
    return tmp_path


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_what_a_killed_process_left_goes_when_the_next_one_makes_something(folder: Path) -> None:
    subprocess.run([sys.executable, "-c", DEAD], env={**os.environ, "TMPDIR": str(folder)}, check=False)
    assert len(names(folder)) == 3
    with scratch.temporary_folder("samples") as own:
        assert names(folder) == [Path(own).name]


def test_what_living_processes_made_stays(folder: Path) -> None:
    ours = scratch.temporary_folder("samples")
    parents = folder / Path(ours.name).name.replace(str(os.getpid()), str(os.getppid()))
    parents.mkdir()
    scratch.remove_orphans.cache_clear()
    scratch.remove_orphans(folder)
    assert set(names(folder)) == {Path(ours.name).name, parents.name}


@pytest.mark.parametrize("name", ["lwc-mine", "lwc-samples-00000000.999999999-x", "model.lwc", ".lwc-build-x"])
def test_what_is_not_of_a_dead_process_of_this_machine_stays(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"kept")
    scratch.remove_orphans(folder)
    assert names(folder) == [name]


def test_a_folder_that_cannot_be_listed_is_left(tmp_path: Path) -> None:
    scratch.remove_orphans(tmp_path / "absent")
