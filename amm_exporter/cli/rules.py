"""Print the Prometheus rules for a policy.

    amm rules > rules/amm.yml
    amm rules --kubernetes | kubectl apply -f -
    amm rules --alertmanager > alertmanager.yml   (CRITICAL inhibits the rest)

The thresholds in the rules are read from what each process exports.
"""

from __future__ import annotations

import argparse

from amm_exporter.cli import options
from amm_exporter.export.rules import RUNBOOK_URL, alertmanager_example, kubernetes_manifest, rule_files


def add_arguments(parser: argparse.ArgumentParser) -> None:
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--kubernetes", action="store_true", help="as a PrometheusRule resource")
    form.add_argument("--alertmanager", action="store_true", help="an Alertmanager configuration instead")
    parser.add_argument(
        "--runbook-url", metavar="URL", default=RUNBOOK_URL, help="where runbooks are; {alert} stands for the name"
    )
    options.add_policy_options(parser)


def run(arguments: argparse.Namespace) -> int:
    policy = options.policy(arguments)
    if arguments.alertmanager:
        text = alertmanager_example()
    elif arguments.kubernetes:
        text = kubernetes_manifest(policy, runbook_url=arguments.runbook_url)
    else:
        text = "".join(rule_files(policy, runbook_url=arguments.runbook_url).values())
    print(text, end="")
    return 0
