"""`amm serve --pid`: a process that already runs, from outside. Many at once (--match) are in test_fleet."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest
from programs import AMM, free_port, line, rss_bytes, running, scrape, value

STEADY = "import sys; kept = bytearray(50 << 20); print('ready', flush=True); sys.stdin.read()"


@pytest.fixture
def steady():
    """A process that holds 50 MiB until its stdin is closed."""
    with running([sys.executable, "-I", "-c", STEADY], stdin=subprocess.PIPE) as process:
        assert line(process.stdout) == "ready"
        yield process


def serve(pid: int, port: int):
    return running([AMM, "serve", "--port", str(port), "--limit", "1GB", "--pid", str(pid)])


def test_a_running_process_is_shown_as_proc_has_it(steady: subprocess.Popen[str]) -> None:
    port = free_port()
    with serve(steady.pid, port) as watching:
        page = scrape(port)
        assert line(watching.stderr) == f"watching process {steady.pid}: http://localhost:{port}/metrics"
        assert value(page, "process_memory_usage_bytes") == pytest.approx(rss_bytes(steady.pid), rel=0.01)
        assert value(page, "amm_memory_tier") == 0
        assert f'amm_memory_limit_bytes{{source="policy"}} {2**30}\n' in page
        assert "cpython_gc" not in page


def test_it_ends_with_the_process(steady: subprocess.Popen[str]) -> None:
    port = free_port()
    with serve(steady.pid, port) as watching:
        scrape(port)
        steady.communicate(timeout=20)
        _, err = watching.communicate(timeout=20)
    assert watching.returncode == 0
    assert err.splitlines()[-1] == f"process {steady.pid} has ended"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 0), (signal.SIGTERM, -signal.SIGTERM)])
def test_it_ends_at_ctrl_c_without_a_traceback(
    steady: subprocess.Popen[str], number: signal.Signals, status: int
) -> None:
    port = free_port()
    with serve(steady.pid, port) as watching:
        scrape(port)
        watching.send_signal(number)
        out, err = watching.communicate(timeout=20)
    assert (watching.returncode, out) == (status, "")
    assert "Traceback" not in err
    assert steady.poll() is None


def test_children_of_the_process_are_counted_in_its_tree() -> None:
    code = "import subprocess, sys; subprocess.run([sys.executable, '-I', '-c', sys.argv[1]])"
    port = free_port()
    with running([sys.executable, "-I", "-c", code, STEADY], stdin=subprocess.PIPE) as parent:
        assert line(parent.stdout) == "ready"
        with serve(parent.pid, port):
            page = scrape(port, "amm_memory_tree_processes 2")
            tree = value(page.replace('{scope="tree"}', "_tree"), "amm_memory_usage_bytes_tree")
            assert tree > rss_bytes(parent.pid) + (50 << 20)
        parent.communicate(timeout=20)
