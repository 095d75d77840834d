"""The one policy that exporter, governor, pytest plugin and rules follow.

`values` holds the typed policy, `keys` the table of its keys with their parsers and documentation, `load` the way from
defaults, file, environment and flags to a checked `Policy`.
"""

from amm_exporter.policy.keys import KEYS, Key, environment_variable
from amm_exporter.policy.load import load_policy
from amm_exporter.policy.values import AnomalyPolicy, LeakPolicy, Policy, Threshold

__all__ = [
    "KEYS",
    "AnomalyPolicy",
    "Key",
    "LeakPolicy",
    "Policy",
    "Threshold",
    "environment_variable",
    "load_policy",
]
