"""Watching a process (from outside, or this one) with its metrics on an address of this one."""

from __future__ import annotations

import os
from collections.abc import Mapping

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.resources import SERVICE_NAME, Resource

from amm_exporter.errors import AMMError, ProbeError
from amm_exporter.export.reader import AMMMetricReader, address_from, page_handlers, web_config_from
from amm_exporter.export.server import Handler, Render, Server
from amm_exporter.export.session import Session, start
from amm_exporter.policy import Policy
from amm_exporter.probes.process import ProcessProbe


def open_server(
    render: Render,
    *,
    host: str | None,
    port: int | None,
    web_config: str | None,
    routes: Mapping[str, Handler] | None = None,
) -> tuple[Server, str]:
    """A server as the flags say, else the environment, and the URL of its metrics. Raises AMMError if it cannot be."""
    config = web_config_from(os.environ, web_config)
    options = config.options() if config else {}
    server = Server(render, *address_from(os.environ, host, port), routes=routes, **options)
    server.start()
    served_host, served_port = server.address
    scheme = "https" if config and config.encrypts else "http"
    return server, f"{scheme}://{served_host}:{served_port}/metrics"


def resource_of(program: str | None) -> Resource:
    """Who is watched: as the environment names it, else after its program, as a SDK inside it would."""
    ours = Resource.create()
    if program is None or not str(ours.attributes[SERVICE_NAME]).startswith("unknown_service"):
        return ours
    return ours.merge(Resource({SERVICE_NAME: f"unknown_service:{program}"}))


class Watch:
    """An open address first (`AMMError` if it cannot be had), then a governor over a process, until `stop`."""

    def __init__(
        self, *, host: str | None, port: int | None, web_config: str | None = None, program: str | None = None
    ) -> None:
        """`program` is the name of the one that will be watched; None for this one."""
        reader = AMMMetricReader(host, port, serve=False)
        self._server, self.url = open_server(
            reader.render, host=host, port=port, web_config=web_config, routes=page_handlers(reader.families)
        )
        self._provider = MeterProvider([reader], resource=resource_of(program), shutdown_on_exit=False)
        self._session: Session | None = None
        self._probe: ProcessProbe | None = None

    @property
    def session(self) -> Session:
        if self._session is None:
            raise AMMError("nothing is watched yet: attach() first")
        return self._session

    def attach(self, policy: Policy, pid: int | None = None) -> None:
        """Show this process from now on. Raises ProbeError for one that is not there."""
        self._probe = ProcessProbe(pid)
        self._session = start(policy, meter_provider=self._provider, pid=pid)

    def alive(self) -> bool:
        try:
            return self._probe is not None and self._probe.read().rss_bytes >= 0
        except ProbeError:
            return False

    def stop(self) -> None:
        if self._session is not None:
            self._session.stop()
        if self._probe is not None:
            self._probe.close()
        self._server.close()
        self._provider.shutdown()
