"""The metric reader behind `OTEL_METRICS_EXPORTER=amm`: all that a MeterProvider holds, served to Prometheus.

How families are written is exposition.py's, how a MeterProvider's data become families translate.py's.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.metrics.export import MetricReader, MetricsData

from amm_exporter.errors import AMMError
from amm_exporter.export.exposition import COUNTER, Family, negotiate, render
from amm_exporter.export.forks import begin_anew, follow_forks, ignore_forks, observables
from amm_exporter.export.http import Request, Response
from amm_exporter.export.node import Node
from amm_exporter.export.server import DEFAULT_HOST, DEFAULT_PORT, Handler
from amm_exporter.export.translate import Translator, family_name

if TYPE_CHECKING:
    from amm_exporter.export.web_config import WebConfig

log = logging.getLogger("amm.export")

HOST_VARIABLE = "OTEL_EXPORTER_PROMETHEUS_HOST"
PORT_VARIABLE = "OTEL_EXPORTER_PROMETHEUS_PORT"
WEB_CONFIG_VARIABLE = "AMM_WEB_CONFIG"
PAGE_PATHS = ("/", "/api/v1/status.json", "/api/v1/numbers.html", "/favicon.ico")


class AMMMetricReader(MetricReader):
    """Serves a MeterProvider's metrics, the application's own among them, as Prometheus text.

    Without arguments it takes its address from the environment, as the OpenTelemetry SDK makes it. An address that
    cannot be had is logged, never raised: metrics must not keep a program from starting.

    Args:
        host: the name or address to listen on; default OTEL_EXPORTER_PROMETHEUS_HOST, else localhost.
        port: default OTEL_EXPORTER_PROMETHEUS_PORT, else 9464; 0 takes any that is free.
        web_config: path of a web configuration file (TLS, basic auth); default AMM_WEB_CONFIG. One that cannot be used
            is logged, and nothing is served: never in the clear what was meant to be closed.
        serve: whether to open the address at all; `render()` works without.
    """

    def __init__(
        self,
        host: str | None = None,
        port: int | None = None,
        web_config: str | os.PathLike[str] | None = None,
        serve: bool = True,
        *,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        super().__init__()
        self._translator = Translator()
        self._received = threading.local()
        self._node: Node | None = None
        if serve:
            self._serve(environ, host, port, web_config)

    @property
    def address(self) -> tuple[str, int] | None:
        """Host and port where this process's metrics are served, by itself or a sibling; None where they are not."""
        return self._node.address if self._node else None

    def render(self, accept: str = "") -> tuple[str, bytes]:
        """Content type and text of a collection made now: of this process, and of its siblings where it has some."""
        if self._node is not None:
            return self._node.render(accept)
        content_type = negotiate(accept)
        return content_type, render(self.families(), content_type)

    def families(self) -> list[Family]:
        """The families of this process, collected now; none before a MeterProvider has taken the reader."""
        if self._collect is None:
            return []
        self._received.data = None
        try:
            self.collect()
        except Exception:  # what was collected is still worth showing
            log.exception("a part of the metrics could not be collected")
        data = self._received.data
        return self._translator.families(data) if data is not None else []

    def _receive_metrics(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **_kwargs: Any) -> None:
        self._received.data = metrics_data

    def shutdown(self, timeout_millis: float = 30_000, **_kwargs: Any) -> None:
        """Stop serving. Nothing is left behind; a sibling takes over the port."""
        node, self._node = self._node, None
        if node is not None:
            ignore_forks(node)
            node.close()

    def _serve(
        self,
        environ: Mapping[str, str],
        host: str | None,
        port: int | None,
        web_config: str | os.PathLike[str] | None,
    ) -> None:
        try:
            node = Node(
                *address_from(environ, host, port),
                self.families,
                inherit=self._begin_anew,
                routes=page_handlers(lambda: node.families()),
                web_config=web_config_from(environ, web_config),
            )
            node.start()
        except (AMMError, OSError) as error:  # OSError: no descriptor is left, or no directory for temporary files
            log.error("metrics are not served: %s", error)
            return
        self._node = node
        follow_forks(node)

    def _begin_anew(self) -> frozenset[str]:
        consumer = getattr(self._collect, "__self__", None)
        if consumer is None:
            return frozenset()
        begin_anew(consumer, self)
        return frozenset(family_name(name, unit, COUNTER) for name, unit in observables(consumer))


# The page, passwords and the governor's history are imported when they are first wanted: most programs are only ever
# scraped, and these cost 6 ms and 1 MiB.


def page_handlers(families: Callable[[], list[Family]]) -> dict[str, Handler]:
    """The routes of the page and its JSON, for a Server."""

    def answer(request: Request) -> Response:
        from amm_exporter.export.otel import running_evidence, running_history
        from amm_exporter.export.page import page_routes

        return page_routes(families, running_history, running_evidence)[request.path](request)

    return dict.fromkeys(PAGE_PATHS, answer)


def web_config_from(environ: Mapping[str, str], path: str | os.PathLike[str] | None = None) -> WebConfig | None:
    """The web configuration as given, else from AMM_WEB_CONFIG. Raises AMMError for one that cannot be honoured."""
    path = path or environ.get(WEB_CONFIG_VARIABLE)
    if not path:
        return None
    from amm_exporter.export.web_config import WebConfig

    return WebConfig(path)


def address_from(environ: Mapping[str, str], host: str | None = None, port: int | None = None) -> tuple[str, int]:
    """Host and port: as given, else from the environment, else the defaults. AMMError for a port that is none."""
    if host is None:
        host = environ.get(HOST_VARIABLE) or DEFAULT_HOST
    if port is None:
        port = _port(environ.get(PORT_VARIABLE) or str(DEFAULT_PORT))
    return host, port


def _port(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65535:
        return int(text)
    raise AMMError(f"{PORT_VARIABLE}: got {text!r}; expected a port from 0 to 65535")
