"""Watch AMM at work on a real job: Python's standard library, parsed and cached under a limit made for the demo.

The tier moves as the cache fills, the plan makes the cache smaller, the tier falls again. With --leak something is kept
for ever, and no plan helps: after forty seconds, when it can be told from a start, it is named with its type and line.
Ends by itself.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import sys
import textwrap
import time

from amm_exporter.cli import options
from amm_exporter.cli.leak_story import LeakStory
from amm_exporter.cli.outside import Watch
from amm_exporter.cli.workload import Index
from amm_exporter.control.governor import Governor
from amm_exporter.errors import UnitError
from amm_exporter.export.server import PortTakenError
from amm_exporter.model import RAISED_TIERS, Tier, TierChange
from amm_exporter.policy import Policy, load_policy
from amm_exporter.probes.process import ProcessProbe
from amm_exporter.units import MIB, format_duration, format_ratio, format_size, parse_duration

ROOM_BYTES, LEAK_ROOM_BYTES = 70 * MIB, 115 * MIB
"""The demo's limit is this far above what the process uses before the job starts."""
LOOK_UPS_PER_SECOND = 40
"""A service at moderate load, so that the demo leaves the machine usable."""
NARROWEST_BAR, WIDEST_BAR, BESIDE_BAR = 20, 40, 56
"""Columns of the bar, and of what stands beside it."""
NOT_A_TERMINAL = (1000, 24)
"""Columns and lines of a file: nothing is wrapped there."""
GLYPHS, PLAIN_GLYPHS = ("█", "·", "▲", "▼"), ("#", ".", "^", "v")
"""Full and empty cells of the bar, and the way a tier changed: for a terminal that shows them, and for any other."""
COLOURS = {Tier.NORMAL: "32", Tier.MODERATE: "36", Tier.HIGH: "33", Tier.SEVERE: "35", Tier.CRITICAL: "31"}
PLAN = {
    "cached_files": {"normal": 1000, "high": 40, "severe": 15, "critical": 5},
    "batch_size": {"normal": 8, "high": 4, "severe": 2},
}
LEAK_MODULES = 40
LEAK_PLAN = {**PLAN, "cached_files": {"normal": LEAK_MODULES, "severe": 20, "critical": 10}}
"""So few modules are all cached within seconds: what grows then is the leak alone."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=_seconds, default=60.0, metavar="N", help="how long (default: 60)")
    parser.add_argument("--leak", action="store_true", help="keep some results for ever")
    options.add_address_options(parser)


def run(arguments: argparse.Namespace) -> int:
    logging.getLogger("amm").addHandler(logging.NullHandler())  # the screen tells the tier changes itself
    policy = demo_policy(leak=arguments.leak)
    watch = _open(arguments)
    watch.attach(policy)
    governor = watch.session.governor
    screen = Screen(
        governor,
        colours=sys.stdout.isatty() and not os.environ.get("NO_COLOR"),
        glyphs=GLYPHS if _can_show("".join(GLYPHS), sys.stdout.encoding) else PLAIN_GLYPHS,
    )
    screen.introduce(watch.url, arguments)
    governor.on_tier(screen.tier_changed)
    story = LeakStory(governor, screen.say)
    index = Index(
        lambda: int(governor.setting("cached_files")),
        leak=arguments.leak,
        modules=LEAK_MODULES if arguments.leak else None,
    )
    try:
        _work(governor, index, screen, story, arguments.seconds)
    except KeyboardInterrupt:
        screen.say("stopped by Ctrl-C")
    story.stop()
    screen.summarise(index, story)
    watch.stop()
    return 0


def demo_policy(*, leak: bool) -> Policy:
    """The defaults under a limit that this process will meet within seconds."""
    probe = ProcessProbe()
    limit_bytes = probe.read().rss_bytes + (LEAK_ROOM_BYTES if leak else ROOM_BYTES)
    probe.close()
    plan = LEAK_PLAN if leak else PLAN
    return load_policy({"limit": limit_bytes, "signal": "process", "interval": "200ms", "plan": plan}, environ={})


def _work(governor: Governor, index: Index, screen: Screen, story: LeakStory, seconds: float) -> None:
    begun = due = time.monotonic()
    next_line = begun + 1.0
    while (now := time.monotonic()) - begun < seconds:
        batch_size = int(governor.setting("batch_size"))
        index.work(batch_size)
        due += batch_size / LOOK_UPS_PER_SECOND
        time.sleep(max(0.0, due - time.monotonic()))
        if now >= next_line:
            screen.line(now - begun, index)
            story.look(now - begun)
            next_line += 1.0


def _open(arguments: argparse.Namespace) -> Watch:
    """On the usual port; on any free one if that is taken and none was asked for."""
    try:
        return Watch(host=arguments.listen, port=arguments.port, web_config=arguments.web_config)
    except PortTakenError:
        if arguments.port is not None:
            raise
        return Watch(host=arguments.listen, port=0, web_config=arguments.web_config)


def _seconds(text: str) -> float:
    try:
        return parse_duration(text)
    except UnitError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _parting(*, leaked: bool, known: bool) -> str:
    if known:
        return "ask a program of yours the same: amm evidence --pid PID --output evidence.json"
    if leaked:
        return "no leak is certain yet: for the first forty seconds a start looks the same"
    return "the same with a leak that no plan helps: amm demo --leak"


def _can_show(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


class Screen:
    """What the demo prints: a line a second, and one whenever the tier changes."""

    def __init__(self, governor: Governor, *, colours: bool, glyphs: tuple[str, str, str, str]) -> None:
        self._governor = governor
        self._colours = colours
        self._full, self._empty, self._up, self._down = glyphs
        self._columns = shutil.get_terminal_size(NOT_A_TERMINAL).columns
        self._peak_bytes = 0

    def introduce(self, url: str, arguments: argparse.Namespace) -> None:
        policy = self._governor.policy
        self.say(f"amm demo: {format_duration(arguments.seconds)}, limit {format_size(policy.limit_bytes or 0)}")
        self.say("job:      parses Python's standard library and caches the results" + (", and leaks" * arguments.leak))
        self.say(f"metrics:  {url}")
        self.say(f"page:     {url.removesuffix('metrics')}")
        starts = zip(RAISED_TIERS, self._governor.enter_ratios, strict=True)
        self.say("tiers:    " + ", ".join(f"{tier.name} from {format_ratio(ratio)}" for tier, ratio in starts))
        self.say(" " * 22 + "memory against the limit; | marks where a tier starts")

    def line(self, elapsed_seconds: float, index: Index) -> None:
        sample = self._governor.latest
        worst = sample.worst if sample else None
        if worst is None:
            return
        self._peak_bytes = max(self._peak_bytes, worst.used_bytes)
        last = f"{index.leaked} leaked" if index.leaked else f"{format_ratio(round(index.hit_ratio, 2))} hits"
        self.say(
            f"{elapsed_seconds:4.0f}s {self._tier(self._governor.tier)} {self._bar(worst.ratio)}"
            f" {format_ratio(worst.ratio):>6} {format_size(worst.used_bytes):>9}"
            f"  {index.cached} cached, {last}"
        )

    def tier_changed(self, change: TierChange) -> None:
        plan = ", ".join(f"{name} {self._governor.setting(name)}" for name in self._governor.policy.plan)
        arrow = self._up if change.tier > change.previous else self._down
        left, entered = (self._paint(tier.name, tier) for tier in (change.previous, change.tier))
        self.say(f"      {arrow} {left} -> {entered}: plan {plan}")

    def summarise(self, index: Index, story: LeakStory) -> None:
        governor = self._governor
        spent = {tier: governor.seconds_in(tier) for tier in Tier}
        time_in = ", ".join(f"{tier.name} {format_duration(seconds)}" for tier, seconds in spent.items() if seconds)
        pause = max(governor.gc.max_pause_seconds(generation) for generation in range(3)) if governor.gc else 0.0
        self.say("")
        self.say(f"looked up {index.lookups}, parsed {index.parsed} modules ({index.definitions} definitions)")
        self.say(f"peak {format_size(self._peak_bytes)} of {format_size(governor.policy.limit_bytes or 0)}")
        changes = sum(governor.transitions.values())
        self.say(f"time in tiers: {time_in}; {changes} change{'s' * (changes != 1)}")
        self.say(f"longest garbage collection: {format_duration(pause)}")
        for line in story.told():
            self.say(textwrap.fill(line, self._columns, subsequent_indent=" " * 11, break_on_hyphens=False))
        share = governor.cpu_seconds / sum(spent.values())
        self.say(
            f"AMM's own cost: {format_duration(governor.cpu_seconds)} of CPU for its samples, {share:.1%} of a core"
        )
        self.say(_parting(leaked=bool(index.leaked), known=story.known))

    def say(self, text: str) -> None:
        print(text, flush=True)

    def _tier(self, tier: Tier) -> str:
        return self._paint(f"{tier.name:<8}", tier)

    def _bar(self, ratio: float) -> str:
        width = min(WIDEST_BAR, max(NARROWEST_BAR, self._columns - BESIDE_BAR))
        cells = [self._full if position < ratio * width else self._empty for position in range(width)]
        for enter in self._governor.enter_ratios:
            cells[min(width - 1, int(enter * width))] = "|"
        return self._paint("".join(cells), self._governor.tier)

    def _paint(self, text: str, tier: Tier) -> str:
        return f"\x1b[{COLOURS[tier]}m{text}\x1b[0m" if self._colours else text
