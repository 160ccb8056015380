import os
import subprocess
import sys

import pytest

SCRIPT = """
import ctypes, os
from lwc.compiler.core.silence import STDOUT, silent
library = ctypes.CDLL("ucrtbase" if os.name == "nt" else None)
print("before", flush=True)
with silent(STDOUT):
    library.printf(b"noise\\n")
library.printf(b"behind\\n")
"""


def test_c_code_is_silent_inside_and_heard_behind() -> None:
    result = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["before", "behind"]


@pytest.mark.skipif(os.name == "nt", reason="closes a descriptor in the shell")
def test_a_process_without_stdout_goes_on() -> None:
    script = "import sys\nfrom lwc.compiler.core.silence import STDOUT, silent\nwith silent(STDOUT):\n    sys.exit(7)"
    done = subprocess.run(["sh", "-c", f"exec '{sys.executable}' -c '{script}' >&-"], check=False)
    assert done.returncode == 7
