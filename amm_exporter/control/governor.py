"""The governor: samples memory, decides the tier, publishes both. It does not act beyond that yet.

What is measured and how lives in `sampling`, what a ratio means in `analysis.tiers`. The governor keeps what happened
(transitions, time in tiers, its own cost) as plain numbers, so that an exporter can read them at any moment.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from amm_exporter.analysis.tiers import TierTrack, classify, fill_rate, next_pause, smoothed_rate
from amm_exporter.control.leak_watch import LeakWatch
from amm_exporter.control.listeners import Listener, Listeners, TierListener
from amm_exporter.control.plugins import load_plugins
from amm_exporter.control.sampling import Sampler
from amm_exporter.errors import AMMError, PolicyError
from amm_exporter.model import Sample, Tier, TierChange
from amm_exporter.policy import Policy, load_policy
from amm_exporter.policy.values import PlanValue
from amm_exporter.probes.gc_events import GcProbe
from amm_exporter.units import format_ratio, format_size

if TYPE_CHECKING:
    from pluggy import PluginManager

log = logging.getLogger("amm.control")


OUTCOMES = ("freed", "nothing", "failed")
FARTHEST_SECONDS = 30 * 86400.0
"""Nobody acts on a prediction beyond a month, and noise around no growth predicts years."""


class Governor:
    """Watches one process: the own one, or `pid` from outside.

        with Governor() as governor:
            for batch in chunks(items, governor.setting("batch_size")):
                ...

    `start` begins a daemon thread that samples at the policy's interval, faster as the headroom shrinks; `stop` ends it
    and closes every file. A forked child is another process: the governor starts anew there, counters at zero.

    Args:
        policy: as `load_policy` takes it. Raises PolicyError for one that cannot be used.
        sampler: where samples come from, for tests.
        plugins: finds the hooks of other distributions (see `hookspecs`) when the governor starts.
    """

    def __init__(
        self,
        policy: Policy | Mapping[str, object] | str | None = None,
        *,
        pid: int | None = None,
        sampler: Sampler | None = None,
        plugins: Callable[[], PluginManager | None] = load_plugins,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.policy = load_policy(policy)
        self.gc = GcProbe() if pid is None else None
        self._sampler = sampler or Sampler(self.policy, pid)
        self._find_plugins = plugins
        self._clock = clock
        self._listeners = Listeners()
        self._fork_listeners: list[Callable[[], object]] = []
        self._begin()

    def _begin(self) -> None:
        """State of a fresh start, here and in a forked child."""
        self._lock = threading.RLock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._track = TierTrack(self._clock())
        self._latest: Sample | None = None
        self._rate = 0.0
        self._trend = 0.0
        self.leaks = LeakWatch(self.policy)
        # counted from zero, so that a rate sees the first one; nothing acts yet
        names = dict.fromkeys(action for actions in self.policy.actions.values() for action in actions)
        self.actions = {(name, outcome): 0 for name in names for outcome in OUTCOMES}
        self.action_freed_bytes = dict.fromkeys(names, 0)
        self.emergency_stops = 0
        self._enter_ratios: tuple[float, ...] = ()
        self._enter_limit = 0
        self.cpu_seconds = 0.0
        self.lateness_seconds = 0.0
        self.last_tick_unix_seconds = 0.0
        self._complaints: set[str] = set()

    # -- for the application

    @property
    def tier(self) -> Tier:
        """The tier in force."""
        return self._track.tier

    @property
    def latest(self) -> Sample | None:
        """The last sample taken, None before the first."""
        return self._latest

    def setting(self, name: str) -> PlanValue:
        """The plan's value for a setting in the tier in force. Raises AMMError, naming the settings there are."""
        if name not in self.policy.plan:
            raise AMMError(f"the plan has no setting {name!r}; it has: {', '.join(self.policy.plan)}")
        return self.policy.setting(name, self.tier)

    def sample(self) -> Sample:
        """Look now, decide the tier, publish both; the same as a tick of the thread."""
        with self._lock:
            sample = self._sampler.take()
            change = self._decide(sample)
            self.leaks.add(sample)
        self._publish(sample, change)
        return sample

    def fresh(self, max_age_seconds: float = 0.02) -> Sample:
        """The last sample if it is young enough, else a new one: what a scrape reads."""
        latest = self._latest
        if latest is not None and self._clock() - latest.t_seconds <= max_age_seconds:
            return latest
        return self.sample()

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call `listener(sample, tier)` after every sample, from the sampling thread; returns what undoes it."""
        return self._listeners.on_sample(listener)

    def on_tier(self, listener: TierListener) -> Callable[[], None]:
        """Call `listener(change)` at every tier change, from the sampling thread; returns what undoes it."""
        return self._listeners.on_tier(listener)

    def on_fork(self, listener: Callable[[], object]) -> Callable[[], None]:
        """Call `listener()` in a forked child, before a thread of AMM runs there; returns what undoes it, once."""
        self._fork_listeners.append(listener)
        return lambda: self._fork_listeners.remove(listener)

    def start(self) -> Governor:
        """Begin to watch; twice is harmless. Raises PolicyError for thresholds out of order on this machine."""
        if self._thread is not None:
            return self
        self._check_policy()
        if (plugins := self._find_plugins()) is not None:
            self._listeners.connect(plugins)
        self.sample()
        self._stopping = threading.Event()
        self._start_thread()
        if self.gc is not None:
            self.gc.start()
        _restart_after_fork(self)
        return self

    def stop(self) -> None:
        """End the thread, restore the gc callbacks, close the files. Counters stay readable."""
        _RUNNING.discard(self)
        thread, self._thread = self._thread, None
        if thread is not None:
            self._stopping.set()
            if thread is not threading.current_thread():  # a listener may stop its own governor
                thread.join()
        self._listeners.disconnect()
        if self.gc is not None:
            self.gc.stop()
        self._sampler.close()

    def __enter__(self) -> Governor:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    # -- for exporters

    @property
    def running(self) -> bool:
        return self._thread is not None

    @property
    def sampler(self) -> Sampler:
        return self._sampler

    @property
    def enter_ratios(self) -> tuple[float, ...]:
        """Where MODERATE, HIGH, SEVERE and CRITICAL are entered, under the limit in force."""
        return self._enter_ratios

    @property
    def exhaustion_seconds(self) -> float | None:
        """Time until the worst reading reaches its limit: by a leak's slope where one leaks, by the growth of the last
        half minute where that is nearer. None while memory does not grow, and beyond FARTHEST_SECONDS.
        """
        worst = self._latest.worst if self._latest else None
        if worst is None:
            return None
        ahead = [verdict.exhaustion_seconds for verdict in self.leaks.verdicts().values()]
        ahead += [worst.headroom_bytes / self._trend] if self._trend > 0 else []
        nearest = min((seconds for seconds in ahead if seconds is not None), default=FARTHEST_SECONDS)
        return nearest if nearest < FARTHEST_SECONDS else None

    @property
    def transitions(self) -> Mapping[tuple[Tier, Tier], int]:
        """How often each (from, to) has happened since start."""
        return self._track.transitions

    def seconds_in(self, tier: Tier) -> float:
        """Time spent in a tier since start, the current stay included."""
        return self._track.seconds_in(tier, self._clock())

    def _check_policy(self) -> None:
        limit = self._sampler.take().limit
        try:
            if limit is not None:
                self.policy.enter_ratios(limit.size_bytes)
        except PolicyError:
            self._sampler.close()
            raise

    # -- the loop

    def _run(self, stopping: threading.Event) -> None:
        pause = self.policy.interval_seconds
        due = self._clock() + pause
        while not stopping.wait(max(0.0, due - self._clock())):
            self.lateness_seconds = max(0.0, self._clock() - due)
            begun = time.thread_time()
            pause = self._tick(pause)
            self.cpu_seconds += time.thread_time() - begun
            due = self._clock() + pause

    def _tick(self, pause: float) -> float:
        try:
            sample = self.sample()
        except Exception:  # noqa: BLE001 - the loop outlives whatever a sample may meet
            self._complain("tick", "sampling failed; trying again", exc_info=True)
            return self.policy.interval_seconds
        self.last_tick_unix_seconds = sample.unix_seconds
        worst = sample.worst
        return next_pause(worst.headroom_bytes if worst else 0, self._rate, self.policy.interval_seconds)

    def _decide(self, sample: Sample) -> TierChange | None:
        worst, previous = sample.worst, self._latest
        self._latest = sample
        if worst is None:
            self._complain("reading", f"signal {self.policy.signal!r} has no data here; the tier stays as it is")
            return None
        self._update_rate(sample, previous)
        self._update_thresholds(sample)
        tier = classify(worst.ratio, self.tier, self._enter_ratios, self.policy.hysteresis_ratio)
        left = self._track.move(sample.t_seconds, tier)
        if left is None:
            return None
        return TierChange(t_seconds=sample.t_seconds, previous=left, tier=tier, reading=worst)

    def _update_rate(self, sample: Sample, previous: Sample | None) -> None:
        if previous is None or previous.worst is None or sample.worst is None:
            return
        if previous.worst.scope == sample.worst.scope:
            grown = sample.worst.used_bytes - previous.worst.used_bytes
            elapsed = sample.t_seconds - previous.t_seconds
            self._rate = fill_rate(self._rate, grown, elapsed)
            self._trend = smoothed_rate(self._trend, grown, elapsed)

    def _update_thresholds(self, sample: Sample) -> None:
        limit_bytes = sample.limit.size_bytes if sample.limit else 0
        if self._enter_ratios and limit_bytes == self._enter_limit:
            return
        self._enter_limit = limit_bytes
        try:
            self._enter_ratios = self.policy.enter_ratios(limit_bytes)
        except PolicyError as error:
            self._complain("order", f"{error}; tiers above the disorder are entered together")
            ratios = [threshold.ratio_of(limit_bytes, self.policy.target_bytes) for threshold in self._ladder()]
            self._enter_ratios = tuple(max(ratios[: index + 1]) for index in range(len(ratios)))

    def _ladder(self) -> list[Any]:
        return [self.policy.thresholds[tier] for tier in sorted(self.policy.thresholds)]

    def _publish(self, sample: Sample, change: TierChange | None) -> None:
        if change is not None:
            _log_change(change)
        self._listeners.tell(sample, self.tier, change)

    def _complain(self, about: str, text: str, *, exc_info: bool = False) -> None:
        """Log once for each thing."""
        if about not in self._complaints:
            self._complaints.add(about)
            log.warning("%s", text, exc_info=exc_info)

    # -- threads and forks

    def _start_thread(self) -> None:
        self._thread = threading.Thread(target=self._run, args=(self._stopping,), name="amm-governor", daemon=True)
        self._thread.start()

    def _after_fork_in_child(self) -> None:
        self._begin()
        for listener in tuple(self._fork_listeners):
            listener()
        self._start_thread()


def _log_change(change: TierChange) -> None:
    reading = change.reading
    where = (
        f"{reading.scope} uses {format_size(reading.used_bytes)}, {format_ratio(reading.ratio)} of "
        f"{format_size(reading.limit_bytes)}"
        if reading
        else "no reading"
    )
    level = logging.WARNING if change.tier > change.previous and change.tier >= Tier.HIGH else logging.INFO
    log.log(level, "memory tier %s -> %s: %s", change.previous.name, change.tier.name, where)


# The interpreter keeps fork handlers for ever: one for the module, over governors that it does not keep alive.
_RUNNING: weakref.WeakSet[Governor] = weakref.WeakSet()
_fork_handler_once = threading.Lock()


def _restart_after_fork(governor: Governor) -> None:
    follow_forks()
    _RUNNING.add(governor)


def follow_forks() -> None:
    """Register the handler, once. What takes a governor's locks in a forked child registers its own after this.

    Handlers run in the order of registration, and until this one has run a lock may be held by a thread that is not
    there: a scrape in the child waited for ever, one fork in ten under two busy scrapers.
    """
    if hasattr(os, "register_at_fork") and _fork_handler_once.acquire(blocking=False):
        os.register_at_fork(after_in_child=_after_fork_in_child)


def _after_fork_in_child() -> None:
    for governor in tuple(_RUNNING):
        governor._after_fork_in_child()
