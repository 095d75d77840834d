"""Limits: where they are found, which binds, how changes are followed. A real limit is tried in tests/integration."""

from __future__ import annotations

from pathlib import Path

import pytest
from probe_trees import MEMINFO, V1_MOUNT, V2_MOUNT, Tree, limits, make_tree, open_fds, v1, v2

from amm_exporter.errors import ProbeError
from amm_exporter.model import Limit
from amm_exporter.probes.limit import LimitProbe, tightest_by_source

RAM = 16 * 2**30


def probe(
    root: Path,
    *,
    cgroup: Tree | None = None,
    membership: str = "",
    mounts: str = "",
    own: Tree | None = None,
    **options,
) -> LimitProbe:
    """A LimitProbe over a fake machine with 16 GiB. It reads everything at every call unless told otherwise."""
    self_files: Tree = {"cgroup": membership, "mountinfo": mounts, "limits": limits()}
    make_tree(root, {"proc": {"self": self_files | (own or {}), "meminfo": MEMINFO}, "sys": cgroup or {}})
    return LimitProbe(proc=root / "proc", sysfs=root / "sys", **({"refresh_seconds": 0.0} | options))


def v2_probe(root: Path, cgroup: Tree, path: str = "/app", mount_root: str = "/", **options) -> LimitProbe:
    return probe(root, cgroup=cgroup, membership=f"0::{path}\n", mounts=V2_MOUNT.format(root=mount_root), **options)


def v1_probe(root: Path, cgroup: Tree, path: str = "/app", mount_root: str = "/", **options) -> LimitProbe:
    membership = f"5:devices:/x\n4:memory:{path}\n1:cpu,cpuacct:/y\n"
    return probe(
        root, cgroup={"memory": cgroup}, membership=membership, mounts=V1_MOUNT.format(root=mount_root), **options
    )


def sources(found: tuple[Limit, ...]) -> list[tuple[str, int]]:
    return [(limit.source, limit.size_bytes) for limit in found]


def test_without_any_limit_the_ram_binds(tmp_path: Path) -> None:
    assert sources(probe(tmp_path).read()) == [("ram", RAM)]


@pytest.mark.parametrize("size", [RAM - 1, RAM, RAM + 1])
def test_the_configured_limit_takes_its_place_by_size_and_wins_a_tie(tmp_path: Path, size: int) -> None:
    found = probe(tmp_path, configured_bytes=size).read()
    assert found[0].source == ("policy" if size <= RAM else "ram")
    assert {limit.source for limit in found} == {"policy", "ram"}


def test_resource_limits_are_the_soft_ones(tmp_path: Path) -> None:
    found = probe(tmp_path, own={"limits": limits(data=3_000_000, space=2_000_000)}).read()
    assert sources(found) == [("rlimit_as", 2_000_000), ("rlimit_data", 3_000_000), ("ram", RAM)]
    assert found[0].where == f"{tmp_path}/proc/self/limits: Max address space"


@pytest.mark.parametrize(
    "text", ["Limit  Soft Limit\n", "Limit\nMax address space", "Limit\nMax data size  unlimited  unlimited\n"]
)
def test_missing_and_truncated_resource_lines_are_no_limit_and_no_problem(tmp_path: Path, text: str) -> None:
    limit_probe = probe(tmp_path, own={"limits": text})
    assert sources(limit_probe.read()) == [("ram", RAM)]
    assert limit_probe.problems == ()


@pytest.mark.parametrize("text", ["", "garbage", "\0\0"])
def test_garbage_in_one_source_is_a_problem_and_leaves_the_others(tmp_path: Path, text: str) -> None:
    limit_probe = probe(tmp_path, own={"limits": text})
    assert sources(limit_probe.read()) == [("ram", RAM)]
    assert len(limit_probe.problems) == 1
    assert "limits: unexpected content" in limit_probe.problems[0]


def test_v2_limit_of_the_own_cgroup(tmp_path: Path) -> None:
    found = v2_probe(tmp_path, {"app": v2(maximum=5000)}).read()
    assert found[0] == Limit(source="cgroup", size_bytes=5000, where=f"{tmp_path}/sys/app/memory.max")


def test_v2_high_below_max_binds(tmp_path: Path) -> None:
    found = v2_probe(tmp_path, {"app": v2(maximum=5000, high=4000)}).read()
    assert found[0] == Limit(source="cgroup", size_bytes=4000, where=f"{tmp_path}/sys/app/memory.high")


@pytest.mark.parametrize(("outer", "binding"), [(4999, "a"), (5000, "a/b/c"), (5001, "a/b/c")])
def test_the_tightest_ancestor_binds_and_the_nearer_wins_a_tie(tmp_path: Path, outer: int, binding: str) -> None:
    tree: Tree = {"a": v2(maximum=outer) | {"b": v2() | {"c": v2(maximum=5000)}}}
    found = v2_probe(tmp_path, tree, path="/a/b/c").read()
    assert found[0].where == f"{tmp_path}/sys/{binding}/memory.max"


def test_a_namespace_root_with_a_limit_is_seen(tmp_path: Path) -> None:
    """In a container with its own cgroup namespace the path is `/` and the mount shows the container's cgroup."""
    found = v2_probe(tmp_path, v2(maximum=5000), path="/").read()
    assert found[0].where == f"{tmp_path}/sys/memory.max"


def test_a_container_without_namespace_shows_the_host_path_both_in_cgroup_and_mount(tmp_path: Path) -> None:
    found = v1_probe(tmp_path, v1(limit=5000), path="/docker/abc", mount_root="/docker/abc").read()
    assert found[0].where == f"{tmp_path}/sys/memory/memory.limit_in_bytes"


def test_a_path_outside_the_namespace_falls_back_to_the_mount_point(tmp_path: Path) -> None:
    found = v2_probe(tmp_path, v2(maximum=5000), path="/../other").read()
    assert found[0].where == f"{tmp_path}/sys/memory.max"


def test_a_path_that_is_not_visible_here_falls_back_to_what_is(tmp_path: Path) -> None:
    found = v2_probe(tmp_path, v2(maximum=5000), path="/kubepods/pod1/c1").read()
    assert found[0].where == f"{tmp_path}/sys/memory.max"


def test_the_real_root_of_v2_has_no_memory_files(tmp_path: Path) -> None:
    limit_probe = v2_probe(tmp_path, {"cgroup.controllers": "cpu memory\n", "memory.stat": "anon 1\n"}, path="/")
    assert sources(limit_probe.read()) == [("ram", RAM)]
    assert limit_probe.cgroup() is None


def test_hybrid_takes_memory_from_where_the_controller_is(tmp_path: Path) -> None:
    limit_probe = probe(
        tmp_path,
        cgroup={"memory": {"app": v1(limit=5000)}, "unified": {"app": {"cgroup.procs": "1\n"}}},
        membership="4:memory:/app\n0::/app\n",
        mounts=V1_MOUNT.format(root="/")
        + V2_MOUNT.format(root="/").replace("/sys/fs/cgroup rw", "/sys/fs/cgroup/unified rw"),
    )
    assert limit_probe.read()[0].where == f"{tmp_path}/sys/memory/app/memory.limit_in_bytes"


def test_a_mount_point_with_a_space_is_understood(tmp_path: Path) -> None:
    mounts = V2_MOUNT.format(root="/").replace("/sys/fs/cgroup", "/sys/fs/cgroup/my\\040groups")
    limit_probe = probe(tmp_path, cgroup={"my groups/app": v2(maximum=77)}, membership="0::/app\n", mounts=mounts)
    assert limit_probe.read()[0].size_bytes == 77


@pytest.mark.parametrize("huge", [9223372036854771712, 9223372036854710272, 2**63 - 1, 2**62])
def test_v1_writes_no_limit_as_a_huge_number(tmp_path: Path, huge: int) -> None:
    assert sources(v1_probe(tmp_path, {"app": v1(limit=huge)}).read()) == [("ram", RAM)]


def test_v1_limits_above_what_is_mounted_are_known_from_the_hierarchical_limit(tmp_path: Path) -> None:
    found = v1_probe(tmp_path, {"app": v1(limit=9000, hierarchical=4000)}).read()
    assert found[0].size_bytes == 4000
    assert found[0].where == f"{tmp_path}/sys/memory/app/memory.stat: hierarchical_memory_limit"


def test_v1_without_hierarchy_does_not_bind_children(tmp_path: Path) -> None:
    tree: Tree = {"a": v1(limit=1000) | {"memory.use_hierarchy": "0\n", "b": v1(limit=5000)}}
    assert v1_probe(tmp_path, tree, path="/a/b").read()[0].size_bytes == 5000


def test_v2_working_set_is_usage_without_inactive_file_cache(tmp_path: Path) -> None:
    memory = v2_probe(
        tmp_path, {"app": v2(maximum=5000, current=1000, inactive=300, events={"oom_kill": 2, "oom": 3, "high": 9})}
    ).cgroup()
    assert memory is not None
    assert (memory.path, memory.version) == (f"{tmp_path}/sys/app", 2)
    assert (memory.usage_bytes, memory.working_set_bytes, memory.limit_bytes) == (1000, 700, 5000)
    assert (memory.oom_events, memory.oom_kills, memory.high_events) == (3, 2, 9)


def test_v1_working_set_counts_the_whole_subtree_and_knows_oom_kills_only(tmp_path: Path) -> None:
    memory = v1_probe(tmp_path, {"app": v1(limit=5000, usage=1000, inactive=300)}).cgroup()
    assert memory is not None
    assert (memory.working_set_bytes, memory.oom_events, memory.oom_kills, memory.high_events) == (700, None, 4, None)


def test_more_inactive_cache_than_usage_is_a_working_set_of_zero(tmp_path: Path) -> None:
    memory = v2_probe(tmp_path, {"app": v2(current=100, inactive=300)}).cgroup()
    assert memory is not None
    assert memory.working_set_bytes == 0


def test_usage_is_of_the_cgroup_whose_limit_binds(tmp_path: Path) -> None:
    memory = v2_probe(
        tmp_path, {"pod": v2(maximum=5000, current=4000) | {"app": v2(maximum=9000, current=10)}}, path="/pod/app"
    ).cgroup()
    assert memory is not None
    assert (memory.path, memory.usage_bytes, memory.limit_bytes) == (f"{tmp_path}/sys/pod", 4000, 5000)


def test_without_a_limit_usage_is_of_the_own_cgroup(tmp_path: Path) -> None:
    memory = v2_probe(tmp_path, {"pod": v2() | {"app": v2(current=10)}}, path="/pod/app").cgroup()
    assert memory is not None
    assert (memory.path, memory.limit_bytes) == (f"{tmp_path}/sys/pod/app", None)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(("age", "seen"), [(0.49, 5000), (0.5, 4000), (0.51, 4000)])
def test_a_changed_limit_is_seen_when_the_last_look_is_half_a_second_old(tmp_path: Path, age: float, seen: int) -> None:
    clock = Clock()
    limit_probe = v2_probe(tmp_path, {"app": v2(maximum=5000)}, clock=clock, refresh_seconds=0.5)
    limit_probe.read()
    (tmp_path / "sys/app/memory.max").write_text("4000\n")
    clock.now += age
    assert limit_probe.read()[0].size_bytes == seen


def test_nothing_changed_is_the_same_tuple(tmp_path: Path) -> None:
    limit_probe = v2_probe(tmp_path, {"app": v2(maximum=5000)})
    assert limit_probe.read() is limit_probe.read()


def test_a_process_moved_to_another_cgroup_is_followed(tmp_path: Path) -> None:
    limit_probe = v2_probe(tmp_path, {"app": v2(maximum=5000), "new": v2(maximum=3000, current=7)})
    limit_probe.read()
    (tmp_path / "proc/self/cgroup").write_text("0::/new\n")
    assert limit_probe.read()[0].size_bytes == 3000
    memory = limit_probe.cgroup()
    assert memory is not None
    assert memory.usage_bytes == 7


def test_an_inactive_cache_pushed_out_near_the_limit_is_seen_at_once(tmp_path: Path) -> None:
    """Usage stands still while anonymous memory takes the cache's place: the working set must not."""
    limit_probe = v2_probe(tmp_path, {"app": v2(maximum=1000, current=500, inactive=300)}, refresh_seconds=60.0)
    before = limit_probe.cgroup()
    (tmp_path / "sys/app/memory.stat").write_text("inactive_file 100\n")
    after = limit_probe.cgroup()
    assert before is not None
    assert after is not None
    assert (before.working_set_bytes, after.working_set_bytes) == (200, 400)


def test_far_from_the_limit_the_costly_stat_is_spared(tmp_path: Path) -> None:
    limit_probe = v2_probe(tmp_path, {"app": v2(maximum=1000, current=499, inactive=300)}, refresh_seconds=60.0)
    limit_probe.cgroup()
    (tmp_path / "sys/app/memory.stat").unlink()
    memory = limit_probe.cgroup()
    assert memory is not None
    assert memory.working_set_bytes == 199


@pytest.mark.parametrize("content", ["", "many\n", "-5\n", "1e9\n", "\xff"])
def test_garbage_in_memory_max_is_a_problem_and_ram_still_binds(tmp_path: Path, content: str) -> None:
    limit_probe = v2_probe(tmp_path, {"app": v2() | {"memory.max": content}})
    assert sources(limit_probe.read()) == [("ram", RAM)]
    assert limit_probe.problems[0].startswith(f"cannot read {tmp_path}/sys/app/memory.max: unexpected content")


def test_a_broken_ancestor_does_not_hide_the_own_limit(tmp_path: Path) -> None:
    tree: Tree = {"pod": v2() | {"memory.max": "??", "app": v2(maximum=5000)}}
    limit_probe = v2_probe(tmp_path, tree, path="/pod/app")
    assert sources(limit_probe.read())[0] == ("cgroup", 5000)
    assert len(limit_probe.problems) == 1


def test_a_mended_file_ends_the_problem(tmp_path: Path) -> None:
    limit_probe = v2_probe(tmp_path, {"app": v2() | {"memory.max": "??"}})
    limit_probe.read()
    (tmp_path / "sys/app/memory.max").write_text("5000\n")
    assert limit_probe.read()[0].size_bytes == 5000
    assert limit_probe.problems == ()


@pytest.mark.parametrize("name", ["memory.current", "memory.stat"])
def test_an_unreadable_usage_is_an_error_that_names_the_file(tmp_path: Path, name: str) -> None:
    limit_probe = v2_probe(tmp_path, {"app": v2(maximum=5000) | {name: "garbage"}})
    with pytest.raises(ProbeError, match=f"{name}: unexpected content"):
        limit_probe.cgroup()


@pytest.mark.parametrize("membership", ["", "garbage", "0:", "0::", "::", "0::relative/path\n", "\n\n4:memory\n"])
def test_garbage_in_the_membership_is_no_cgroup(tmp_path: Path, membership: str) -> None:
    limit_probe = probe(tmp_path, cgroup=v2(maximum=5000), membership=membership, mounts=V2_MOUNT.format(root="/"))
    assert sources(limit_probe.read()) == [("ram", RAM)]
    assert limit_probe.cgroup() is None


@pytest.mark.parametrize(
    "mounts", ["", "garbage", "31 23 0:28 / /sys", "1 2 3 4 5 6 - cgroup2", " - cgroup2 cgroup2 rw"]
)
def test_garbage_in_the_mounts_is_no_cgroup(tmp_path: Path, mounts: str) -> None:
    limit_probe = probe(tmp_path, cgroup=v2(maximum=5000), membership="0::/\n", mounts=mounts)
    assert sources(limit_probe.read()) == [("ram", RAM)]


def test_an_ended_process_is_an_error(tmp_path: Path) -> None:
    make_tree(tmp_path, {"meminfo": MEMINFO})
    with pytest.raises(ProbeError) as caught:
        LimitProbe(pid=42, proc=tmp_path, sysfs=tmp_path).read()
    assert str(caught.value) == f"process 42 has ended, or was never there: no {tmp_path}/42"


def test_another_process_is_looked_up_by_its_own_files(tmp_path: Path) -> None:
    limit_probe = v2_probe(tmp_path, {"app": v2(maximum=5000), "other": v2(maximum=400)}, pid=42)
    make_tree(tmp_path / "proc", {"42": {"cgroup": "0::/other\n", "limits": limits(data=300)}})
    assert sources(limit_probe.read())[:2] == [("rlimit_data", 300), ("cgroup", 400)]


def test_host_memory(tmp_path: Path) -> None:
    host = probe(tmp_path).host()
    assert (host.total_bytes, host.available_bytes) == (RAM, RAM // 2)
    assert (host.swap_total_bytes, host.swap_free_bytes) == (2048 * 1024, 1024 * 1024)


def test_an_old_kernel_without_memavailable_counts_free_and_cache(tmp_path: Path) -> None:
    limit_probe = probe(tmp_path)
    (tmp_path / "proc/meminfo").write_text("MemTotal: 100 kB\nMemFree: 10 kB\nBuffers: 1 kB\nCached: 20 kB\n")
    assert limit_probe.host().available_bytes == 31 * 1024


def test_a_machine_without_readable_ram_still_has_its_other_limits(tmp_path: Path) -> None:
    limit_probe = v2_probe(tmp_path, {"app": v2(maximum=5000)})
    (tmp_path / "proc/meminfo").write_text("")
    assert sources(limit_probe.read()) == [("cgroup", 5000)]
    assert "meminfo: unexpected content" in limit_probe.problems[0]


def test_every_descriptor_is_given_back(tmp_path: Path) -> None:
    before = open_fds()
    limit_probe = v2_probe(tmp_path, {"pod": v2() | {"app": v2(maximum=5000)}}, path="/pod/app")
    limit_probe.cgroup()
    limit_probe.host()
    assert open_fds() > before
    limit_probe.close()
    assert open_fds() == before
    assert limit_probe.read()[0].size_bytes == 5000, "and it can be used again"
    limit_probe.close()


def test_one_limit_a_source_the_tightest() -> None:
    found = [Limit(source="cgroup", size_bytes=size) for size in (7, 3, 5)] + [Limit(source="ram", size_bytes=9)]
    assert [(x.source, x.size_bytes) for x in tightest_by_source(found)] == [("cgroup", 3), ("ram", 9)]
