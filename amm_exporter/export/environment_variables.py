"""Policy keys as flags of opentelemetry-instrument: `opentelemetry-instrument --amm_budget 1536MB python app.py`.

OpenTelemetry makes a flag of each constant here, by its name; the flag sets the variable of that name, and the policy
reads OTEL_PYTHON_AMM_X as it reads AMM_X.
"""

from __future__ import annotations

from amm_exporter.policy.keys import KEYS, environment_variable

for _key in KEYS:
    globals()[f"OTEL_PYTHON_{environment_variable(_key)}"] = f"OTEL_PYTHON_{environment_variable(_key)}"
OTEL_PYTHON_AMM_CONFIG = "OTEL_PYTHON_AMM_CONFIG"
