"""`amm run`: a program cannot tell, nor can whoever started it, but for the metrics."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import socket
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from programs import AMM, clean_environ, eventually, free_port, line, run, running, scrape

PYTHON = sys.executable
INSIDE = (AMM, "run", "--port", "0", "--")
"""In front of `python ...` it instruments it, in front of `python -I ...` and of other programs it watches."""

LOADED = "import sys, threading; print('amm_exporter.control.governor' in sys.modules, threading.active_count() > 1)"


# -- a Python program, from inside


def test_the_program_has_amm_in_it() -> None:
    assert run([*INSIDE, PYTHON, "-c", LOADED]).stdout == "True True\n"


def test_a_console_script_has_amm_in_it(tmp_path: Path) -> None:
    script = tmp_path / "tool"
    script.write_text(f"#!{PYTHON}\n# -*- coding: utf-8 -*-\n{LOADED}\n")
    script.chmod(0o755)
    assert run([*INSIDE, str(script)]).stdout == "True True\n"


@pytest.mark.parametrize("status", [0, 1, 7, 255])
def test_the_exit_status_is_the_programs(status: int) -> None:
    assert run([*INSIDE, PYTHON, "-c", f"raise SystemExit({status})"]).returncode == status


NOISY = """
import gc, logging, os, sys, warnings
warnings.warn("a warning")
logging.warning("a line of the log")
print(sys.argv, os.getcwd(), input())
gc.collect()
sys.stdout.buffer.write(bytes(range(256)))
os.write(2, bytes(range(256)))
print(os.read(0, 100))
raise ValueError("the end")
"""


@pytest.mark.parametrize("flags", [[], ["-X", "dev"], ["-u"], ["-W", "error::ResourceWarning"]], ids=" ".join)
def test_output_and_input_are_those_of_the_program_alone(tmp_path: Path, flags: list[str]) -> None:
    (tmp_path / "app.py").write_text(NOISY)
    command = [PYTHON, *flags, "app.py", "an argument", "--port"]
    alone, inside = (run([*prefix, *command], cwd=tmp_path, input=b"one\ntwo\n", text=False) for prefix in ((), INSIDE))
    assert alone.returncode == 1
    assert (inside.stdout, inside.stderr, inside.returncode) == (alone.stdout, alone.stderr, alone.returncode)


WAITING = "import sys, time; print('ready', flush=True); time.sleep(60)"

CARETS = re.compile(r"^ *[~^]+\n", re.MULTILINE)
"""Under which call of its one line an interrupt came, as Python 3.13 tells: the print may not have returned yet."""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_signals_do_to_it_what_they_do_without_amm(number: signal.Signals) -> None:
    ends = []
    for prefix in ((), INSIDE):
        with running([*prefix, PYTHON, "-c", WAITING]) as process:
            assert line(process.stdout) == "ready"
            process.send_signal(number)
            out, err = process.communicate(timeout=20)
            ends.append((process.returncode, out, CARETS.sub("", err)))
    assert ends[0] == ends[1]
    assert ends[0][0] == -number
    assert ("KeyboardInterrupt" in ends[0][2]) is (number is signal.SIGINT)


def test_a_sitecustomize_of_the_programs_own_still_runs(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import builtins; builtins.customized = __file__\n")
    ours = "[entry for entry in sys.path if 'autostart' in entry]"
    code = f"import sys, sitecustomize; print(customized, sitecustomize.__file__, {ours})"
    done = run([*INSIDE, PYTHON, "-c", code], environ=clean_environ(PYTHONPATH=str(tmp_path)))
    own = str(tmp_path / "sitecustomize.py")
    assert (done.stdout, done.stderr) == (f"{own} {own} []\n", "")


def test_python_programs_that_it_starts_are_not_instrumented() -> None:
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {LOADED!r}])"
    done = run([*INSIDE, PYTHON, "-c", code])
    assert (done.stdout, done.stderr) == ("False False\n", "")


SPAWNING = """
import multiprocessing, subprocess, sys, threading
from pathlib import Path

def report(pipe):
    pipe.send(any(thread.name == "amm-governor" for thread in threading.enumerate()))
    pipe.recv()

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    here, there = context.Pipe()
    child = context.Process(target=report, args=(there,))
    child.start()
    print("child", here.recv())
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if b"resource_tracker" in command.read_bytes():
                parent = int((command.parent / "stat").read_text().rpartition(")")[2].split()[1])
                if parent == multiprocessing.current_process().pid:
                    print("tracker", len(list((command.parent / "task").iterdir())))
        except OSError:
            pass
    here.send(None)
    child.join()
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_processes_of_multiprocessing_are_the_program(tmp_path: Path, method: str) -> None:
    """And its resource tracker, one thread to clean up, is not."""
    (tmp_path / "app.py").write_text(SPAWNING)
    done = run([AMM, "run", "--port", str(free_port()), "--", PYTHON, str(tmp_path / "app.py"), method])
    assert (done.stdout, done.stderr) == ("child True\ntracker 1\n", "")


def test_its_metrics_are_served(tmp_path: Path) -> None:
    port = free_port()
    command = [
        AMM,
        "run",
        "--port",
        str(port),
        "--limit",
        "3GB",
        "--set",
        "tiers.high=75%",
        "--",
        PYTHON,
        "-c",
        WAITING,
    ]
    with running(command) as process:
        page = scrape(port)
        assert f'amm_memory_limit_bytes{{source="policy"}} {3 * 2**30}\n' in page
        assert 'amm_memory_tier_threshold_ratio{tier="high"} 0.75\n' in page
        assert 'cpython_gc_collections_total{cpython_gc_generation="0"} ' in page
        process.terminate()
        process.wait(20)
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("localhost", port), 1)


def test_the_policy_file_named_is_found_from_where_the_program_goes(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("limit: 5GB\n")
    port = free_port()
    code = f"import os; os.chdir('/'); {WAITING}"
    with running([AMM, "run", "--port", str(port), "--config", "mine.yaml", "--", PYTHON, "-c", code], cwd=tmp_path):
        assert f'amm_memory_limit_bytes{{source="policy"}} {5 * 2**30}\n' in scrape(port)


def test_an_environment_without_amm_is_watched_from_outside(tmp_path: Path) -> None:
    """The program may run in another environment than this command."""
    subprocess.run([PYTHON, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    port = free_port()
    with running([AMM, "run", "--port", str(port), "--", str(tmp_path / "bare/bin/python"), "-c", WAITING]) as process:
        page = scrape(port)
        assert "process_memory_usage_bytes " in page
        assert "cpython_gc" not in page
        process.terminate()
        out, err = process.communicate(timeout=20)
        assert (out, err, process.returncode) == ("ready\n", "", -signal.SIGTERM)


def test_something_broken_in_amm_leaves_the_program_running() -> None:
    environ = clean_environ(OTEL_METRICS_EXPORTER="nonsense")
    done = run([*INSIDE, PYTHON, "-c", "print('fine')"], environ=environ)
    assert (done.returncode, done.stdout) == (0, "fine\n")
    assert re.fullmatch(r"AMM is off, since it could not start: RuntimeError: .*nonsense.*\n", done.stderr)


# -- any other program, from outside


def test_a_program_watched_from_outside_has_no_amm_in_it() -> None:
    assert run([*INSIDE, PYTHON, "-I", "-c", LOADED]).stdout == "False False\n"
    assert run([AMM, "run", "--port", "0", "--outside", "--", PYTHON, "-c", LOADED]).stdout == "False False\n"


@pytest.mark.parametrize("status", [0, 3, 255])
def test_the_exit_status_of_any_program(status: int) -> None:
    assert run([*INSIDE, "sh", "-c", f"exit {status}"]).returncode == status


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV, signal.SIGINT])
def test_a_program_ended_by_a_signal_is_seen_to_be(number: signal.Signals) -> None:
    done = run([*INSIDE, "sh", "-c", f"kill -{number.value} $$"])
    assert (done.returncode, done.stdout, done.stderr) == (-number, "", "")


def test_output_and_input_of_any_program() -> None:
    done = run([*INSIDE, "sh", "-c", "cat; echo error >&2"], input="through\n")
    assert (done.stdout, done.stderr) == ("through\n", "error\n")


COUNTING = """
import signal, sys, time
seen = []
for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGHUP", "SIGWINCH"):
    signal.signal(getattr(signal, name), lambda number, _: seen.append(signal.Signals(number).name))
print("ready", flush=True)
while not seen:
    time.sleep(0.01)
time.sleep(0.5)
print(*seen, flush=True)
"""
"""Says which signals it was sent, half a second after the first: a second one would be seen."""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGWINCH"])
def test_a_signal_to_amm_reaches_the_program_once(name: str) -> None:
    with running([*INSIDE, PYTHON, "-I", "-c", COUNTING]) as process:
        assert line(process.stdout) == "ready"
        process.send_signal(getattr(signal, name))
        out, err = process.communicate(timeout=20)
    assert (out, err, process.returncode) == (f"{name}\n", "", 0)


@pytest.mark.parametrize("flags", [["-I"], []], ids=["outside", "inside"])
def test_ctrl_c_on_a_terminal_reaches_the_program_once(flags: list[str]) -> None:
    """The terminal sends it to the whole foreground group: AMM must not send it on."""
    ours, theirs = os.openpty()
    try:
        with running(
            [*INSIDE, PYTHON, *flags, "-c", COUNTING],
            stdin=theirs,
            stdout=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        ) as process:
            assert line(process.stdout) == "ready"
            os.write(ours, b"\x03")
            out, err = process.communicate(timeout=20)
        assert (out, err, process.returncode) == ("SIGINT\n", "", 0)
    finally:
        os.close(ours)
        os.close(theirs)


def test_the_program_has_the_signals_of_one_started_directly() -> None:
    """But for the C library's own two, 32 and 33, which glibc's posix_spawn ignores."""
    show = "grep -E '^Sig(Blk|Ign)' /proc/self/status"
    alone, watched = (run([*prefix, "sh", "-c", show]).stdout.split()[1::2] for prefix in ((), INSIDE))
    own = 1 << 31 | 1 << 32
    assert [int(mask, 16) & ~own for mask in watched] == [int(mask, 16) & ~own for mask in alone]


def test_metrics_of_any_program_are_served(tmp_path: Path) -> None:
    port = free_port()
    with running([AMM, "run", "--port", str(port), "--", "sh", "-c", "echo $$; exec sleep 60"]) as process:
        pid = int(line(process.stdout))
        page = scrape(port, "process_memory_usage_bytes")
        assert "amm_memory_tier " in page
        assert "cpython_gc" not in page
        process.terminate()
        assert process.wait(20) == -signal.SIGTERM
    eventually(lambda: not Path(f"/proc/{pid}").exists())


@pytest.mark.parametrize("flags", [["-I"], []], ids=["outside", "inside"])
def test_a_port_of_another_program_is_an_error_before_the_start(tmp_path: Path, flags: list[str]) -> None:
    with socket.create_server(("localhost", 0)) as server:
        port = server.getsockname()[1]
        code = f"open({str(tmp_path / 'started')!r}, 'w')"
        done = run([AMM, "run", "--port", str(port), "--", PYTHON, *flags, "-c", code])
    assert done.returncode == 2
    assert done.stderr.startswith(f"amm: port {port} of localhost is in use by another program;")
    assert not (tmp_path / "started").exists()


def test_two_programs_of_one_user_share_a_port() -> None:
    port = free_port()
    command = [AMM, "run", "--port", str(port), "--", PYTHON, "-c", WAITING]
    with running(command) as first, running(command) as second:
        assert [line(first.stdout), line(second.stdout)] == ["ready", "ready"]
        scrape(port, f'process_pid="{second.pid}"')
        scrape(port, f'process_pid="{first.pid}"')
