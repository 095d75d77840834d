"""Runs programs under a real Prometheus for a few minutes and keeps what every panel's query then answers.

`python dashboards/pictures/scene.py FOLDER [--seconds 240]` writes FOLDER/<uid>.json: the dashboard and its data, which
draw.mjs makes pictures of. Rules live sixty times as fast here, so that a day's baseline fits into the picture.
"""

from __future__ import annotations

import argparse
import http.server
import json
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "fixtures"))

from monitoring import Prometheus, filled, serve
from pressured import PROGRAM, Pressured

from amm_exporter.export.dashboards import dashboard_files
from amm_exporter.export.promql import Pace
from amm_exporter.export.rules import rule_files
from amm_exporter.export.test_results import prometheus_text, results_of
from amm_exporter.policy import load_policy

STEPS = (0.35,) * 9 + (0.72, 0.35, 0.35, 0.83, 0.35, 0.35, 0.9, 0.35, 0.35, 0.35, 0.5, 0.5, 0.35)
"""What the busy program holds of its limit, a step every ten seconds: calm, three spikes, an unusual level."""
LEAK_RATIO = 0.02
"""What the leaking program holds more at each step."""
WORK = """
import functools, random, threading, time
import amm_exporter as amm
from amm_exporter.kit.cache import Cache
from amm_exporter.kit.pool import Pool

@functools.lru_cache(maxsize=400)
def parse(article):
    return {"article": article, "words": [str(article)] * 50}

buffers = Pool(lambda: bytearray(65536), max_idle=4)
pages = Cache(max_entries=300, max_bytes=1 << 20, size_of=len)
amm.watch("parse", parse)
amm.watch("pages", pages)
amm.watch("buffers", buffers)

def work():
    while True:
        for _ in range(40):
            parse(int(random.expovariate(1 / 200)))
            pages.get_or_make(int(random.gauss(500, 60)), lambda number: b"x" * (2000 + number))
            cycle = []
            cycle.append(cycle)
        with buffers.borrow():
            time.sleep(random.uniform(0.01, 0.05))

for _ in range(3):
    threading.Thread(target=work, daemon=True).start()
"""
TESTS = ("parse", "join", "render", "cache", "stream", "pool", "export", "merge", "diff", "index", "load", "save")
MB = 1 << 20


class Suites:
    """The results of two test suites, a new run every fifteen seconds."""

    def __init__(self) -> None:
        self._noise = random.Random(7)
        self._started = time.time()
        suites = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.end_headers()
                self.wfile.write(suites.page().encode())

            def log_message(self, *_: object) -> None:
                pass

        self.server = serve(Handler)

    def page(self) -> str:
        run = int((time.time() - self._started) / 15)
        unit, load = (results_of(self._report(suite, run), suite=suite) for suite in ("unit", "load"))
        return prometheus_text([*unit, *load])

    def _report(self, suite: str, run: int) -> dict[str, Any]:
        noise = random.Random(f"{suite}{run}")
        size = 90 if suite == "unit" else 700
        growing = 1 + run * 0.04 if suite == "load" else 1.0
        tests = [self._test(suite, number, size * growing, noise) for number in range(len(TESTS))]
        session = {
            "started_unix_seconds": time.time() - noise.uniform(8, 11),
            "budget_bytes": 1024 * MB if suite == "load" else 256 * MB,
        }
        return {"session": session, "tests": tests}

    def _test(self, suite: str, number: int, size: float, noise: random.Random) -> dict[str, Any]:
        peak = int((size * (1 - number * 0.06) + noise.uniform(0, 12)) * MB)
        over = suite == "load" and peak > 1024 * MB
        return {
            "nodeid": f"tests/{suite}/test_{TESTS[number]}.py::test_{TESTS[number]}_many",
            "outcome": "failed" if over else "passed",
            "peak_bytes": peak,
            "growth_bytes": peak // 3,
            "kept_bytes": peak // 20,
            "breach": {"scope": "session", "stopped": True} if over else None,
            "leak": ("clean" if number else "undecided") if number < 5 else "",
        }


def answers(server: Prometheus, board: dict[str, Any], seconds: float, instance: str) -> dict[str, list[Any]]:
    """The result of each target, by panel id and ref id, for one instance or all (`.+`)."""
    found, now = {}, time.time()
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            expr = filled(target["expr"], rate="8s", whole=f"{seconds:.0f}s", instance=instance)
            result = server.query(expr, now) if target.get("instant") else server.range(expr, seconds, until=now)
            found[f"{panel['id']}/{target['refId']}"] = result
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=240)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    (rules,) = rule_files(load_policy({}, environ={}), pace=Pace(speed=60)).values()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        text = WORK + PROGRAM
        busy, leaking, calm = (
            Pressured(folder, text, signal="tree", interval="500ms", budget="180MB") for _ in range(3)
        )
        suites = Suites()
        targets = {"api": [busy.port, leaking.port, calm.port], "ci": [suites.server.server_port]}
        server = Prometheus(folder / "prometheus", targets, rules=rules)
        try:
            calm.hold(0.3)
            stop_at = time.monotonic() + arguments.seconds
            step = 0
            while time.monotonic() < stop_at:
                busy.hold(STEPS[step % len(STEPS)])
                leaking.hold(0.4 + LEAK_RATIO * step)
                step += 1
                time.sleep(10)
            for text in dashboard_files().values():
                board = json.loads(text)
                seconds = arguments.seconds - 10
                instance = f"127.0.0.1:{busy.port}" if board["uid"] == "amm-process" else ".+"
                found = answers(server, board, seconds, instance)
                document = {"board": board, "answers": found, "to": time.time(), "seconds": seconds}
                (arguments.folder / f"{board['uid']}.json").write_text(json.dumps(document), encoding="utf-8")
        finally:
            server.stop()
            for program in (busy, leaking, calm):
                program.stop()
            suites.server.shutdown()


if __name__ == "__main__":
    main()
