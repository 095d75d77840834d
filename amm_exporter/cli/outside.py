"""Watching a process (from outside, or this one) with its metrics on an address of this one."""

from __future__ import annotations

import os

from opentelemetry.sdk.metrics import MeterProvider

from amm_exporter.errors import AMMError, ProbeError
from amm_exporter.export.reader import AMMMetricReader, address_from, page_handlers, web_config_from
from amm_exporter.export.server import Server
from amm_exporter.export.session import Session, start
from amm_exporter.policy import Policy
from amm_exporter.probes.process import ProcessProbe


class Watch:
    """An open address first (`AMMError` if it cannot be had), then a governor over a process, until `stop`."""

    def __init__(self, *, host: str | None, port: int | None) -> None:
        reader = AMMMetricReader(host, port, serve=False)
        web_config = web_config_from(os.environ)
        self._server = Server(
            reader.render,
            *address_from(os.environ, host, port),
            routes=page_handlers(reader.families),
            **(web_config.options() if web_config else {}),
        )
        self._server.start()
        self._provider = MeterProvider([reader], shutdown_on_exit=False)
        self._session: Session | None = None
        self._probe: ProcessProbe | None = None
        served_host, served_port = self._server.address
        self.url = f"http://{served_host}:{served_port}/metrics"

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
