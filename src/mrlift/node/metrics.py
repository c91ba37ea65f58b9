"""Health and metrics over HTTP, in the text format of Prometheus."""

import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from mrlift._version import __version__
from mrlift.node.queue import Queue

SECONDS = (0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800)


class Metrics:
    """Counters since the start, and gauges that are read from the queue when asked for."""

    def __init__(self, queue: Queue, destinations: tuple[str, ...]) -> None:
        disable_created_metrics()  # a second series beside each counter, of no use here
        self.registry = CollectorRegistry()
        self.instances = self._counter("instances", "C-STORE requests by outcome", "outcome")
        self.associations = self._counter(
            "associations", "Associations asked for, by outcome", "outcome"
        )
        self.series = self._counter("finished_series", "Series by what became of them", "outcome")
        self.sent = self._counter("sent_series", "Results delivered in full", "destination")
        self.failures = self._counter("send_failures", "Attempts that failed", "destination")
        self.seconds = Histogram(
            "mrlift_node_upscale_seconds",
            "Time from reading a series to its result on disk",
            registry=self.registry,
            buckets=SECONDS,
        )
        for name in ("stored", "duplicate", "no_room", "malformed"):
            self.instances.labels(name)
        for name in ("accepted", "rejected", "address", "broken", "flood"):
            self.associations.labels(name)
        for name in ("processed", "ignored", "refused"):
            self.series.labels(name)
        for name in destinations:
            self.sent.labels(name)
            self.failures.labels(name)
        self.registry.register(_QueueGauges(queue, destinations))

    def _counter(self, name: str, text: str, label: str) -> Counter:
        return Counter(f"mrlift_node_{name}", text, [label], registry=self.registry)


class _QueueGauges(Collector):
    def __init__(self, queue: Queue, destinations: tuple[str, ...]) -> None:
        self._queue, self._destinations = queue, destinations

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        series = GaugeMetricFamily(
            "mrlift_node_series", "Series in the queue by state", labels=["state"]
        )
        for state, count in self._queue.counts().items():
            series.add_metric([state], count)
        unsent = GaugeMetricFamily(
            "mrlift_node_unsent_series",
            "Results that a destination still lacks",
            labels=["destination"],
        )
        waiting = dict.fromkeys(self._destinations, 0) | self._queue.unsent()
        for name, count in waiting.items():
            unsent.add_metric([name], count)
        free = shutil.disk_usage(self._queue.folder).free
        info = GaugeMetricFamily("mrlift_node_info", "Version of mrlift", labels=["version"])
        info.add_metric([__version__], 1)
        yield from (series, unsent, info)
        yield GaugeMetricFamily("mrlift_node_free_bytes", "Room left on the queue's disk", free)


class Endpoint:
    """Serves /metrics, and /health: 200 and "ok", or 503 and what is wrong.

    Bound to 127.0.0.1: what is not meant for the network cannot be reached from it. Who asks before
    `start` waits for it, since a node that is starting is not ill.

    Raises:
        OSError: the port is taken.
    """

    def __init__(self, port: int, metrics: Metrics, problems: Callable[[], list[str]]) -> None:
        class Handler(BaseHTTPRequestHandler):
            timeout = 10  # s; a silent client does not keep its thread

            def do_GET(self) -> None:
                if self.path == "/metrics":
                    self._answer(200, CONTENT_TYPE_LATEST, generate_latest(metrics.registry))
                elif self.path == "/health":
                    found = problems()
                    text = "\n".join(found or ["ok"]) + "\n"
                    self._answer(503 if found else 200, "text/plain; charset=utf-8", text.encode())
                else:
                    self.send_error(404, "There are /health and /metrics")

            def _answer(self, code: int, kind: str, body: bytes) -> None:
                self.send_response(code)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Nothing: a scrape every few seconds is no news."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                """Nothing: a client that went away is no news either."""

        self._server = Server(("127.0.0.1", port), Handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="metrics", daemon=True
        )

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        if self._thread.ident is not None:
            self._server.shutdown()
        self._server.server_close()
