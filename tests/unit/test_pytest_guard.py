"""The guard's names for pytest's own code, in the versions of pytest that have others."""

from __future__ import annotations

import subprocess
import sys


def test_a_pytest_that_imports_test_files_by_a_method_is_guarded_too() -> None:
    """Before 8.1 there is no function for it, and a budget ended with INTERNALERROR."""
    code = "import _pytest.python; vars(_pytest.python).pop('importtestmodule', None); import pytest_amm.guard"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
