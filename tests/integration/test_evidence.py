"""Evidence of a running process: asked for from outside, and taken by itself when a leak is found."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider

from amm_exporter.analysis.growth import NATIVE, PYTHON
from amm_exporter.analysis.leaks import Verdict
from amm_exporter.cli import main
from amm_exporter.control.evidence import EvidenceRecorder
from amm_exporter.control.evidence_desk import EvidenceDesk, _telling, _traced, evidence_directory
from amm_exporter.control.evidence_files import telling_most, written
from amm_exporter.control.evidence_outside import seen_from_outside
from amm_exporter.control.evidence_request import ask, write_whole
from amm_exporter.control.governor import Governor
from amm_exporter.control.growth_watch import READINGS, GrowthWatch
from amm_exporter.errors import AMMError
from amm_exporter.export.session import start
from amm_exporter.model import Tier
from amm_exporter.policy import load_policy
from amm_exporter.probes.allocator import AllocatorMemory, AllocatorProbe
from amm_exporter.probes.objects import ObjectProbe
from amm_exporter.probes.process import ProcessProbe

PROGRAM = """
import time
import amm_exporter as amm

class Order:
    def __init__(self, number):
        self.lines = [number] * 10

KEPT = []
session = amm.start({"interval": "100ms"})
print("ready", flush=True)
while True:
    KEPT.extend(Order(number) for number in range(500))
    time.sleep(0.05)
"""


@pytest.fixture
def program(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, "TMPDIR": str(tmp_path), "XDG_RUNTIME_DIR": ""}
    running = subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True, env=environment)
    assert running.stdout is not None
    assert running.stdout.readline() == "ready\n"
    yield running
    running.kill()
    running.communicate()


def test_a_running_process_tells_what_grows_where_and_what_keeps_it_alive(
    program: subprocess.Popen[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "evidence.json"
    assert main(["evidence", "--pid", str(program.pid), "--trace", "1s", "--output", str(file)]) == 0
    evidence = json.loads(file.read_text())
    assert evidence["pid"] == program.pid
    assert "__main__.Order" in [name for name, *_ in evidence["types"]["most"]]
    assert any(site.startswith("<string>:") for site, _ in evidence["sites"][:3])
    assert [name for name, _ in evidence["mappings"] if name == "[heap]"] == ["[heap]"]
    (chain,) = evidence["chains"].values()
    assert chain[0] == "module __main__"

    assert capsys.readouterr().err == f"amm: evidence: written; read it with: amm analyze {file}\n"
    command = ["evidence", "--pid", str(program.pid), "--trace", "0", "--output", str(tmp_path)]
    assert main(command) == 2
    assert capsys.readouterr().err == f"amm: evidence: cannot write {tmp_path}: Is a directory\n"

    assert main(["analyze", str(file)]) == 0
    shown = capsys.readouterr().out
    assert "module __main__ -> dict -> " in shown
    assert "__main__.Order" in shown
    assert not list(tmp_path.glob("amm-exporter-*/evidence/*.request"))


def test_the_program_goes_on_and_traces_no_longer(program: subprocess.Popen[str], tmp_path: Path) -> None:
    assert main(["evidence", "--pid", str(program.pid), "--trace", "200ms", "--output", str(tmp_path / "e.json")]) == 0
    assert program.poll() is None
    first = json.loads((tmp_path / "e.json").read_text())
    assert main(["evidence", "--pid", str(program.pid), "--trace", "0", "--output", str(tmp_path / "e.json")]) == 0
    second = json.loads((tmp_path / "e.json").read_text())
    assert first["sites"]
    assert second["sites"] == []


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[str]]:
    """A program that AMM is not in: it takes 20 MB more when it is told to."""
    code = (
        "import sys; print('ready', flush=True); sys.stdin.readline(); kept = b'x' * 20_000_000; sys.stdin.readline()"
    )
    command = [sys.executable, "-c", code]
    running = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None
    assert running.stdout.readline() == "ready\n"
    yield running
    running.kill()
    running.communicate()


def test_of_a_process_without_amm_is_told_at_once_what_is_seen_from_outside(
    stranger: subprocess.Popen[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("amm_exporter.cli.evidence.ask", pytest.fail)
    file = tmp_path / "evidence.json"
    assert main(["evidence", "--pid", str(stranger.pid), "--trace", "0", "--output", str(file)]) == 0
    evidence = json.loads(file.read_text())
    resident_bytes = evidence["memory"]["resident"]
    assert sum(size for _, size in evidence["mappings"]) > resident_bytes / 2
    assert "grown" not in evidence
    said = capsys.readouterr().err
    assert said.startswith(f"amm: evidence: AMM is not inside process {stranger.pid}: this is what can be seen")
    assert main(["analyze", str(file)]) == 0
    shown = capsys.readouterr().out
    assert f"process {stranger.pid}, seen from outside" in shown
    assert "not available: AMM is not inside the process" in shown


def test_from_outside_is_seen_which_mapping_grew(
    stranger: subprocess.Popen[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def grow(_seconds: float) -> None:
        before = ProcessProbe(stranger.pid)
        small = before.rss_bytes()
        assert stranger.stdin is not None
        stranger.stdin.write("grow\n")
        stranger.stdin.flush()
        while before.rss_bytes() < small + 19_000_000:
            time.sleep(0.01)
        before.close()

    evidence = seen_from_outside(stranger.pid, 2.0, sleep=grow)
    assert evidence["grown"]["resident"] > 19_000_000
    assert evidence["grown"]["mappings"][0][0] == "anonymous"
    file = tmp_path / "evidence.json"
    file.write_text(json.dumps(evidence))
    assert main(["analyze", str(file)]) == 0
    assert re.search(r"more resident after 2s, by mapping\n +\+1[89](\.\d)? MiB  anonymous", capsys.readouterr().out)


def test_one_that_does_not_answer_is_looked_at_from_outside(
    program: subprocess.Popen[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("amm_exporter.cli.evidence.WAIT_SECONDS", 0.3)
    program.send_signal(signal.SIGSTOP)
    assert main(["evidence", "--pid", str(program.pid), "--trace", "0"]) == 0
    said = capsys.readouterr()
    assert said.err.startswith(f"amm: evidence: process {program.pid} did not answer within 0.3 s: this is what can be")
    assert json.loads(said.out)["outside"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evidence", "--pid", "4194304"], "evidence: no process 4194304"),
        (
            ["evidence", "--pid", "1", "--trace", "2 min"],
            "got '2 min'; expected a duration such as '500ms', '1s', '5m' or '2h' (units: ms s m h d);"
            " unknown unit 'min'",
        ),
        (["analyze", "/nonexistent.json"], "analyze: cannot read /nonexistent.json: No such file or directory"),
    ],
)
def test_mistakes_are_told_in_full(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err == f"amm: {message}\n"


def test_other_files_are_no_evidence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, other = tmp_path / "text", tmp_path / "other.json"
    text.write_text("hello")
    other.write_text("{}")
    assert main(["analyze", str(text)]) == 2
    assert capsys.readouterr().err == f"amm: analyze: {text} is not JSON: Expecting value: line 1 column 1 (char 0)\n"
    assert main(["analyze", str(other)]) == 2
    assert capsys.readouterr().err == (
        f"amm: analyze: {other} is no evidence; expected what amm evidence --pid PID --output FILE writes\n"
    )


def leak(leaking: bool) -> Verdict:
    return Verdict(
        leaking=leaking, slope=1.0, lower=1.0, upper=1.0, confidence=0.99, onset_seconds=None, kind="steady",
        exhaustion_seconds=None, reasons=("grows",), sample_count=9, span_seconds=9.0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("types", "name"),
    [
        ({"grown": [("list", 900), ("app.Order", 800)], "most": []}, "app.Order"),
        ({"grown": [("list", 900), ("app.Order", 400)], "most": []}, "list"),
        ({"grown": [], "most": [("str", 900, 1), ("tuple", 850, 1), ("app.Order", 450, 1)]}, "app.Order"),
        ({"grown": [("dict", 9)], "most": [("app.Order", 450, 1)]}, "dict"),
    ],
)
def test_the_chain_is_sought_to_what_tells_most(types: dict[str, list[tuple[Any, ...]]], name: str) -> None:
    assert [*_telling(types["grown"]), *_telling(types["most"])][0] == name


class LeakingWatch:
    leaking = False

    def stood(self, until_seconds: float) -> None:
        pass

    def add(self, sample: object) -> None:
        pass

    def feed(self, series: str, t_seconds: float, value_bytes: int) -> None:
        pass

    def verdicts(self) -> dict[str, Verdict]:
        return {"rss": leak(self.leaking)}


def test_a_verdict_that_turns_to_leaking_is_captured_once_written_and_told(tmp_path: Path) -> None:
    governor = Governor({"evidence": {"directory": str(tmp_path)}})
    governor.leaks = watch = LeakingWatch()  # type: ignore[assignment]
    told: list[dict[str, object]] = []
    desk = EvidenceDesk(governor, told=told.append)
    for watch.leaking in (False, True, True, False, True):
        desk.listen(governor.sample(), Tier.NORMAL)
    governor.stop()
    assert len(told) == 1
    (file,) = tmp_path.glob("amm-evidence-*.json")
    assert json.loads(file.read_text())["verdicts"]["rss"]["leaking"]


class Ware:
    """What leaks in the tests of growth."""

    def __init__(self) -> None:
        self.lines = [object()]


def test_after_a_leak_was_found_it_is_seen_where_memory_grows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("amm_exporter.control.growth_watch.CENSUS_SECONDS", 0.5)  # whole: a loaded machine sees little
    governor = Governor({"evidence": {"directory": str(tmp_path)}})
    governor.leaks = watch = LeakingWatch()  # type: ignore[assignment]
    watch.leaking = True
    told: list[dict[str, Any]] = []
    desk, kept = EvidenceDesk(governor, told=told.append), []
    sample = governor.sample()
    for step in range(READINGS + 1):
        kept.extend(Ware() for _ in range(20_000))
        desk.listen(replace(sample, t_seconds=sample.t_seconds + 1000.0 * step), Tier.NORMAL)
    governor.stop()
    assert len(told) == 2
    assert "growth" not in told[0]
    assert told[1]["verdicts"] == told[0]["verdicts"]
    assert f"{__name__}.Ware" in [row["name"] for row in told[1]["growth"]["types"][:3]]

    (file,) = tmp_path.glob("amm-evidence-*.json")
    assert main(["analyze", str(file)]) == 0
    shown = capsys.readouterr().out
    assert "types that grow for certain" in shown
    assert f"{__name__}.Ware" in shown
    del kept


class Shelf:
    """What there are many of, and no more than before."""


WARES, SHELVES = [Ware()], [Shelf()]


def test_the_chain_leads_to_what_grew_since_the_leak_was_found_before_what_takes_most(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ware, shelf, governor = f"{__name__}.Ware", f"{__name__}.Shelf", Governor({"evidence": {"directory": "none"}})
    desk, types = EvidenceDesk(governor), {"most": [[shelf, 900_000, 1]], "grown": []}
    growth = {"seconds": 30.0, "origin": PYTHON, "types": [{"name": ware, "gained": 10_000}], "sites": []}
    seen = {"verdicts": {}, "types": types}
    told = []
    for followed, more in (([], {}), (growth["types"], {"growth": growth})):
        chains = desk._chains(types, followed)
        (tmp_path / "evidence.json").write_text(json.dumps({**seen, **more, "chains": chains}))
        assert main(["analyze", str(tmp_path / "evidence.json")]) == 0
        told.append(capsys.readouterr().out)
    governor.stop()
    assert f"what keeps {shelf} alive, among the most common: none is known to grow" in told[0]
    assert re.search(f"what keeps {re.escape(ware)} alive\n +module .* -> Ware\n", told[1])


@pytest.mark.parametrize(("grows", "origin"), [("objects", PYTHON), ("buffers", NATIVE)])
def test_growth_is_told_apart_by_who_holds_it(grows: str, origin: str) -> None:
    unpaced = AllocatorProbe(clock=lambda: 0.0)
    growth, probe, kept = GrowthWatch(1e6, allocators=unpaced), ProcessProbe(), list[object]()
    found = None
    for step in range(READINGS):
        kept.extend([Ware() for _ in range(20_000)] if grows == "objects" else [b"x" * 2000 for _ in range(5_000)])
        found = growth.look(10.0 * step, probe.rss_bytes())
    probe.close()
    assert found is not None
    assert found["origin"] == origin
    assert found["seconds"] == 50.0


def test_the_lines_that_grow_are_named_where_allocations_are_traced() -> None:
    growth, kept, found = GrowthWatch(1e6), list[bytes](), None
    tracemalloc.start()
    try:
        for step in range(READINGS):
            kept.extend(b"x" * 1000 + bytes([step]) for _ in range(1_000))
            found = growth.look(10.0 * step, 0)
    finally:
        tracemalloc.stop()
    assert found is not None
    assert found["sites"][0]["name"].startswith(f"{__file__}:")
    assert found["sites"][0]["lower"] > 50_000


class Malloc(AllocatorProbe):
    """One malloc that grows."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name, self.used_bytes = name, 0

    def read(self) -> tuple[AllocatorMemory, ...]:
        return (AllocatorMemory(allocator=self.name, held_bytes=self.used_bytes, free_bytes=0),)


def test_a_forked_child_goes_on_with_nothing_of_its_parents(tmp_path: Path) -> None:
    """Else it would finish what its parent was following, and write that into its parent's evidence."""
    governor = Governor({"evidence": {"directory": str(tmp_path)}})
    governor.leaks = watch = LeakingWatch()  # type: ignore[assignment]
    desk, watch.leaking, sample = EvidenceDesk(governor), True, governor.sample()
    desk.listen(sample, Tier.NORMAL)
    child = os.fork()
    if child == 0:
        try:
            watch.leaking = False
            for step in range(1, READINGS + 1):
                desk.listen(replace(sample, t_seconds=sample.t_seconds + 1000.0 * step), Tier.NORMAL)
            os._exit(0 if desk.last is None else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    governor.stop()
    (file,) = tmp_path.glob("amm-evidence-*.json")
    assert "growth" not in json.loads(file.read_text())


def test_what_a_tracer_of_the_program_knew_before_is_not_told_as_new() -> None:
    tracemalloc.start()
    try:
        kept = [bytes(1_000) for _ in range(20_000)]
        found = _traced(0.05, lambda: 0)
    finally:
        tracemalloc.stop()
    assert len(kept) == 20_000
    assert found["traced_bytes"] < 2_000_000
    assert abs(found["grown_bytes"]) < 500_000


@pytest.mark.parametrize("name", ["glibc", "jemalloc"])
def test_what_malloc_holds_is_native_whichever_malloc_it_is(name: str) -> None:
    malloc = Malloc(name)
    growth, found = GrowthWatch(1e6, allocators=malloc), None
    for step in range(READINGS):
        malloc.used_bytes += 2**20
        found = growth.look(10.0 * step, malloc.used_bytes)
    assert found is not None
    assert found["origin"] == NATIVE


@pytest.mark.parametrize(("slope", "due_seconds"), [(1e9, 5.0), (2**20 / 50, 10.0), (28.0, 600.0)])
def test_readings_come_as_far_apart_as_the_leak_is_slow(slope: float, due_seconds: float) -> None:
    growth = GrowthWatch(slope)
    growth.look(0.0, 0)
    for early in range(1, READINGS):  # before they are due, looks take no reading
        assert growth.look(0.99 * due_seconds * early / READINGS, 0) is None
    found = [growth.look(due_seconds * step, 0) for step in range(1, READINGS)]
    assert [one is not None for one in found] == [False] * (READINGS - 2) + [True]


@pytest.mark.parametrize(
    ("census", "tier", "taken"),
    [
        ("high", Tier.MODERATE, False),
        ("high", Tier.HIGH, True),
        ("always", Tier.NORMAL, True),
        ("never", Tier.CRITICAL, False),
    ],
)
def test_types_are_counted_when_the_policy_says(census: str, tier: Tier, taken: bool) -> None:
    governor = Governor({"evidence": {"census": census, "directory": "none"}})
    desk = EvidenceDesk(governor)
    desk.listen(governor.sample(), tier)
    governor.stop()
    assert (desk.census is not None) == taken


def test_no_directory_is_made_where_none_is_wanted(tmp_path: Path) -> None:
    environment = {"TMPDIR": str(tmp_path)}
    assert evidence_directory(load_policy({"evidence": {"directory": "none"}}, environ={}), environment) is None
    assert list(tmp_path.iterdir()) == []
    assert evidence_directory(load_policy({}, environ={}), environment) == tmp_path / (
        f"amm-exporter-{os.geteuid()}/evidence"
    )


def test_a_stopped_session_listens_to_no_request() -> None:
    provider = MeterProvider(shutdown_on_exit=False)
    session = start({}, meter_provider=provider)
    session.stop()
    assert session.governor._listeners._on_sample == []
    provider.shutdown()


@pytest.fixture
def process(tmp_path: Path) -> Path:
    """A process as /proc shows it, that looks for requests below `tmp_path`."""
    directory = tmp_path / "proc" / "123"
    directory.mkdir(parents=True)
    (directory / "environ").write_bytes(f"TMPDIR={tmp_path}\0XDG_RUNTIME_DIR=\0".encode())
    return directory


def asked(process: Path, *, trace_seconds: float = 0.0, wait_seconds: float = 5.0) -> str:
    with pytest.raises(AMMError) as caught:
        ask(int(process.name), trace_seconds=trace_seconds, wait_seconds=wait_seconds, proc=process.parent)
    return str(caught.value)


def test_a_trace_has_a_longest_time(process: Path) -> None:
    assert asked(process, trace_seconds=61.0) == "evidence: got 61 s of tracing; expected 0 to 60 s"


def test_a_process_that_ends_meanwhile_is_not_waited_for(process: Path, tmp_path: Path) -> None:
    def end_once_asked() -> None:
        while not list(tmp_path.rglob("*.request")):
            time.sleep(0.01)
        shutil.rmtree(process)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(end_once_asked)
        assert asked(process) == "evidence: process 123 has ended before it answered"


ASKING = """
import sys
from pathlib import Path
from amm_exporter.control.evidence_request import ask
print(ask(123, trace_seconds=float(sys.argv[1]), wait_seconds=9.0, proc=Path(sys.argv[2]))["trace_seconds"])
"""


def test_two_who_ask_at_once_are_both_answered(process: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", ASKING]
    askers = [
        subprocess.Popen([*command, seconds, str(process.parent)], stdout=subprocess.PIPE, text=True)
        for seconds in ("0", "1")
    ]
    for _ in askers:
        while not (requests := list(tmp_path.rglob("123.request"))):
            assert None in [asker.poll() for asker in askers], "all have ended, and nobody asks"
            time.sleep(0.01)
        time.sleep(0.3)  # the other one comes meanwhile
        wanted = json.loads(requests[0].read_text())
        requests[0].unlink()
        write_whole(requests[0].with_suffix(".answer"), wanted)
    assert [asker.communicate(timeout=20)[0] for asker in askers] == ["0.0\n", "1.0\n"]


def test_what_could_not_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    """As on a full disk, where leftovers would keep it full."""
    (tmp_path / "evidence.json").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_whole(tmp_path / "evidence.json", {})
    assert [path.name for path in tmp_path.iterdir()] == ["evidence.json"]


def test_names_are_such_that_a_page_can_show_them() -> None:
    recorder = EvidenceRecorder(caches=lambda: {os.fsdecode(b"/a\x80"): {"file": os.fsdecode(b"/b\x80")}})
    evidence = recorder.capture({})
    assert evidence is not None
    assert evidence["caches"] == {"/a\\udc80": {"file": "/b\\udc80"}}


def test_a_busy_program_is_given_more_time_for_its_types() -> None:
    recorder = EvidenceRecorder()
    recorder._objects = ObjectProbe(clock=itertools.count(0.0, 0.2).__next__)  # always 0.2 s until the next look
    evidence = recorder.capture({})
    assert evidence is not None
    assert evidence["types"]["most"]


def test_a_process_of_another_user_is_named_so(process: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refused)
    assert asked(process) == "evidence: process 123 belongs to another user; ask as that user or as root"


def test_a_process_without_a_private_directory_cannot_be_asked(
    process: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "amm"
    own.write_text("in the way")
    monkeypatch.setattr("amm_exporter.control.evidence_request.private_bases", lambda *_: [own])
    assert asked(process) == f"evidence: process 123 cannot be asked: [Errno 17] File exists: '{own}'"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_root_asks_as_the_user_of_the_process_and_follows_no_link_of_theirs(process: Path, tmp_path: Path) -> None:
    nobody, secret = 65534, tmp_path / "secret"
    secret.write_text("untouched")
    secret.chmod(0o600)
    with tempfile.TemporaryDirectory() as name:
        public = Path(name)
        theirs = Path(shutil.move(process.parent, public)) / process.name
        for path in (public, theirs):
            os.chown(path, nobody, nobody)
        (theirs / "environ").write_bytes(f"TMPDIR={public}\0XDG_RUNTIME_DIR=\0".encode())
        assert asked(theirs, wait_seconds=0.1) == "process 123 did not answer within 0.1 s"
        evidence = public / f"amm-exporter-{nobody}" / "evidence"
        assert evidence.stat().st_uid == nobody
        (evidence / f"123.{os.getpid()}.tmp").symlink_to(secret)
        assert "cannot be asked: [Errno 13]" in asked(theirs)
    assert os.geteuid() == 0
    assert (secret.read_text(), secret.stat().st_uid) == ("untouched", 0)


def evidence_of(unix_seconds: int, *leaking: str) -> dict[str, Any]:
    verdict = {"leaking": True, "kind": "steady", "reasons": ["grows"]}
    return {"unix_seconds": unix_seconds, "pid": 10, "verdicts": dict.fromkeys(leaking, verdict)}


def test_evidence_of_siblings_is_found_but_not_that_of_who_had_the_pid_before(tmp_path: Path) -> None:
    for pid, unix_seconds in ((10, 500), (10, 900), (11, 800), (12, 990)):
        (tmp_path / f"amm-evidence-{pid}-{unix_seconds}.json").write_text(json.dumps(evidence_of(unix_seconds, "rss")))
    (tmp_path / "amm-evidence-notes.json").write_text("")
    for number, text in enumerate(("{", "{}", "[]", "7")):
        (tmp_path / f"amm-evidence-10-95{number}.json").write_text(text)
    found = written(tmp_path, {10: 400.0, 11: 700.0, 12: 995.0})
    assert sorted(one["unix_seconds"] for one in found) == [500, 800, 900]
    assert telling_most(found) == {**evidence_of(900, "rss"), "file": str(tmp_path / "amm-evidence-10-900.json")}
    assert written(tmp_path / "nowhere", {10: 0.0}) == []
    assert telling_most([]) is None


def test_whoever_grew_tells_more_than_a_parent_that_saw_the_sum_grow() -> None:
    worker, parent = evidence_of(100, "heap"), evidence_of(101, "tree", "cgroup")
    assert telling_most([parent, worker]) == worker
    assert telling_most([parent]) == parent


def test_the_page_of_a_family_shows_the_evidence_of_whichever_of_them_leaked_last(tmp_path: Path) -> None:
    governor = Governor({"evidence": {"directory": str(tmp_path)}})
    governor.leaks = watch = LeakingWatch()  # type: ignore[assignment]
    desk, watch.leaking = EvidenceDesk(governor), True
    assert desk.latest({os.getpid(): 0.0}) is None
    desk.listen(governor.sample(), Tier.NORMAL)
    governor.stop()
    own = desk.latest({os.getpid(): 0.0})
    assert own is not None
    assert own["pid"] == os.getpid()
    later = int(own["unix_seconds"]) + 5
    (tmp_path / f"amm-evidence-77-{later}.json").write_text(json.dumps({**own, "pid": 77, "unix_seconds": later}))
    assert desk.latest({os.getpid(): 0.0}) == own
    newest = desk.latest({os.getpid(): 0.0, 77: 0.0})
    assert newest is not None
    assert newest["pid"] == 77


@pytest.mark.parametrize(
    ("traced", "grown", "said"),
    [
        (3_000_000, 9_000_000, "Python's lines hold 2.9 MiB of it: the rest is C code's, or free space"),
        (8_000_000, 9_000_000, "Python's lines hold 7.6 MiB of it\n"),
        (0, 4_000_000, None),  # of four arenas nothing can be said
    ],
)
def test_what_grew_while_it_was_traced_is_told_to_be_pythons_or_not(
    traced: int, grown: int, said: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "evidence.json"
    known = {"pid": 1, "verdicts": {}, "types": {}, "origin": NATIVE, "origin_seconds": 90.0}
    file.write_text(json.dumps({**known, "traced_bytes": traced, "grown_bytes": grown}))
    assert main(["analyze", str(file)]) == 0
    shown = capsys.readouterr().out
    assert "what grew in the last 1.5m\n" in shown
    assert ("meanwhile" in shown) == (said is not None)
    assert (said or "") in shown
