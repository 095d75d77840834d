"""Leaking releases of public packages are found; their fixed releases and programs that look guilty are not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.leaking.releases import RELEASES, Release

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

HERE = Path(__file__).parent.parent
RUN = HERE / "fixtures" / "leaking" / "run.py"
PACED_SECONDS = 45.0
GATE_SECONDS = 10.0
AT_ONCE = 4
"""Paced runs sleep most of the time."""

GUILTY_LOOKING = (
    "bounded_cache", "lazy_imports", "thread_pool", "fragmentation", "saw_tooth", "cyclic_garbage", "allocation_storm",
    "text_in_copies", "backlog", "page_cache",
)  # fmt: skip
GUILTY_PACE = 50.0


def judged(environment: Path | None, *arguments: str) -> dict[str, Any]:
    paths = [str(environment)] if environment else []
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([*paths, str(HERE.parent)])}
    done = subprocess.run(
        [sys.executable, str(RUN), *arguments], env=env, capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Where a release was installed, by pip, once."""
    home, known = tmp_path_factory.mktemp("releases"), dict[str, Path]()

    def install(requirement: str) -> Path:
        if requirement not in known:
            target = home / requirement
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--only-binary", ":all:"]
            subprocess.run(
                [*command, "--target", str(target), requirement], check=True, capture_output=True, timeout=300
            )
            known[requirement] = target
        return known[requirement]

    return install


@pytest.fixture(scope="module")
def paced(installed: Callable[[str], Path]) -> Iterator[dict[str, Future[dict[str, Any]]]]:
    """All paced runs, some at once, by release or program."""
    todo = {one.leaking + one.call: (one.leaking, one.call, one.pace) for one in RELEASES}
    todo |= {one.fixed + one.call: (one.fixed, one.call, one.pace) for one in RELEASES}
    todo |= {name: ("", name, GUILTY_PACE) for name in GUILTY_LOOKING}
    places = {key: installed(release) if release else None for key, (release, _, _) in todo.items()}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {
            key: pool.submit(judged, places[key], "paced", call, str(PACED_SECONDS), str(pace))
            for key, (_, call, pace) in todo.items()
        }


release = pytest.mark.parametrize("case", RELEASES, ids=lambda case: f"{case.leaking}-{case.call}")


@release
def test_gate_finds_the_leaking_release(case: Release, installed: Callable[[str], Path]) -> None:
    answer = judged(installed(case.leaking), "gate", case.call)
    assert answer["decision"] == "leak", (case.issue, answer)
    assert answer["seconds"] < GATE_SECONDS


@release
def test_gate_passes_the_fixed_release(case: Release, installed: Callable[[str], Path]) -> None:
    answer = judged(installed(case.fixed), "gate", case.call)
    assert answer["decision"] == "clean", (case.issue, answer)
    assert answer["seconds"] < GATE_SECONDS


@release
def test_detector_finds_the_leaking_release_while_it_runs(
    case: Release, paced: dict[str, Future[dict[str, Any]]]
) -> None:
    answer = paced[case.leaking + case.call].result()
    assert answer["leaking"], (case.issue, answer)


@release
def test_detector_never_accuses_the_fixed_release(case: Release, paced: dict[str, Future[dict[str, Any]]]) -> None:
    answer = paced[case.fixed + case.call].result()
    assert not answer["leaking"], (case.issue, answer)


@pytest.mark.parametrize("name", GUILTY_LOOKING)
def test_gate_passes_programs_that_look_guilty(name: str) -> None:
    assert judged(None, "gate", name)["decision"] == "clean"


@pytest.mark.parametrize("name", GUILTY_LOOKING)
def test_detector_never_accuses_programs_that_look_guilty(name: str, paced: dict[str, Future[dict[str, Any]]]) -> None:
    answer = paced[name].result()
    assert not answer["leaking"], answer
