"""The node as a whole: starts its parts, says whether they are well, ends them."""

import logging
import shutil
import threading
from pathlib import Path

from mrlift.errors import OutputError
from mrlift.node.config import NodeConfig
from mrlift.node.metrics import Endpoint, Metrics
from mrlift.node.queue import Queue
from mrlift.node.receiver import Receiver
from mrlift.node.sender import Sender
from mrlift.node.worker import Worker

log = logging.getLogger("mrlift.node")

PATIENCE = 10.0  # s for a part to end; what it leaves undone is done after the next start


class Node:
    """A node that runs from `start` until `close`.

    Raises:
        MrliftError: the queue, the weights, or the files for TLS cannot be used.
    """

    def __init__(self, config: NodeConfig) -> None:
        self._config = config
        self._stop = threading.Event()
        self._endpoint: Endpoint | None = None
        names = tuple(d.name for d in config.destination)
        self._reserve = config.queue.reserve_mb * 1e6
        self.queue = Queue(Path(config.queue.folder))
        try:
            self._metrics = Metrics(self.queue, names)
            self._senders = [
                Sender(d, config.server.ae_title, self.queue, self._metrics, self._stop)
                for d in config.destination
            ]
            self._worker = Worker(config, self.queue, self._metrics, self._stop, self._made)
            self._receiver = Receiver(
                config.server, self.queue, self._reserve, self._metrics, self._worker.arrived
            )
        except BaseException:
            self.queue.close()
            raise
        for name, count in self.queue.unsent().items():
            if name not in names:
                log.warning("%d results wait for %s, which is no destination now", count, name)

    def start(self) -> None:
        """Begin to work and to listen.

        Raises:
            OutputError: a port is taken.
        """
        config = self._config
        try:
            if config.metrics.port:
                self._endpoint = Endpoint(config.metrics.port, self._metrics, self.problems)
            self._receiver.start()
        except OSError as error:
            self.close()
            raise OutputError(
                f"Cannot listen on 127.0.0.1 port {config.metrics.port} for metrics: "
                f"{error.strerror}."
            ) from error
        except OutputError:
            self.close()
            raise
        for part in (self._worker, *self._senders):
            part.start()
        if self._endpoint:
            self._endpoint.start()
        log.info(
            "%s listens on %s port %d%s", config.server.ae_title, config.server.address,
            config.server.port, " with TLS" if config.server.tls else "",
        )  # fmt: skip

    def problems(self) -> list[str]:
        """What keeps the node from its work; nothing where all is well."""
        found = []
        for part in (self._worker, *self._senders):
            if not part.is_alive():
                found.append(f"the thread {part.name} has ended")
        if not self._receiver.alive:
            found.append("the DICOM port is closed")
        if shutil.disk_usage(self.queue.folder).free < self._reserve:
            found.append("the disk of the queue is full")
        return found

    def close(self) -> None:
        """Stop listening, break off work that a later start will do again, leave all in order."""
        self._stop.set()
        self._receiver.close()
        self._worker.wake()
        if self._worker.ident is not None:
            self._worker.join(PATIENCE)
        for sender in self._senders:
            sender.close(PATIENCE / len(self._senders))
        if self._endpoint:
            self._endpoint.close()
        self.queue.close()
        log.info("stopped")

    def _made(self) -> None:
        for sender in self._senders:
            sender.news.set()
