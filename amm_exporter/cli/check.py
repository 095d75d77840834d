"""Validate a policy and show what it means on this machine: the limit that binds, and where each tier starts.

Exit status 0 when it can be used, 2 when not.
"""

from __future__ import annotations

import argparse

from amm_exporter.cli import options
from amm_exporter.control.sampling import Sampler
from amm_exporter.errors import AMMError
from amm_exporter.model import RAISED_TIERS
from amm_exporter.units import format_ratio, format_size


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_policy_options(parser)


def run(arguments: argparse.Namespace) -> int:
    policy = options.policy(arguments)
    sampler = Sampler(policy)
    sample = sampler.take()
    sampler.close()
    if sample.limit is None:
        raise AMMError("no limit could be found on this machine; set one, as --limit 4GB")
    ratios = policy.enter_ratios(sample.limit.size_bytes)
    print("The policy is valid.")
    for limit in sample.limits:
        binding = "  <- binds" if limit is sample.limit else ""
        print(f"  limit by {limit.source:<12} {format_size(limit.size_bytes):>10}  {limit.where}{binding}")
    for tier, ratio in zip(RAISED_TIERS, ratios, strict=True):
        print(f"  {tier.name:<8} from {format_ratio(ratio):>6} = {format_size(ratio * sample.limit.size_bytes)}")
    for reading in sample.readings:
        print(f"  now: {reading.scope} uses {format_size(reading.used_bytes)}, {format_ratio(reading.ratio)}"
              f" of {format_size(reading.limit_bytes)}")  # fmt: skip
    return 0
