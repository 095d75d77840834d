"""Whatever stands in a kernel file, a probe answers with a value or a ProbeError, and never with anything else."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from probe_trees import MEMINFO, V1_MOUNT, V2_MOUNT, Tree, limits, make_tree, process, v1, v2

from amm_exporter.errors import ProbeError
from amm_exporter.probes.allocator import parse_pymalloc
from amm_exporter.probes.cache_stats import parse_stats
from amm_exporter.probes.limit import LimitProbe
from amm_exporter.probes.pressure import PressureProbe
from amm_exporter.probes.process import HighWaterMark, ProcessProbe, TreeProbe
from amm_exporter.probes.pymalloc import PoolReader, SlotMap

PRESSURE = "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
TREE: Tree = {
    "proc/self": process(7) | {"cgroup": "4:memory:/app\n0::/app\n", "limits": limits()},
    "proc/9": process(9, 7) | {"task/9/children": "10 "},
    "proc/meminfo": MEMINFO,
    "proc/stat": "btime 5\n",
    "proc/pressure/memory": PRESSURE,
    "sys/memory/app": v1(limit=5000),
    "sys/app": v2(maximum=5000) | {"memory.pressure": PRESSURE},
}  # fmt: skip
OF_EITHER = ("proc/self/cgroup", "proc/self/mountinfo")
OF_V1 = (
    "sys/memory/app/memory.limit_in_bytes", "sys/memory/app/memory.stat", "sys/memory/app/memory.usage_in_bytes",
    "sys/memory/app/memory.oom_control",
)  # fmt: skip
OF_V2 = (
    "sys/app/memory.max", "sys/app/memory.high", "sys/app/memory.current", "sys/app/memory.stat",
    "sys/app/memory.events",
)  # fmt: skip
OF_NEITHER = (
    "proc/self/statm", "proc/self/stat", "proc/self/status", "proc/self/limits", "proc/9/statm", "proc/9/stat",
    "proc/9/status", "proc/9/task/9/children", "proc/meminfo", "proc/stat", "proc/pressure/memory",
    "sys/app/memory.pressure",
)  # fmt: skip
MOUNTS = {"cgroup v1": V1_MOUNT, "cgroup v2": V2_MOUNT}
READ = [("cgroup v1", name) for name in (*OF_EITHER, *OF_V1)]
READ += [("cgroup v2", name) for name in (*OF_EITHER, *OF_V2, *OF_NEITHER)]
CONTENT = st.one_of(
    st.binary(max_size=200),
    st.text(alphabet="0123456789 :/-\n\t=kBmax()memoryselfcgroup2rw,.\\", max_size=200).map(str.encode),
    st.builds(
        "{}{}{}{}\n".format,
        st.sampled_from(
            ["inactive_file", "total_inactive_file", "oom", "VmHWM:", "MemTotal:", "btime", "Max data size"]
        ),
        st.sampled_from([" ", "\t", "", "\n"]),
        st.one_of(st.integers().map(str), st.just("9" * 5000), st.text(max_size=5)),
        st.sampled_from(["", " kB", "\0"]),
    ).map(str.encode),
    st.sampled_from([b"9" * 5000, b"-1\n", b"0\n", b"max\n", b"\xff" * 40, b"0::/" + b"../" * 50, b"1 2 3\0" * 20]),
)


@pytest.fixture(scope="module")
def machine(request: pytest.FixtureRequest) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as directory:
        yield make_tree(Path(directory), TREE | {"proc/self/mountinfo": MOUNTS[request.param].format(root="/")})


@pytest.fixture
def kernel_file(machine: Path, name: str) -> Iterator[Path]:
    """One that the test may write anew or take away."""
    path = machine / name
    before = path.read_bytes()
    yield path
    path.write_bytes(before)


def ask_all(root: Path) -> None:
    proc = root / "proc"
    limit = LimitProbe(proc=proc, sysfs=root / "sys", refresh_seconds=0.0)
    pressure = PressureProbe(proc=proc, cgroup_path=root / "sys/app")
    own, mark = ProcessProbe(proc=proc), HighWaterMark(proc=proc)
    questions = [limit.read, limit.cgroup, limit.host, pressure.read]
    questions += [own.read, own.rss_bytes, own.details, own.start_unix_seconds, mark.read_bytes]
    questions += [lambda: TreeProbe(9, proc=proc).read(), lambda: ProcessProbe(9, proc=proc).details()]
    for ask in questions:
        with contextlib.suppress(ProbeError):
            ask()


@pytest.mark.parametrize(("machine", "name"), READ, indirect=["machine"])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=CONTENT)
def test_any_content_of_any_kernel_file(machine: Path, kernel_file: Path, content: bytes) -> None:
    kernel_file.write_bytes(content)
    ask_all(machine)


@pytest.mark.parametrize(("machine", "name"), READ, indirect=["machine"])
def test_any_kernel_file_missing(machine: Path, kernel_file: Path) -> None:
    kernel_file.unlink()
    ask_all(machine)


@given(CONTENT)
def test_any_map_of_memory(content: bytes) -> None:
    slots = SlotMap(content)
    assert len(list(PoolReader()._shuffled(min(slots.count, 50)))) == min(slots.count, 50)


@given(st.text(max_size=300))
def test_any_report_of_pymalloc(report: str) -> None:
    assert parse_pymalloc(report) is None


ANSWERS = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(st.sampled_from(["hits", "misses", "in_use", b"get_hits", 3]), inner, max_size=4),
    ),
    max_leaves=8,
)


@given(ANSWERS)
def test_any_answer_of_a_watched_object(answer: object) -> None:
    stats = parse_stats(answer)
    values = [getattr(stats, name) for name in stats.__slots__] if stats else []
    assert all(value is None or value >= 0 for value in values)
