"""Evidence of a leak as an OpenTelemetry log record, for whoever collects logs; nothing where nobody does."""

from __future__ import annotations

import json
import time
from typing import Any

from opentelemetry._logs import LogRecord, SeverityNumber, get_logger

EVENT_NAME = "amm.memory.leak.evidence"
LONGEST_BODY = 32_768


def emit(evidence: dict[str, Any]) -> None:
    """One record at WARN: what leaks in words, the evidence as JSON in the attribute `amm.evidence`."""
    leaking = [name for name, verdict in evidence.get("verdicts", {}).items() if verdict.get("leaking")]
    record = LogRecord(
        timestamp=time.time_ns(),
        severity_number=SeverityNumber.WARN,
        severity_text="WARN",
        event_name=EVENT_NAME,
        body=f"memory leaks: {', '.join(leaking)}",
        attributes={"amm.memory.leak.series": leaking, "amm.evidence": json.dumps(evidence)[:LONGEST_BODY]},
    )
    get_logger("amm_exporter").emit(record)
