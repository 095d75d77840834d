"""Hooks for others: a distribution that registers a module or object under the entry-point group `amm` is called here.

    # pyproject.toml of the other distribution
    [project.entry-points.amm]
    paging = "acme_paging.amm_hooks"

    # acme_paging/amm_hooks.py
    from amm_exporter.hookspecs import hookimpl

    @hookimpl
    def amm_tier(change):
        if change.tier.name == "CRITICAL":
            page(f"memory is {change.tier.name}: {change.reading}")

A hook may take fewer arguments than are offered. One that raises is logged once and stops neither the others nor the
program. Hooks are called from the sampling thread: be quick.
"""

from __future__ import annotations

import pluggy

from amm_exporter.model import Sample, Tier, TierChange

PROJECT = "amm"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def amm_sample(sample: Sample, tier: Tier) -> None:
    """After every sample.

    @hookimpl
    def amm_sample(sample):
        gauge.set(sample.worst.ratio)
    """


@hookspec
def amm_tier(change: TierChange) -> None:
    """At every tier change.

    @hookimpl
    def amm_tier(change):
        pool.resize(4 if change.tier.name == "NORMAL" else 1)
    """
