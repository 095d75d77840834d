"""A page for every alert and none besides; it tells what to type, and only what exists."""

from __future__ import annotations

import argparse
import importlib
import os
import re
import shlex
from pathlib import Path

import pytest

from amm_exporter.export.alerts import alert_names
from amm_exporter.export.promql import TABLE
from amm_exporter.export.recording import recorded_names
from amm_exporter.policy import load_policy

PAGES = sorted((Path(__file__).parents[2] / "runbooks").glob("*.md"))
POLICY = load_policy({}, environ={})


def test_alerts_and_pages_are_the_same_set():
    assert {page.stem for page in PAGES} == set(alert_names(POLICY))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_has_its_four_parts_in_order_and_none_empty(page):
    title, *parts = re.split(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    assert title == page.stem
    assert parts[1::2] == ["Meaning", "Impact", "Diagnosis", "Mitigation"]
    assert all(len(body.split()) > 4 for body in parts[2::2])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_names_only_metrics_and_pages_that_exist(page):
    text = page.read_text(encoding="utf-8")
    known = {row.prometheus + part for row in TABLE.values() for part in ("", "_sum", "_count", "_bucket")}
    queries = "".join(re.findall(r"```promql\n(.*?)```", text, flags=re.DOTALL))
    named = re.findall(r"\b(?:amm|process|cpython)[_:][a-z0-9_:]+", queries)
    assert set(named) <= known | recorded_names(POLICY)
    assert all((page.parent / target).is_file() for target in re.findall(r"\]\(([^)]+)\)", text))


def commands(page):
    blocks = "".join(re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL))
    lines = (shlex.split(line.replace("PID", str(os.getpid()))) for line in blocks.splitlines())
    return [line for line in lines if line[0] in ("amm", "pytest")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_gives_commands_of_ours_to_type_that_are_understood(page, pytestconfig):
    assert commands(page)
    for program, *arguments in commands(page):
        if program == "pytest":
            assert not pytestconfig._parser.parse_known_and_unknown_args(arguments)[1]
            continue
        parser = argparse.ArgumentParser()
        importlib.import_module(f"amm_exporter.cli.{arguments[0]}").add_arguments(parser)
        parser.parse_args(arguments[1:])
