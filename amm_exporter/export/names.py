"""The one table of AMM's metrics: name, kind, unit, help, attributes. Instruments, rules, dashboards, docs and tests read it.

A metric of the OpenTelemetry semantic conventions carries their description word for word: another text would make a
second HELP line beside other instrumentations. Names ending in `_ratio` have unit "1" and no other name has, because the
translation of unit "1" differs between a scrape (nothing) and OTLP (`_ratio`); everything countable is `{annotated}`.
"""

from __future__ import annotations

from dataclasses import dataclass

COUNTER = "counter"
GAUGE = "gauge"
UPDOWN = "updowncounter"
HISTOGRAM = "histogram"

PAUSE_BUCKETS_SECONDS = (0.0001, 0.001, 0.01, 0.1, 1.0)
"""Bounds of the GC pause histogram: a young collection takes 10 us to 1 ms, a full one up to seconds (5 million objects).
Decades, since each bound is three of the 120 series a process may have; the longest pause has a gauge of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One row. `attributes` are OpenTelemetry keys; Prometheus shows them with dots as underscores."""

    name: str
    kind: str
    unit: str
    help: str
    attributes: tuple[str, ...] = ()
    semconv: bool = False

    @property
    def prometheus(self) -> str:
        """The name of the Prometheus series (a histogram's base name), by the standard translation."""
        words = [self.name.replace(".", "_")]
        if suffix := _UNIT_SUFFIXES.get(self.unit, ""):
            words.append(suffix)
        if self.kind == COUNTER:
            words.append("total")
        return "_".join(words)

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(key.replace(".", "_") for key in self.attributes)


_UNIT_SUFFIXES = {"By": "bytes", "s": "seconds", "By/s": "bytes_per_second"}


def _row(name: str, kind: str, unit: str, help: str, *attributes: str, semconv: bool = False) -> Metric:
    return Metric(name=name, kind=kind, unit=unit, help=help, attributes=attributes, semconv=semconv)


# fmt: off
_ROWS = (
    # the process, by semantic conventions
    _row("process.memory.usage", UPDOWN, "By", "The amount of physical memory in use.", semconv=True),
    _row("process.memory.virtual", UPDOWN, "By", "The amount of committed virtual memory.", semconv=True),
    _row("process.uptime", GAUGE, "s", "The time the process has been running.", semconv=True),
    _row("process.paging.faults", COUNTER, "{fault}", "Number of page faults the process has made.",
         "system.paging.fault.type", semconv=True),
    _row("cpython.gc.collections", COUNTER, "{collection}",
         "The number of times a generation was collected since interpreter start.", "cpython.gc.generation", semconv=True),
    _row("cpython.gc.collected_objects", COUNTER, "{object}",
         "The total number of objects collected inside a generation since interpreter start.",
         "cpython.gc.generation", semconv=True),
    _row("cpython.gc.uncollectable_objects", COUNTER, "{object}",
         "The total number of objects which were found to be uncollectable inside a generation since interpreter start.",
         "cpython.gc.generation", semconv=True),

    # memory against its limit
    _row("amm.memory.peak", GAUGE, "By",
         "Largest resident set since the process started. Far above current usage: size limits by this, not by the average."),
    _row("amm.memory.swap", GAUGE, "By", "Memory of the process in swap. Growing: latency will follow; find what is cold."),
    _row("amm.memory.usage", GAUGE, "By",
         "Memory held against the limit, by scope: process, tree, cgroup (working set) or host. Tree far above process: look at the children.", "scope"),
    _row("amm.memory.limit", GAUGE, "By",
         "Limits found, by source: policy, cgroup, rlimit_as, rlimit_data, ram. The smallest one binds.", "source"),
    _row("amm.memory.headroom", GAUGE, "By", "Bytes left before the limit that binds. Alert on exhaustion, not on this alone."),
    _row("amm.memory.usage_ratio", GAUGE, "1",
         "Memory use over its limit, by scope. The worst one decides the tier; compare with the tier's threshold ratio.",
         "scope"),
    _row("amm.memory.tier", GAUGE, "{tier}",
         "Pressure tier in force: 0 normal, 1 moderate, 2 high, 3 severe, 4 critical. Shed load from 3 on."),
    _row("amm.memory.tier.active", GAUGE, "{tier}", "1 for the tier in force, 0 for the others. For state timelines; alert on amm.memory.tier.", "tier"),
    _row("amm.memory.tier.threshold_ratio", GAUGE, "1",
         "Usage ratio at which the tier is entered, from the policy. Rules compare with this, so a policy change needs no"
         " rule edit.", "tier"),
    _row("amm.memory.tier.transitions", COUNTER, "{transition}",
         "Tier changes. Many in a short time: widen the hysteresis or the gap between tiers.", "from", "to"),
    _row("amm.memory.tier.time", COUNTER, "s", "Time spent in each tier. Much of it above normal: raise the limit or cut use.",
         "tier"),
    _row("amm.memory.exhaustion", GAUGE, "s",
         "Time until the limit is reached at the measured slope; absent while memory does not grow. Act while it exceeds a restart's time."),
    _row("amm.memory.pressure.stall", COUNTER, "s",
         "Time tasks stood still for want of memory (Linux PSI), kind some or full, scope host or cgroup. Rate above 0.1:"
         " the machine is thrashing.", "kind", "scope"),
    _row("amm.memory.tree.processes", GAUGE, "{process}", "Processes in the tree: this one and its descendants. Only ever more: children are not waited for."),
    _row("amm.cgroup.events", COUNTER, "{event}",
         "memory.events of the cgroup: high (throttled), oom (limit hit), oom_kill (killed). Any oom: raise the limit or cut use.", "event"),

    # adaptive threshold of the anomaly rule, from the policy
    _row("amm.anomaly.deviations", GAUGE, "{deviation}",
         "How many median absolute deviations above the calm median the adaptive threshold stands. Too many alerts: raise it."),
    _row("amm.anomaly.floor_ratio", GAUGE, "1", "Lowest adaptive threshold, as a multiple of the calm median. Alerts on trifles: raise it."),
    _row("amm.anomaly.ceiling_ratio", GAUGE, "1", "Highest adaptive threshold, as a usage ratio. Keep it below the tier high."),

    # leaks
    _row("amm.memory.leak.slope", GAUGE, "By/s", "Estimated growth of the series: rss, tree or cgroup; heap and floor while they leak. Read it with its bounds.", "series"),
    _row("amm.memory.leak.slope.lower", GAUGE, "By/s", "Lower confidence bound of the growth. Above 0 it is certain; whether it is a leak says amm.memory.leak.detected.", "series"),
    _row("amm.memory.leak.slope.upper", GAUGE, "By/s", "Upper confidence bound of the growth. Far above the lower one: wait for more samples.", "series"),
    _row("amm.memory.leak.slope.threshold", GAUGE, "By/s", "Slower growth is called a leak only when it has lasted three hours; from the policy. Alerts on trifles: raise leak.min_slope.", "series"),
    _row("amm.memory.leak.detected", GAUGE, "{leak}", "1 while the series is judged to leak. Next: amm evidence --pid.", "series"),
    _row("amm.memory.leak.onset.age", GAUGE, "s", "Time since the growth began; absent while nothing leaks. Look at what was deployed then.", "series"),
    _row("amm.memory.leak.exhaustion", GAUGE, "s",
         "Time until the leaking series alone reaches the limit at its slope; absent while nothing leaks. Restart before it ends.", "series"),

    # garbage collection
    _row("amm.gc.pause.duration", HISTOGRAM, "s",
         "Time the collector stopped the program, by generation. Generation 2 slow: gc.freeze() after start-up.",
         "generation"),
    _row("amm.gc.pause.max", GAUGE, "s", "Longest collection since the process started, by generation. Above a request's time-out: gc.freeze() after start-up.", "generation"),
    _row("amm.gc.freed", COUNTER, "By", "Resident memory that fell across full collections. Near zero: collecting more is useless."),

    # caches and pools
    _row("amm.cache.requests", COUNTER, "{request}", "Look-ups of a watched cache, result hit or miss. Its rate shows a ratio that has changed since the start.", "name", "result"),
    _row("amm.cache.hit_ratio", GAUGE, "1", "Hits over look-ups since start. Low and full: larger, or not worth having.", "name"),
    _row("amm.cache.entries", GAUGE, "{entry}", "Entries of a watched cache. At its bound, with evictions: too small. Only ever more: it has no bound.", "name"),
    _row("amm.cache.max_entries", GAUGE, "{entry}", "Entries that a watched cache holds at most. Few hits while amm.cache.entries is far below: not too small, its keys hardly come again.", "name"),
    _row("amm.cache.size", GAUGE, "By", "Bytes of a watched cache, where it knows them. A large share of process.memory.usage: bound it by bytes.", "name"),
    _row("amm.cache.evictions", COUNTER, "{eviction}", "Entries pushed out. High beside misses: the cache is too small.", "name"),
    _row("amm.pool.objects", GAUGE, "{object}", "Objects of a watched pool, state used or idle. Many idle: keep fewer. Used at its bound: raise it, or find who keeps them.", "name", "state"),
    _row("amm.pool.requests", COUNTER, "{request}",
         "Acquisitions of a watched pool, result hit (reused), miss (made new) or wait (exhausted). Waits: raise its bound.", "name", "result"),

    # allocators and objects
    _row("amm.allocator.memory", GAUGE, "By",
         "Memory the allocator holds, state used or free. Much free: fragmentation, or a spike that was not given back.",
         "allocator", "state"),
    _row("amm.allocator.fragmentation_ratio", GAUGE, "1", "Free over held memory of the allocator. High after a trim: fragmented.",
         "allocator"),
    _row("amm.allocator.preloaded", GAUGE, "{library}",
         "1 where this malloc is loaded in glibc's place. glibc's numbers are absent then; of these only jemalloc's are read.",
         "allocator"),
    _row("amm.objects", GAUGE, "{object}", "Objects of the most numerous growing types, sampled; the rest is _other. One that only ever grows names the leak.", "type"),

    # plan, actions, budgets
    _row("amm.plan.value", GAUGE, "{value}", "Value of an adaptive setting in the tier in force. Beside throughput: what a tier costs.", "setting"),
    _row("amm.actions", COUNTER, "{action}", "Actions of the governor, by outcome: freed, nothing or failed. Mostly nothing: take it out of the policy.", "action", "outcome"),
    _row("amm.action.freed", COUNTER, "By", "Resident memory that fell across an action, as measured. Little for its count: not worth having.", "action"),
    _row("amm.emergency.stops", COUNTER, "{stop}", "Runs or tests stopped for want of memory. Any is worth a look."),
    _row("amm.budget.limit", GAUGE, "By", "The memory budget set for this process tree. To be drawn beside amm.memory.usage of the tree."),
    _row("amm.budget.usage_ratio", GAUGE, "1", "Memory of the process tree over its budget. Above 1: find what grew, or raise the budget."),

    # test runs: the last run of a suite, sent by export/test_results.py
    _row("amm.test.peak", GAUGE, "By",
         "Largest resident set of the process tree during a test; the tests that used most, by suite. The first to be cut.", "suite", "test"),
    _row("amm.test.growth", GAUGE, "By", "What a test added above its start; the same tests as amm.test.peak. A size for its own budget.", "suite", "test"),
    _row("amm.test.run.peak", GAUGE, "By", "Largest resident set of the process tree during the run. Size CI machines by this.", "suite"),
    _row("amm.test.budget", GAUGE, "By", "Budgets of the run, kind session or test. Peaks near it: raise it or split the tests.",
         "suite", "kind"),
    _row("amm.test.results", GAUGE, "{test}", "Tests of the last run, by outcome: passed, failed, skipped or stopped. Any stopped: see its report.",
         "suite", "outcome"),
    _row("amm.test.breaches", GAUGE, "{breach}", "Budget breaches of the last run, kind session, test or emergency. Any: the run's report names the test.",
         "suite", "kind"),
    _row("amm.test.leaks", GAUGE, "{leak}", "Leak gates of the last run, by verdict: leak, clean, undecided or not repeatable. Any leak: the report names the line.", "suite", "verdict"),
    _row("amm.test.freed", GAUGE, "By", "Resident memory that came back after the tests of the last run. Small beside the peak: something keeps it.", "suite"),
    _row("amm.test.duration", GAUGE, "s", "Time the last run took. Longer at the same tests: swapping, or another limit.", "suite"),
    _row("amm.test.run.timestamp", GAUGE, "s", "Unix time of the end of the last run. Old: results no longer arrive.", "suite"),

    # AMM itself
    _row("amm.probe.success", GAUGE, "{probe}", "1 where the probe could read its source, else 0. At 0, what it would show is absent: the log names the cure.", "probe"),
    _row("amm.self.cpu.time", COUNTER, "s", "CPU time AMM's own sampler has used. Above 1 % of a core: lengthen the policy's interval."),
    _row("amm.self.memory", GAUGE, "By", "Resident memory that starting AMM added. To be taken off when programs with and without it are compared."),
    _row("amm.sampler.lateness", GAUGE, "s",
         "How late the last sample was. Seconds: C code held the GIL, and short peaks were missed."),
    _row("amm.last_sample.timestamp", GAUGE, "s", "Unix time of the sampler's last tick. Old: the sampler is stalled."),
)
# fmt: on

METRICS: dict[str, Metric] = {row.name: row for row in _ROWS}
"""Every metric by its OpenTelemetry name, in the order of documentation."""

# What a family of processes (prefork workers, say) shows of itself in a scrape, beside each worker's own series. Only a
# scrape has them: by OTLP each worker is an instance of its own, and the receiver can sum.
GROUP_METRICS: dict[str, Metric] = {
    row.name: row
    for row in (
        _row("amm.group.processes", GAUGE, "{process}", "Live processes that this scrape shows. Fewer than the server's workers: some share no port or directory with the rest."),
        _row("amm.group.exits", COUNTER, "{process}",
             "Processes of the group that have ended. Rising without a deploy: workers are killed or recycled."),
        _row("amm.group.memory.usage", GAUGE, "By",
             "Resident memory of the live processes, summed as /proc has it now. Shared pages count once a process."),
        _row("amm.group.snapshot.age", GAUGE, "s",
             "Age of what a worker shows, but for its memory, which is read now. Seconds: it did not answer the scrape.",
             "process.pid"),
    )
}  # fmt: skip

SUMMED_METRICS = (
    "process.paging.faults", "cpython.gc.collections", "cpython.gc.collected_objects", "cpython.gc.uncollectable_objects",
    "amm.gc.pause.duration", "amm.gc.freed", "amm.cache.requests", "amm.cache.evictions", "amm.pool.requests",
    "amm.actions", "amm.action.freed", "amm.emergency.stops", "amm.self.cpu.time",
)  # fmt: skip
"""Those of METRICS that a group shows once more, summed over all its processes ever, as `amm_group_*`. What describes the
machine or the cgroup is not among them: the same seconds of pressure seen by four workers are no more than one saw."""
