"""What importing control costs."""

from __future__ import annotations

import subprocess
import sys


def test_importing_control_brings_in_nothing_heavy() -> None:
    heavy = "{'litestar', 'apsw', 'numpy', 'xllamacpp', 'litellm', 'httpx'}"
    code = f"import sys, sonia.control; print(sorted({heavy} & set(sys.modules)))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
