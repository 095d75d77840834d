"""The page of many processes and its JSON: what they say, that they say it safely, and that they stay small."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from html import escape, unescape
from pathlib import Path

import pytest

from amm_exporter.analysis.leaks import LeakDetector, Verdict
from amm_exporter.control.fleet import NAME_LENGTH, Fleet, MemberState, program_name
from amm_exporter.export.fleet_html import numbers
from amm_exporter.export.fleet_page import fleet_routes, page
from amm_exporter.export.fleet_status import fleet_status
from amm_exporter.export.http import Request, Response
from amm_exporter.model import CgroupMemory, HostMemory, Limit, ProcessMemory, Tier
from amm_exporter.policy import load_policy

MIB = 1024**2
UNDECIDED = LeakDetector().verdict()
STEADY = replace(UNDECIDED, kind="noise", slope=0.0)
LEAKING = replace(UNDECIDED, kind="steady", leaking=True, slope=2048.0, lower=1024.0, upper=4096.0)
HOST = HostMemory(total_bytes=24 * 1024 * MIB, available_bytes=18 * 1024 * MIB)
HOSTILE = "</script><script>alert(1)</script>\"'&"


def state(pid: int, ratio: float = 0.1, tier: Tier = Tier.NORMAL, name: str = "python3", **more: object) -> MemberState:
    known = {
        "name": name,
        "memory": ProcessMemory(pid=pid, rss_bytes=int(ratio * 1024 * MIB), virtual_bytes=2048 * MIB),
        "peak_bytes": 900 * MIB,
        "limit": Limit(source="policy", size_bytes=1024 * MIB),
        "cgroup": cgroup("/sys/fs/cgroup/system.slice/shop.service"),
        "usage_ratio": ratio,
        "tier": tier,
        "leak": STEADY,
        "started_unix_seconds": 910.0,
    }
    return MemberState(**(known | more))  # type: ignore[arg-type]


def cgroup(path: str, version: int = 2) -> CgroupMemory:
    return CgroupMemory(
        path=path, version=version, usage_bytes=700 * MIB, working_set_bytes=600 * MIB, limit_bytes=2048 * MIB
    )


def document(*states: MemberState, host: HostMemory | None = HOST, pattern: str = "shop"):  # type: ignore[no-untyped-def]
    return fleet_status(states, host, pattern=pattern, now_unix_seconds=1000.0, version="1")


def text_of(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", html))


def missing(wanted: list[str], text: str) -> list[str]:
    return [said for said in wanted if said not in text]


# -- what is said


def test_the_json_has_every_fact_of_a_process() -> None:
    assert document(state(7, 0.5, leak=LEAKING))["processes"] == [
        {
            "pid": 7,
            "name": "python3",
            "tier": "normal",
            "uptime_seconds": 90.0,
            "rss_bytes": 512 * MIB,
            "virtual_bytes": 2048 * MIB,
            "peak_bytes": 900 * MIB,
            "limit_bytes": 1024 * MIB,
            "limit_source": "policy",
            "usage_ratio": 0.5,
            "growth": {
                "series": "rss", "leaking": True, "kind": "steady", "slope": 2048.0, "lower": 1024.0, "upper": 4096.0,
            },
            "cgroup": {
                "path": "/system.slice/shop.service",
                "usage_bytes": 700 * MIB,
                "working_set_bytes": 600 * MIB,
                "limit_bytes": 2048 * MIB,
                "usage_ratio": 600 / 2048,
            },
        }
    ]  # fmt: skip


def test_the_json_counts_them_by_tier_and_sums_their_memory() -> None:
    said = document(state(1, 0.25), state(2, 0.75, Tier.HIGH, leak=LEAKING), state(3, 0.25))
    assert (said["count"], said["leaking"], said["rss_bytes"], said["match"]) == (3, 1, 1280 * MIB, "shop")
    assert said["tiers"] == {"normal": 2, "moderate": 0, "high": 1, "severe": 0, "critical": 0}
    assert said["host"]["available_bytes"] == 18 * 1024 * MIB


def test_the_worst_comes_first_by_tier_then_leak_then_utilization() -> None:
    full, leak, high = state(1, 0.55), state(2, 0.1, leak=LEAKING), state(3, 0.71, Tier.HIGH)
    said = document(state(4, 0.2), full, leak, high, state(5, 0.95, Tier.CRITICAL))
    assert [process["pid"] for process in said["processes"]] == [5, 3, 2, 1, 4]


def test_what_is_nearest_to_its_limit_may_be_a_cgroup() -> None:
    full = replace(cgroup("/sys/fs/cgroup/shop.service"), working_set_bytes=1843 * MIB)
    html = numbers(document(state(7, 0.3, Tier.CRITICAL, cgroup=full), state(8, 0.3)))
    assert "90% cgroup shop.service" in text_of(html)
    assert '<td class="critical">1.8 GiB of 2 GiB' in html


def test_every_number_is_readable_without_javascript() -> None:
    text = text_of(numbers(document(state(1), state(7, 0.75, Tier.HIGH, name="celery", leak=LEAKING))))
    head = ["shop 2 processes watched", "1 high 1 normal", "25% 6 GiB of 24 GiB in use", "75% celery, pid 7"]
    row = ["7 celery high 768 MiB 900 MiB 1 GiB policy 75% 7 MiB/h leak shop.service 600 MiB of 2 GiB"]
    assert missing(head + row, text) == []


def test_what_is_not_known_is_no_number() -> None:
    bare = state(7, 0.0, peak_bytes=None, limit=None, cgroup=None, leak=replace(UNDECIDED, slope=math.nan))
    said = document(bare, host=None)
    text = text_of(numbers(said))
    assert missing(["cannot be read", "measuring"], text) == []
    assert "nan" not in text.lower()
    assert "None" not in text
    process = said["processes"][0]
    assert (process["usage_ratio"], process["limit_bytes"], process["growth"]["slope"]) == (None, None, None)
    json.dumps(said, allow_nan=False)


def test_the_slope_of_a_few_samples_is_not_shown_as_one() -> None:
    guess: Verdict = replace(UNDECIDED, slope=1e9)
    text = text_of(numbers(document(state(7, leak=guess))))
    assert "measuring" in text
    assert "iB/h" not in text


@pytest.mark.parametrize(
    ("path", "version", "shown"),
    [
        ("/sys/fs/cgroup/memory/docker/4f", 1, "/docker/4f"),
        ("/sys/fs/cgroup/memory", 1, "/"),
        ("/sys/fs/cgroup", 2, "/"),
        ("/sys/fs/cgroup/memory/x", 2, "/memory/x"),
    ],
)
def test_a_cgroup_is_shown_without_where_it_is_mounted(path: str, version: int, shown: str) -> None:
    assert document(state(7, cgroup=cgroup(path, version)))["processes"][0]["cgroup"]["path"] == shown


def test_where_nothing_matches_the_page_says_what_to_do() -> None:
    text = text_of(page(document(pattern="gunicron"), "n"))
    assert missing(["0 processes watched", "No process matches gunicron", "ps -ww -eo args", "(?i)"], text) == []


# -- said safely


def test_names_cannot_become_markup() -> None:
    hostile = document(state(7, name=HOSTILE, cgroup=cgroup(f"/sys/fs/cgroup/{HOSTILE}")), pattern=HOSTILE)
    html = page(hostile, "n")
    assert html.count("<script") == html.count("</script>") == 1
    assert HOSTILE not in html
    assert html.count(escape(HOSTILE)) >= 4
    title = re.search(r'data-title="([^"]*)"', html)
    assert title is not None
    assert unescape(title[1]) == f"NORMAL · {HOSTILE}"


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("/usr/bin/python3.11", "python3.11"),
        ("-bash", "-bash"),
        ("nginx: worker process", "nginx"),
        ("postgres: shop cart 10.0.0.7(5432) SELECT", "postgres"),
        ("sshd: carol@pts/0", "sshd"),
        ("/usr/lib/chromium/chromium --type=renderer --token=/a/secret", "chromium"),
        ("/", "unnamed"),
        ("  ", "unnamed"),
    ],
)
def test_a_title_written_over_the_command_line_shows_no_argument(command: str, name: str) -> None:
    assert program_name(command) == name


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(load_policy({}, environ={}), re.compile("shop"), proc=tmp_path)
    fleet.tick()
    yield fleet
    fleet.close()


def asked(fleet: Fleet, path: str) -> Response:
    return fleet_routes(fleet)[path](Request(method="GET", path=path, headers={}, keep_alive=False))


def test_only_the_pages_own_script_may_run(empty: Fleet) -> None:
    response = asked(empty, "/")
    policy, body = response.headers["Content-Security-Policy"], response.body.decode()
    nonce = re.search(r"script-src 'nonce-([^']+)'", policy)[1]  # type: ignore[index]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert body.count(f'<script nonce="{nonce}">') == body.count("<script") == 1
    assert " style=" not in body
    assert asked(empty, "/").headers["Content-Security-Policy"] != policy


def test_the_page_needs_no_other_host(empty: Fleet) -> None:
    body = asked(empty, "/").body.decode()
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", body)
    assert not re.search(r"url\((?!data:)", body)


def test_what_the_page_asks_for_is_served(empty: Fleet) -> None:
    status = asked(empty, "/api/v1/status.json")
    assert status.content_type == "application/json"
    assert json.loads(status.body, parse_constant=pytest.fail)["processes"] == []
    assert 'id="processes"' in asked(empty, "/api/v1/numbers.html").body.decode()
    assert asked(empty, "/favicon.ico").content_type == "image/svg+xml"


# -- small


def large(pid: int, name: str) -> MemberState:
    pod = f"/sys/fs/cgroup/kubepods.slice/kubepods-pod{'a' * 36}.slice/cri-containerd-{'b' * 64}.scope"
    return state(pid, 0.87123, Tier.CRITICAL, name=name, leak=LEAKING, cgroup=cgroup(pod))


def test_200_processes_are_all_on_the_page_within_100_kb() -> None:
    html = page(document(*[large(1_000_000 + number, "python3.11") for number in range(200)]), "n" * 22)
    assert html.count("<tr><td>1000") == 200
    assert len(html.encode()) <= 100_000
    assert "more, better off" not in html


def test_of_too_many_or_too_long_ones_the_best_off_are_counted_only() -> None:
    many = [large(1_000_000 + number, '"' * NAME_LENGTH) for number in range(999)]
    html = page(document(*many, state(5, 0.01), pattern='"' * 500), "n" * 22)
    shown = html.count("<tr><td>1000")
    assert len(html.encode()) <= 100_000
    assert shown > 80
    assert f"{1000 - shown:,} more, better off" in html
