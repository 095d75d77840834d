"""The page and its JSON: what they say, that they say it safely, and the history behind the charts."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from dataclasses import replace

import pytest

from amm_exporter.analysis.verdicts import LeakSettings, undecided
from amm_exporter.export.exposition import Buckets, Family
from amm_exporter.export.history import CAPACITY, History
from amm_exporter.export.http import Request
from amm_exporter.export.names import METRICS
from amm_exporter.export.numbers import MOST_WORKERS, numbers
from amm_exporter.export.page import page, page_routes
from amm_exporter.export.reader import PAGE_PATHS
from amm_exporter.export.status import starts, status
from amm_exporter.model import Limit, ProcessMemory, Reading, Sample, Tier


def family(name: str, *series: tuple[dict[str, str], object]) -> Family:
    metric = METRICS[name]
    rows = {tuple(sorted(labels.items())): value for labels, value in series}
    return Family(metric.prometheus.removesuffix("_total"), metric.kind, "", "", rows)


FAMILIES = [
    Family("target", "info", series={(("service_name", "shop"),): 1}),
    family("process.memory.usage", ({}, 300 * 1024**2)),
    family("process.uptime", ({}, 86_400.0)),
    family("amm.memory.tier.time", ({"tier": "normal"}, 60.0), ({"tier": "high"}, 30.0)),
    family("amm.memory.tier", ({}, 2)),
    family("amm.memory.usage_ratio", ({"scope": "process"}, 0.75), ({"scope": "host"}, 0.1)),
    family("amm.memory.usage", ({"scope": "process"}, 300 * 1024**2)),
    family("amm.memory.tier.threshold_ratio", ({"tier": "moderate"}, 0.6), ({"tier": "high"}, 0.7)),
    family("amm.memory.limit", ({"source": "ram"}, 24 * 1024**3), ({"source": "policy"}, 400 * 1024**2)),
    family("amm.memory.headroom", ({}, 100 * 1024**2)),
    family("amm.memory.leak.slope", ({"series": "rss"}, 2048.0)),
    family("amm.memory.leak.slope.lower", ({"series": "rss"}, 1024.0)),
    family("amm.memory.leak.slope.upper", ({"series": "rss"}, 4096.0)),
    family("amm.memory.leak.slope.threshold", ({"series": "rss"}, 300.0)),
    family("amm.memory.leak.detected", ({"series": "rss"}, 1)),
    family("amm.gc.pause.duration", ({"generation": "2"}, Buckets((0.1, 1.0), (5, 1, 0), 1.25))),
    family("amm.gc.pause.max", ({"generation": "2"}, 0.8)),
    family("amm.cache.entries", ({"name": "prices"}, 12)),
    family("amm.cache.max_entries", ({"name": "prices"}, 500)),
    family(
        "amm.cache.requests", ({"name": "prices", "result": "hit"}, 1000), ({"name": "prices", "result": "miss"}, 50)
    ),
    family("amm.cache.hit_ratio", ({"name": "prices"}, 0.952)),
    family("amm.pool.objects", ({"name": "rows", "state": "used"}, 3), ({"name": "rows", "state": "idle"}, 2)),
    family("amm.pool.requests", ({"name": "rows", "result": "hit"}, 40), ({"name": "rows", "result": "miss"}, 5)),
    family("amm.plan.value", ({"setting": "batch_size"}, 250)),
    family("amm.self.cpu.time", ({}, 0.09)),
    family("amm.probe.success", ({"probe": "pressure"}, 0), ({"probe": "process"}, 1)),
]


EVIDENCE = {
    "unix_seconds": 990.0,
    "pid": 7,
    "file": "/srv/amm-exporter/evidence/amm-evidence-7-990.json",
    "verdicts": {
        "rss": {"leaking": True, "kind": "steady", "reasons": ["grows by 2 MiB/h", "what grows is small objects"]},
        "tree": {"leaking": False, "kind": "noise", "reasons": ["no growth that matters"]},
    },
    "types": {"most": [["shop.Order", 4_000, 2_000_000], ["dict", 900, 50_000]], "grown": [], "sampled_ratio": 1.0},
    "sites": [["/srv/shop/cart.py:12", 700_000.0]],
    "mappings": [["[heap]", 9_000_000], ["/srv/lib/libx.so", 70_000], ["/opt/lib/libx.so", 30_000]],
    "allocators": [{"allocator": "pymalloc", "held_bytes": 40_000_000, "free_bytes": 1_000_000}],
    "caches": {"prices": {"hits": 3, "misses": 1, "entries": 321, "max_entries": 500, "size_bytes": None}},
}
GROWTH = {
    "seconds": 30.0,
    "origin": "python",
    "types": [{"name": "shop.Order", "slope": 4096.0, "lower": 2048.0, "upper": 6000.0, "gained": 90_000.0}],
    "sites": [{"name": "/srv/shop/cart.py:12", "slope": 4096.0, "lower": 2048.0, "upper": 1.0, "gained": 1.0}],
}


def document(families=FAMILIES, history=None, evidence=None):
    return status(families, pid=7, now_unix_seconds=1000.0, version="1", history=history, evidence=evidence)


def sample(at: float, rss: int = 100, ratio: float = 0.5) -> Sample:
    limit = 1000
    return Sample(
        t_seconds=at,
        unix_seconds=at,
        process=ProcessMemory(pid=1, rss_bytes=rss, virtual_bytes=0),
        readings=(Reading(scope="process", used_bytes=int(ratio * limit), limit_bytes=limit),),
        limit=Limit(source="policy", size_bytes=limit),
    )


def text_of(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", html))


def test_the_json_says_what_the_metrics_say():
    said = document()
    assert (said["tier"], said["service"], said["rss_bytes"]) == ("high", "shop", 300 * 1024**2)
    assert said["growth"] == [
        {"series": "rss", "leaking": True, "measuring": False, "slope": 2048.0, "lower": 1024.0, "upper": 4096.0,
         "threshold": 300.0}
    ]  # fmt: skip
    assert said["caches"][0]["misses"] == 50
    pool = {"name": "rows", "used": 3, "idle": 2, "hits": 40, "misses": 5, "waits": None}
    assert said["pools"] == [pool]
    assert said["gc"][0]["count"] == 6
    assert said["self"]["failed_probes"] == ["pressure"]


def test_a_growth_that_is_a_guess_as_yet_is_not_shown_as_one():
    guess = undecided([(0.0, 0.0), (16.0, 16e9)], LeakSettings(), 16, 16.0)
    ends = {"": guess.slope, ".lower": guess.lower, ".upper": guess.upper}
    slopes = [family(f"amm.memory.leak.slope{end}", ({"series": "rss"}, value)) for end, value in ends.items()]
    said = document([one for one in FAMILIES if "leak" not in one.name] + slopes)
    text = text_of(numbers(said))
    assert [row["measuring"] for row in said["growth"]] == [True]
    assert "rss measuring" in text
    assert "no leak" not in text


def test_every_number_is_readable_without_javascript():
    text = text_of(numbers(document()))
    memory = ["shop", "high", "300 MiB", "400 MiB", "from policy", "100 MiB", "75%", "moderate 60%"]
    growth = ["leak", "7 MiB/h", "3.5 MiB/h to 14.1 MiB/h"]
    rest = [*growth, "prices", "95.2%", "1,000", "12 of 500", "batch_size", "800ms", "pressure"]
    assert [said for said in memory + rest if said not in text] == []


def test_nothing_known_is_a_page_all_the_same():
    text = text_of(numbers(document([])))
    assert "unknown" in text
    assert "None" not in text
    assert "nan" not in text.lower()


def test_numbers_that_json_lacks_become_none():
    said = document(
        [family("amm.memory.headroom", ({}, math.inf)), family("amm.memory.usage_ratio", ({"scope": "x"}, math.nan))]
    )
    assert (said["headroom_bytes"], said["usage_ratio"]) == (None, {})


def test_names_from_the_program_cannot_become_markup():
    name = "<script>alert(1)</script>"
    hostile = [
        Family("target", "info", series={(("service_name", name),): 1}),
        family("amm.cache.entries", ({"name": name}, 1)),
        family("amm.plan.value", ({"setting": name}, 1)),
        family("amm.memory.leak.slope", ({"series": name}, 1.0)),
    ]
    assert "<script>alert" not in page(document(hostile), "n")
    assert numbers(document(hostile)).count("&lt;script&gt;") == 4


def test_without_a_leak_there_is_no_evidence():
    assert document()["evidence"] is None
    assert "Evidence" not in numbers(document())


def test_evidence_of_a_leak_is_readable_without_javascript():
    text = text_of(numbers(document(evidence={**EVIDENCE, "growth": GROWTH})))
    verdict = ["rss leaks", "grows by 2 MiB/h; what grows is small objects", "1970-01-01 00:16:30 UTC of process 7"]
    growth = ["Followed for 30s after that: what grew was small Python objects", "shop.Order 7 MiB/h 87.9 KiB"]
    then = ["shop.Order 4,000 1.9 MiB", "[heap] 8.6 MiB", "pymalloc 38.1 MiB 976.6 KiB", "prices 321 500"]
    more = ["amm-evidence-7-990.json", "amm evidence --pid 7 --output evidence.json"]
    assert [said for said in verdict + growth + then + more if said not in text] == []
    assert "no growth that matters" not in text


def test_before_it_was_seen_where_memory_grows_that_is_said():
    said = document(evidence=EVIDENCE)
    assert said["evidence"]["growth"] is None
    assert "Where it grows is being measured" in text_of(numbers(said))


def test_evidence_names_files_without_saying_where_they_are():
    said = document(evidence={**EVIDENCE, "growth": GROWTH})
    for text in (json.dumps(said), numbers(said)):
        assert "/home" not in text
        assert "/srv" not in text
        assert "/opt" not in text
    assert said["evidence"]["sites"] == [{"name": "shop/cart.py:12", "bytes": 700_000}]
    assert {"name": "libx.so", "bytes": 100_000} in said["evidence"]["mappings"]


def test_evidence_that_could_not_be_read_in_part_is_shown_without_that_part():
    parts = ("types", "sites", "mappings", "allocators", "caches")
    said = document(evidence={**EVIDENCE, **{part: {"unavailable": "no /proc"} for part in parts}})
    assert [said["evidence"][part] for part in parts] == [[]] * len(parts)
    assert "rss leaks" in text_of(numbers(said))


def test_evidence_cannot_become_markup_and_is_bounded():
    name = "<script>alert(1)</script>"
    many = [[f"{name}{number}" * 20, 5, 5] for number in range(50)]
    hostile = {
        **EVIDENCE,
        "verdicts": {name: {"leaking": True, "kind": name, "reasons": [name]}},
        "types": {"most": many},
        "sites": [row[:2] for row in many],
        "mappings": [row[:2] for row in many],
        "caches": {name: {"entries": 1}},
        "growth": {**GROWTH, "origin": name, "types": [{**GROWTH["types"][0], "name": name}] * 50},
    }
    html = page(document(evidence=hostile), "n")
    assert "<script>alert" not in html
    assert html.count("&lt;/script&gt;") > 5
    assert len(html) <= 100_000


def of_each(name: str, *values: object, **labels: str) -> Family:
    return family(name, *[({"process_pid": str(pid), **labels}, value) for pid, value in enumerate(values, start=7)])


def ages(*pids: int) -> Family:
    series = {(("process_pid", str(pid)),): 0.0 for pid in pids}
    return Family("amm_group_snapshot_age_seconds", "gauge", series=series)


def test_a_family_of_processes_is_a_table_of_them():
    said = document([of_each("process.memory.usage", 100, 200), of_each("amm.memory.tier", 0, 4), ages(7, 8)])
    assert [(worker["pid"], worker["rss_bytes"], worker["tier"]) for worker in said["workers"]] == [
        (7, 100, "normal"),
        (8, 200, "critical"),
    ]
    assert said["rss_bytes"] == 100


def test_a_parent_whose_children_leak_is_not_told_to_leak_itself_nor_is_a_peak_below_what_is_resident():
    detected = family("amm.memory.leak.detected", *[
        ({"series": series, "process_pid": pid}, leaks)
        for pid, series, leaks in (("7", "rss", 0), ("7", "tree", 1), ("8", "rss", 1), ("9", "rss", 0))
    ])  # fmt: skip
    resident, peaks = of_each("process.memory.usage", 100, 220, 50), of_each("amm.memory.peak", 100, 200, 80)
    said = document([resident, peaks, detected, ages(7, 8, 9)])
    seen = [(worker["leaking"], worker["leaking_series"], worker["peak_bytes"]) for worker in said["workers"]]
    assert seen == [(True, ["tree"], 100), (True, ["rss"], 220), (False, [], 80)]
    assert re.search(r"7 .* tree .* 8 .* rss .* 9 .* no ", text_of(numbers(said)).partition("Processes")[2])


def test_caches_pools_and_pauses_are_of_all_processes():
    """The one that has the port may be gunicorn's master, in which there are none."""
    said = document(
        [
            ages(7, 8, 9),
            family("amm.cache.entries", ({"name": "prices", "process_pid": "9"}, 5)),
            family("amm.cache.requests", *[
                ({"name": "prices", "result": result, "process_pid": pid}, value)
                for pid in ("8", "9") for result, value in (("hit", 30), ("miss", 10))
            ]),
            family("amm.pool.objects", ({"name": "rows", "state": "idle", "process_pid": "8"}, 2)),
            of_each("amm.gc.pause.duration", *[Buckets((0.1,), (1, 2), 0.5)] * 3, generation="2"),
            of_each("amm.gc.pause.max", 0.1, 0.3, 0.2, generation="2"),
        ]
    )  # fmt: skip
    cache = {"name": "prices", "hits": 60, "misses": 20, "hit_ratio": 0.75, "entries": 5}
    assert [cache.items() <= row.items() for row in said["caches"]] == [True]
    assert [(row["name"], row["idle"]) for row in said["pools"]] == [("rows", 2)]
    assert [(row["count"], row["longest_seconds"]) for row in said["gc"]] == [(9, 0.3)]
    assert "Caches of all processes" in text_of(numbers(said))


@pytest.mark.parametrize("many", [MOST_WORKERS, 1000])
def test_of_a_large_family_those_are_shown_that_leak_or_use_most(many):
    pids, sizes = range(7, 7 + many), [2**20 * (1 + number) for number in range(many)]
    leaks = family("amm.memory.leak.detected", ({"series": "rss", "process_pid": "7"}, 1))
    said = document([*FAMILIES, of_each("process.memory.usage", *sizes), leaks, ages(*pids)], evidence=EVIDENCE)
    assert len(said["workers"]) == many
    rows = re.findall(r" (\d+) high [\d.]+ [MG]iB ", text_of(numbers(said)))
    assert rows == ["7", *map(str, pids[1 - MOST_WORKERS :])]
    assert len(page(said, "n")) <= 100_000


class Watched(dict):
    """Series that know how often all of them were looked at."""

    looks = 0

    def items(self):
        self.looks += 1
        return super().items()


def test_however_many_processes_there_are_their_series_are_looked_through_once():
    used, begun = of_each("process.memory.usage", *range(50)), of_each("process.uptime", *range(50))
    used, begun = (replace(one, series=Watched(one.series)) for one in (used, begun))
    families = [used, begun, ages(*range(7, 57))]
    assert [row["rss_bytes"] for row in document(families)["workers"]] == list(range(50))
    assert used.series.looks == 1
    begun.series.looks = 0
    assert starts(families, 7, 1000.0) == {7 + seconds: 1000.0 - seconds for seconds in range(50)}
    assert begun.series.looks == 1


def test_a_process_whose_siblings_have_ended_is_still_told_of():
    """Its series keep the label."""
    said = document([ages(7), of_each("process.memory.usage", 100), of_each("amm.memory.tier", 2)])
    assert (said["rss_bytes"], said["tier"], said["workers"]) == (100, "high", [])


def test_a_cache_that_does_not_know_its_entries_is_shown():
    requests = family("amm.cache.requests", ({"name": "views", "result": "hit"}, 3))
    assert [(row["name"], row["hits"], row["entries"]) for row in document([requests])["caches"]] == [
        ("views", 3, None)
    ]


def routes(families=FAMILIES):
    return page_routes(lambda: families, lambda: None)


def asked(path: str):
    return routes()[path](Request(method="GET", path=path, headers={}, keep_alive=False))


def test_the_page_is_one_document_of_at_most_100_kb_that_needs_no_other_host():
    body = asked("/").body.decode()
    assert len(body) <= 100_000
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", body)
    assert not re.search(r"url\((?!data:)", body)


def test_only_the_pages_own_scripts_may_run():
    response = asked("/")
    policy = response.headers["Content-Security-Policy"]
    nonce = re.search(r"script-src 'nonce-([^']+)'", policy)[1]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert response.body.decode().count(f'<script nonce="{nonce}">') == response.body.decode().count("<script") == 2
    assert asked("/").headers["Content-Security-Policy"] != policy
    assert " style=" not in response.body.decode().replace("el.style=", "")


def test_the_licence_of_what_is_vendored_is_there():
    body = asked("/").body.decode()
    assert "leeoniya/uPlot (v1.6.32)" in body


def test_status_json_is_strict_json():
    response = asked("/api/v1/status.json")
    assert response.content_type == "application/json"
    assert json.loads(response.body, parse_constant=pytest.fail)["tier"] == "high"


# -- history


def test_history_is_bounded_and_keeps_the_peak_and_the_whole_span():
    history = History(capacity=100)
    for second in range(10_000):
        history.add(sample(float(second), rss=5_000 if second == 1234 else 100), Tier.NORMAL)
    columns = history.columns()
    assert 50 <= len(columns["t"]) <= 100
    assert max(columns["rss"]) == 5_000
    assert columns["t"][0] == 0
    assert columns["t"][-1] > 9_700


@pytest.mark.parametrize("leap_seconds", [1_700_000_000.0, -3600.0])
def test_a_wall_clock_that_leaps_neither_stops_nor_turns_the_history(leap_seconds):
    history = History(capacity=100)
    for second in range(1000):
        leaped = leap_seconds if second >= 50 else 0.0
        history.add(replace(sample(float(second)), unix_seconds=5000.0 + second + leaped), Tier.NORMAL)
    times = history.columns()["t"]
    assert times == sorted(times)
    assert len(times) >= 50
    assert times[-1] == pytest.approx(5999 + leap_seconds, abs=25)


def test_columns_are_equally_long_at_every_moment():
    history = History(capacity=10)
    for second in range(200):
        history.add(sample(float(second)), Tier.NORMAL)
        assert len({len(column) for column in history.columns().values()}) == 1


def test_what_was_not_known_is_none_in_the_history():
    history = History()
    history.add(Sample(t_seconds=0.0, unix_seconds=1.0, process=None, readings=()), Tier.NORMAL)
    assert history.columns() == {"t": [1.0], "rss": [None], "ratio": [None], "limit": [None], "tier": [0.0]}


def test_changes_of_tier_are_events_and_the_oldest_are_forgotten():
    history = History()
    for second in range(200):
        history.add(sample(float(second), ratio=0.7), Tier.HIGH if second % 2 else Tier.NORMAL)
    events = document(history=history)["events"]
    assert len(events) == 50
    assert events[-1] == {"unix_seconds": 199.0, "from": "normal", "to": "high", "usage_ratio": 0.7}


def test_a_full_history_takes_little_memory():
    assert CAPACITY * 5 * 8 < 64 * 1024


def test_a_reader_serves_every_path_of_the_page_and_pays_for_it_only_then():
    assert tuple(routes()) == PAGE_PATHS
    code = "import sys, amm_exporter.export.reader; print([n for n in sys.modules if 'page' in n and 'amm' in n])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_the_process_named_is_the_one_that_is_watched():
    history = History()
    history.add(sample(1.0), Tier.NORMAL)
    look = page_routes(lambda: FAMILIES, lambda: history)["/api/v1/status.json"]
    assert json.loads(look(Request(method="GET", path="/", headers={}, keep_alive=False)).body)["pid"] == 1


def test_the_share_of_a_core_is_of_the_time_that_was_watched() -> None:
    """Not of the process's life: a program of a day that is watched for a minute and a half."""
    assert "<td>share of one core since start</td><td>0.100%</td>" in numbers(document())
