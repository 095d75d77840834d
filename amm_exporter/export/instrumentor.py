"""The entry point of OpenTelemetry auto-instrumentation: `opentelemetry-instrument python app.py` starts AMM.

Where nobody has configured a MeterProvider (no distro is installed), it is configured here from the OTEL_* environment,
as a distro would, with `OTEL_METRICS_EXPORTER=amm` as the default.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Mapping
from importlib.metadata import entry_points
from typing import Any

from opentelemetry.instrumentation.instrumentor import (  # type: ignore[attr-defined] # the module is untyped
    BaseInstrumentor,
)
from opentelemetry.metrics import get_meter_provider
from opentelemetry.sdk._configuration import _OTelSDKConfigurator
from opentelemetry.sdk.environment_variables import OTEL_SDK_DISABLED
from opentelemetry.sdk.metrics import MeterProvider

from amm_exporter.errors import AMMError
from amm_exporter.export.session import Session, start

log = logging.getLogger("amm.export")

METRICS_EXPORTER_VARIABLE = "OTEL_METRICS_EXPORTER"
PROTOCOL_VARIABLE, METRICS_PROTOCOL_VARIABLE = "OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL"


class AMMInstrumentor(BaseInstrumentor):  # type: ignore[misc] # the base is untyped
    """`instrument(policy=..., meter_provider=...)`; both optional. `uninstrument()` stops everything AMM does.

    A policy that cannot be used is one line in the log and leaves AMM off: the program goes on.
    """

    _session: Session | None = None

    def instrumentation_dependencies(self) -> Collection[str]:
        return ()

    @property
    def session(self) -> Session | None:
        """The running session, None while AMM is off."""
        return self._session

    def _instrument(self, **kwargs: Any) -> None:
        if os.environ.get(OTEL_SDK_DISABLED, "").strip().lower() == "true":
            return
        provider = kwargs.get("meter_provider")
        try:
            if provider is None:
                configure_provider()
            self._session = start(kwargs.get("policy"), meter_provider=provider).give_way()
        except AMMError as error:
            log.error("AMM is off: %s", error)
        except Exception as error:  # what leaves this method takes the program's other instrumentations down with it
            log.error("AMM is off, since it could not start: %s: %s", type(error).__name__, error)
            log.debug("where it failed", exc_info=True)

    def _uninstrument(self, **kwargs: Any) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.stop()


def configure_provider() -> None:
    """Build the SDK's providers from the environment, where nobody else has set a MeterProvider."""
    if isinstance(get_meter_provider(), MeterProvider):
        return
    if not os.environ.get(METRICS_EXPORTER_VARIABLE):  # OpenTelemetry: an empty value is as good as none
        os.environ[METRICS_EXPORTER_VARIABLE] = "amm"
    if needs_http(os.environ, entry_points(group="opentelemetry_metrics_exporter").names):
        os.environ[METRICS_PROTOCOL_VARIABLE] = "http/protobuf"
    configure: Any = _OTelSDKConfigurator  # untyped in the SDK
    configure().configure()


def needs_http(environ: Mapping[str, str], exporters: Collection[str]) -> bool:
    """Whether OTLP is meant to go by HTTP, as the specification has it where nothing is said: the SDK takes gRPC, and
    fails where that is not installed (`amm-exporter[otlp]` brings HTTP alone)."""
    said = environ.get(PROTOCOL_VARIABLE) or environ.get(METRICS_PROTOCOL_VARIABLE)
    return not said and "otlp_proto_http" in exporters and "otlp_proto_grpc" not in exporters
