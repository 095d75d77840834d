"""Runs a test body until it is decided whether each call leaves memory behind: `@pytest.mark.amm_leak`, `--amm-leaks`.

The deciding is `amm_exporter.control.leak_gate`; this file knows tests: their arguments, their marker, their failure.
"""

from __future__ import annotations

import contextlib
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from amm_exporter.errors import AMMError, ProbeError, UnitError, did_you_mean
from amm_exporter.units import format_ratio, format_size, parse_duration, parse_ratio, parse_size
from pytest_amm.captured import again
from pytest_amm.failure import OverBudget
from pytest_amm.markers import nearest

if TYPE_CHECKING:
    from amm_exporter.control.leak_gate import PerCallVerdict
    from pytest_amm.suitegrowth import SuiteReader

MARKER = "amm_leak"
DECISION = pytest.StashKey[str]()
"""leak, clean, undecided or not repeatable, once a test was checked."""

SUITE_SECONDS = 3.0
"""With --amm-leaks a test without a marker is given this long: a suite has many."""
MARKED = "@pytest.mark.amm_leak({})"
_REPEAT = "not repeatable"
_OF_ONE_CALL = frozenset({"benchmark", "subtests"})
"""Fixtures that report of each call, or refuse a second one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakRule:
    """What a marker asks for. `max_per_call_bytes` may stay behind after each call; without a number of warm-up calls
    there are 20, fewer of a slow body."""

    max_per_call_bytes: int = 1024
    warmup_count: int | None = None
    confidence_ratio: float = 0.99
    time_limit_seconds: float = 8.0


def rule_of(item: pytest.Item, *, every: bool) -> LeakRule | None:
    """The rule of one test, None where it is not to be checked. Raises pytest.UsageError for an unusable marker."""
    marker = nearest(item, MARKER)
    if marker is None:
        return LeakRule(time_limit_seconds=SUITE_SECONDS) if every and _repeatable(item) else None
    where = f"{item.nodeid}: @pytest.mark.amm_leak"
    if not _repeatable(item):
        raise pytest.UsageError(
            f"{where}: works on plain test functions{_but(item)}; elsewhere call the fixture: amm.leak_check(fn)"
        )
    if marker.args:
        raise pytest.UsageError(
            f"{where}: got {len(marker.args)} positional arguments; write amm_leak(max_per_call='1KB')"
        )
    try:
        return parse_rule(marker.kwargs)
    except AMMError as error:
        raise pytest.UsageError(f"{where}: {error}") from None


def parse_rule(arguments: Mapping[str, Any]) -> LeakRule:
    """A rule from keyword arguments as people write them. Raises UnitError."""
    values: dict[str, Any] = {}
    for name, value in arguments.items():
        if name not in _ARGUMENTS:
            raise UnitError(name, "an argument of amm_leak", did_you_mean(name, _ARGUMENTS))
        field, parse = _ARGUMENTS[name]
        values[field] = parse(value)
    return LeakRule(**values)


def check(
    fn: Callable[[], object], rule: LeakRule, *, what: str, headroom_bytes: int | None = None, typed: str = MARKED
) -> PerCallVerdict:
    """Decide, and raise when `fn` leaks; within the headroom, so that a leak is told as one, not as a breach.

    `typed` is what to write, with an argument, where it is to be judged otherwise.
    """
    from amm_exporter.control.leak_gate import leak_per_call

    verdict = leak_per_call(
        fn,
        max_per_call_bytes=rule.max_per_call_bytes,
        warmup=rule.warmup_count,
        confidence=rule.confidence_ratio,
        time_limit_seconds=rule.time_limit_seconds,
        most_gained_bytes=most_gained_bytes(headroom_bytes, free_bytes()),
    )
    if verdict.decision == "leak":
        raise OverBudget(explain(verdict, rule, what=what, typed=typed), pytrace=False)
    return verdict


def most_gained_bytes(headroom_bytes: int | None, free_bytes: int | None) -> int:
    """How far a leak may grow: to a quarter of what the budgets leave, since a batch may be twice the last, and to a
    32nd of what the machine does. What leaks stays, and all tests of a suite may leak.
    """
    from amm_exporter.control.leak_gate import MOST_GAINED_BYTES

    rooms = ((headroom_bytes, 4), (free_bytes, 32))
    return min([MOST_GAINED_BYTES, *(room // share for room, share in rooms if room is not None)])


def free_bytes() -> int | None:
    """What the machine has left, or the container where that is less; None where neither can be read."""
    from amm_exporter.probes.limit import LimitProbe

    probe = LimitProbe()
    free = []
    try:
        host = probe.host()
        free.append(host.available_bytes)
        cgroup = probe.cgroup()
        if cgroup is not None and cgroup.limit_bytes:
            free.append(max(0, cgroup.limit_bytes - cgroup.working_set_bytes))
    except ProbeError:
        pass  # what could be read counts
    finally:
        probe.close()
    return min(free, default=None)


def explain(verdict: PerCallVerdict, rule: LeakRule, *, what: str, typed: str) -> str:
    """The failure text of a leak."""
    from amm_exporter.analysis.per_call import OUTLAST_CALLS

    alike = format_size(verdict.bytes_per_call) == format_size(rule.max_per_call_bytes)
    size = _exact if alike else format_size
    bounds = dict.fromkeys(map(size, (verdict.lower, verdict.upper)))  # one where they are written alike
    lines = [
        f"leaks {size(verdict.bytes_per_call)} a call, {size(rule.max_per_call_bytes)} allowed",
        f"  what     {what}",
        f"  bounds   {' to '.join(bounds)} at {format_ratio(rule.confidence_ratio)} confidence, "
        f"after {verdict.calls:,} calls, of {verdict.series} memory",
    ]
    lines += [f"  type     {name}: {count:.3g} more a call" for name, count in verdict.types]
    lines += [f"  line     {site}: {format_size(size)} a call" for site, size in verdict.sites]
    lines += [f"  how      {reason}" for reason in verdict.reasons[1:]]  # the first says what stands above
    if verdict.calls < OUTLAST_CALLS:
        lines.append(f"  next     if only a cache fills, in so few calls: {typed.format(f'warmup={OUTLAST_CALLS}')}")
    given = 'max_per_call="..."'
    lines.append(f"  next     if this is meant to stay: {typed.format(given)}")
    return "\n".join(lines)


def _exact(size_bytes: float) -> str:
    return f"{size_bytes:,.1f} B"


def _longer(verdict: PerCallVerdict) -> str:
    """What to type where the time was too short."""
    given = f'time_limit="{math.ceil(verdict.enough_seconds)}s"'
    return f"give it longer: {MARKED.format(given)}"


def _named(raised: BaseException) -> str:
    return f"{type(raised).__name__}: {raised}".partition("\n")[0]


class LeakGate:
    """The plugin object that runs the bodies of checked tests."""

    def __init__(self, *, every: bool, headroom: Callable[[], int | None]) -> None:
        """`headroom` tells how much further the present test may grow within its budgets."""
        self._every = every
        self._headroom = headroom
        self._rules: dict[str, LeakRule] = {}
        self._suite: SuiteReader | None = None

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """A whole suite is checked for what no body shows when it is called again: fixtures, unittest, plugins."""
        if self._every:
            from pytest_amm.suitegrowth import watch_suite

            self._suite = watch_suite(session.config)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            rule = rule_of(item, every=self._every)
            if rule is not None:
                self._rules[item.nodeid] = rule

    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> bool | None:
        rule = self._rules.get(pyfuncitem.nodeid)
        if rule is None:
            return None
        function = pyfuncitem.obj
        arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
        function(**arguments)  # a failure of the body itself is its own, without ours around it
        marked = pyfuncitem.get_closest_marker(MARKER) is not None
        with self._suite.aside() if self._suite else contextlib.nullcontext(), again(pyfuncitem.config) as captured:

            def call() -> None:
                function(**arguments)
                captured.forget()

            pyfuncitem.stash[DECISION] = self._check(call, rule, pyfuncitem, marked=marked)
        return True

    def _check(self, fn: Callable[[], object], rule: LeakRule, item: pytest.Function, *, marked: bool) -> str:
        try:
            verdict = check(fn, rule, what=item.nodeid + _filled(item), headroom_bytes=self._headroom())
        except OverBudget:
            item.stash[DECISION] = "leak"
            raise
        except (Exception, pytest.skip.Exception, pytest.fail.Exception) as raised:  # what tests raise
            if marked:
                raise
            item.add_report_section("call", "amm", f"not checked: called again, it raised {_named(raised)}")  # for -rP
            return _REPEAT  # with --amm-leaks nobody said that this test can run twice
        if verdict.decision == "undecided":
            more = (_longer(verdict),) if verdict.enough_seconds else ()  # at the limit, time does not help
            item.add_report_section("call", "amm", "\n".join((*verdict.reasons, *more)))  # told by -rP
        return verdict.decision


def _repeatable(item: pytest.Item) -> bool:
    """Plain functions and methods: not unittest's (no arguments to call again with), not coroutines."""
    if not isinstance(item, pytest.Function) or type(item).__name__ == "TestCaseFunction":
        return False
    return not (runs_later(item.obj) or _OF_ONE_CALL & set(item.fixturenames))


def _but(item: pytest.Item) -> str:
    used = sorted(_OF_ONE_CALL & set(getattr(item, "fixturenames", ())))
    return f" that do not use the fixture {used[0]!r}" if used else ""


def _filled(item: pytest.Function) -> str:
    """What a call puts into a fixture stays while the body is called again, and is no leak if the fixture drops it."""
    given = item.callspec.params if hasattr(item, "callspec") else {}
    names = [name for name in item._fixtureinfo.argnames if name not in given]
    return f", with all it puts into its fixtures: {', '.join(names)}" if names else ""


def runs_later(fn: object) -> bool:
    """Whether a call only makes a coroutine or a generator, and runs nothing of it."""
    kinds = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)
    return any(kind(fn) for kind in kinds)


def _warmup(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 1_000_000:
        raise UnitError(value, "a whole number of calls from 0 to 1000000")
    return value


def _confidence(value: object) -> float:
    ratio = parse_ratio(value)
    if not 0.5 < ratio < 1:
        raise UnitError(value, "a confidence between 50% and 100%, as '99%'")
    return ratio


_ARGUMENTS: dict[str, tuple[str, Callable[[Any], object]]] = {
    "max_per_call": ("max_per_call_bytes", parse_size),
    "warmup": ("warmup_count", _warmup),
    "confidence": ("confidence_ratio", _confidence),
    "time_limit": ("time_limit_seconds", parse_duration),
}
