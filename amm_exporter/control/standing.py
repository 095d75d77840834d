"""How long the last sample stands while memory is calm: the looks until then are cheaper than a whole one."""

from __future__ import annotations

from amm_exporter.control.sampling import STAND_SECONDS, Sampler

NEVER = float("-inf")


class Standing:
    """Begins anew with each sample.

    Until `stands_until` a glance is enough. While not a page moves, that is so until `rests_until`, if what is around
    the process is looked at when `around_until` is over.
    """

    __slots__ = ("_sampler", "around_until", "rests_until", "slack_bytes", "stands_until", "still_seconds")

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler
        self.slack_bytes = 0
        """By how much use may move meanwhile; 0 where it must not stand at all."""
        self.still_seconds = NEVER
        """When nothing had moved, as the governor found last."""
        self.end()

    def begin(self, t_seconds: float, *, slack_bytes: int, patience_seconds: float) -> None:
        """A sample of that time stands: not at all without slack, and no longer than a listener wants to wait; one that
        waits for STAND_SECONDS does so for as long as nothing moves."""
        self.slack_bytes = slack_bytes
        self.end()
        if slack_bytes:
            sampler = self._sampler
            self.stands_until = self.around_until = self.rests_until = min(
                sampler.stands_until, t_seconds + patience_seconds
            )
            if patience_seconds >= STAND_SECONDS:
                self.around_until, self.rests_until = sampler.around_until, sampler.rests_until

    def end(self) -> None:
        """The next look is a whole one."""
        self.stands_until = self.around_until = self.rests_until = NEVER

    def renew(self, now: float) -> bool:
        """Whether it goes on standing: nothing has moved around the process either."""
        renewed = self._sampler.renew(now, self.slack_bytes)
        if renewed:
            self.around_until = self._sampler.around_until
        return renewed
