"""The governor: samples memory, decides the tier, publishes both. It does not act beyond that yet.

What is measured and how lives in `sampling`, what it means for the tier in `tier_keeper`. The governor keeps what
happened (transitions, time in tiers, its own cost) as plain numbers, so that an exporter can read them at any moment.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from amm_exporter.control.forks import forget, restart_after_fork
from amm_exporter.control.leak_watch import LeakWatch
from amm_exporter.control.listeners import Listener, Listeners, TierListener
from amm_exporter.control.pause import Pause
from amm_exporter.control.plugins import load_plugins
from amm_exporter.control.sampling import Sampler
from amm_exporter.control.standing import Standing
from amm_exporter.control.tier_keeper import TierKeeper, log_change
from amm_exporter.errors import AMMError, PolicyError
from amm_exporter.model import Sample, Tier, TierChange
from amm_exporter.policy import Policy, load_policy
from amm_exporter.policy.values import PlanValue
from amm_exporter.probes.gc_events import GcProbe

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
    and closes every file. While there is ample room, all looks but one in three seconds are glances, all but one in
    thirty while nothing moves at all: a sample is taken as soon as one shows that use has moved, and a listener to
    every sample gets every one.
    A forked child is another process: the governor starts anew there, counters at zero.

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
        self._thread: threading.Thread | None = None
        self._standing = Standing(self._sampler)
        self._keeper = TierKeeper(self.policy, self._clock())
        self._latest: Sample | None = None
        self._complained = False
        self.leaks = LeakWatch(self.policy)
        # counted from zero, so that a rate sees the first one; nothing acts yet
        names = dict.fromkeys(action for actions in self.policy.actions.values() for action in actions)
        self.actions = {(name, outcome): 0 for name in names for outcome in OUTCOMES}
        self.action_freed_bytes = dict.fromkeys(names, 0)
        self.emergency_stops = 0
        self.cpu_seconds = 0.0
        self.lateness_seconds = 0.0
        self.last_tick_unix_seconds = 0.0

    # -- for the application

    @property
    def tier(self) -> Tier:
        """The tier in force."""
        return self._keeper.track.tier

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
            sample = self._latest = self._sampler.take()
            still_seconds = self._standing.still_seconds
            self._keeper.stood(min(still_seconds, sample.t_seconds - self.policy.interval_seconds))
            change = self._keeper.decide(sample)
            self.leaks.stood(still_seconds)
            self.leaks.add(sample)
            slack_bytes, patience_seconds = self._keeper.slack_bytes, self._listeners.shortest_seconds
            self._standing.begin(sample.t_seconds, slack_bytes=slack_bytes, patience_seconds=patience_seconds)
        self._publish(sample, change)
        return sample

    def subscribe(self, listener: Listener, *, every_seconds: float = 0.0) -> Callable[[], None]:
        """Call `listener(sample, tier)` after every sample, from the sampling thread; returns what undoes it.

        `every_seconds` is for whoever needs no more than one sample in that time, and every one that changes the tier;
        from three seconds on, for whoever can go without for thirty while nothing moves (see `on_rest`).
        """
        undo = self._listeners.on_sample(listener, every_seconds)
        with self._lock:  # after a glance that may be under way: it has not heard of this listener
            self._standing.end()
        return undo

    def on_rest(self, listener: Callable[[], object]) -> Callable[[], None]:
        """Call `listener()` in place of a sample every five seconds while nothing moves; returns what undoes it."""
        return self._listeners.on_rest(listener)

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
        self._start_thread()
        if self.gc is not None:
            self.gc.start()
        restart_after_fork(self)
        return self

    def stop(self) -> None:
        """End the thread, restore the gc callbacks, close the files. Counters stay readable."""
        forget(self)
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._pause.end()
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
        return self._keeper.enter_ratios

    @property
    def exhaustion_seconds(self) -> float | None:
        """Time until the first limit is reached: by a leak's slope where one leaks, by the growth of the last half
        minute where that is nearer. None while memory does not grow, and beyond FARTHEST_SECONDS.
        """
        if self._keeper.worst is None:
            return None
        ahead = [verdict.exhaustion_seconds for verdict in self.leaks.verdicts().values()]
        ahead.append(self._keeper.exhaustion_seconds)
        nearest = min((seconds for seconds in ahead if seconds is not None), default=FARTHEST_SECONDS)
        return nearest if nearest < FARTHEST_SECONDS else None

    @property
    def transitions(self) -> Mapping[tuple[Tier, Tier], int]:
        """How often each (from, to) has happened since start."""
        return self._keeper.track.transitions

    def seconds_in(self, tier: Tier) -> float:
        """Time spent in a tier since start, the current stay included."""
        return self._keeper.track.seconds_in(tier, self._clock())

    def _check_policy(self) -> None:
        limit = self._sampler.take().limit
        try:
            if limit is not None:
                self.policy.enter_ratios(limit.size_bytes)
        except PolicyError:
            self._sampler.close()
            raise

    # -- the loop

    def _run(self, pause: Pause) -> None:
        """Until `pause` ends. What is in this loop is run in cold caches: each line counts at ten looks a second."""
        clock, interval_seconds, over = self._clock, self.policy.interval_seconds, pause.over
        standing, sampler = self._standing, self._sampler
        due = clock() + interval_seconds
        while not over(due - clock()):
            now = clock()
            self.lateness_seconds = max(0.0, now - due)
            if now < standing.rests_until and sampler.is_still() and (now < standing.around_until or self._rest(now)):
                due = now + interval_seconds
                standing.still_seconds = now
            else:
                due = self._tick(now) + clock()

    def _tick(self, now: float) -> float:
        """A glance where that is enough, else a whole look; and how long to wait for the next."""
        try:
            if self._glance(now):
                return self.policy.interval_seconds
            sample = self.sample()
        except Exception:  # the loop outlives whatever a sample may meet
            if not self._complained:
                self._complained = True
                log.warning("sampling failed; trying again", exc_info=True)
            return self.policy.interval_seconds
        self._note(sample.unix_seconds)
        return self._keeper.pause_seconds

    def _note(self, unix_seconds: float) -> None:
        self.last_tick_unix_seconds = unix_seconds
        self.cpu_seconds = time.thread_time()

    def _rest(self, now: float) -> bool:
        """Whether the sample, whose time is over, goes on standing: nothing has moved, here or around."""
        with self._lock:
            if self._listeners.wait(now) or not self._standing.renew(now):
                return False
        self._note(time.time())
        self._listeners.tell_rest()
        return True

    def _glance(self, now: float) -> bool:
        """Whether a glance is enough: the last sample stands, and nothing has moved much since."""
        with self._lock:
            standing = self._standing
            found = self._sampler.glance(standing.slack_bytes) if now < standing.stands_until else None
            if found is not None:
                self.leaks.stood(standing.still_seconds)
                self.leaks.glance(now, found)
            return found is not None

    def _publish(self, sample: Sample, change: TierChange | None) -> None:
        if change is not None:
            log_change(change)
        self._listeners.tell(sample, self.tier, change)

    # -- threads and forks

    def _start_thread(self) -> None:
        self._pause = Pause()
        self._thread = threading.Thread(target=self._run, args=(self._pause,), name="amm-governor", daemon=True)
        self._thread.start()

    def after_fork_in_child(self) -> None:
        """Begin anew: called by `forks`, in the child."""
        self._begin()
        for listener in tuple(self._fork_listeners):
            listener()
        self._start_thread()
