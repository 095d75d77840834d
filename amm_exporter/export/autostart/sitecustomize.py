"""Put on PYTHONPATH by `amm run`: starts AMM in the Python program, then hands over to the program's own sitecustomize.

Runs before the program; whatever goes wrong here must not reach it.
"""

import os
import sys


def _is_worker() -> bool:
    """multiprocessing's spawn and forkserver start a new interpreter for what is one program; its resource tracker's is
    no part of it."""
    after = sys.orig_argv[1:]
    code = after[after.index("-c") + 1] if "-c" in after[:-1] else ""
    return code.startswith(("from multiprocessing.spawn import", "from multiprocessing.forkserver import"))


def _run_next() -> None:
    """The sitecustomize this one hides, if there is one."""
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or ".") != here]
    this = sys.modules.pop("sitecustomize", None)
    try:
        import sitecustomize  # type: ignore[import-not-found] # noqa: F401 - another one, further down the path
    except ImportError:
        if this is not None:
            sys.modules["sitecustomize"] = this


def _start() -> None:
    if os.environ.get("_AMM_RUN_PID") not in (None, str(os.getpid())) and not _is_worker():
        return  # a Python program that the program has started: counted in its tree, not instrumented
    try:
        from amm_exporter.export.autostart import begin

        begin()
    except Exception as error:  # noqa: BLE001 - the host program goes on without AMM
        sys.stderr.write(f"amm: off, since it could not start: {type(error).__name__}: {error}\n")


_start()
_run_next()
