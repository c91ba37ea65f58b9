"""C-STORE SCU: every result to every destination, for as long as it takes."""

import logging
import socket
import ssl
import threading
import time
from pathlib import Path

import pydicom
from pydicom.uid import UID, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext, build_context

from mrlift.node.config import DestinationConfig
from mrlift.node.metrics import Metrics
from mrlift.node.queue import Delivery, Queue
from mrlift.node.tls import client_context

log = logging.getLogger("mrlift.node")

WARNINGS = (0xB000, 0xB006, 0xB007)  # stored, with a remark (PS3.4 B.2.3)


class _UnreachableError(Exception):
    """The destination, not one series, is at fault; the message is fit for the log."""


class _RefusedError(Exception):
    """The destination does not take one series; the message is fit for the log."""


class Sender(threading.Thread):
    """One thread that delivers to one destination.

    A series that was sent only in part is sent again as a whole. Its UIDs were settled before it
    was first sent, so the destination sees the same instances again, not new ones.

    Args:
        config: the destination.
        ae_title: of this node.
        queue: says what is still to be sent.
        metrics: counts.
        stop: ends the thread, within one instance.

    Raises:
        ConfigError: the files for TLS cannot be used.
    """

    def __init__(
        self,
        config: DestinationConfig,
        ae_title: str,
        queue: Queue,
        metrics: Metrics,
        stop: threading.Event,
    ) -> None:
        super().__init__(name=f"sender-{config.name}", daemon=True)
        self._config, self._queue, self._metrics, self._ending = config, queue, metrics, stop
        self._tls = client_context(config.tls) if config.tls else None
        self._ae = AE(ae_title)
        self._ae.acse_timeout = self._ae.dimse_timeout = config.timeout
        self._ae.network_timeout = self._ae.connection_timeout = config.timeout
        self.news = threading.Event()
        self._failures: dict[int, int] = {}  # of each result
        self._due: dict[int, float] = {}
        self._unreachable = 0  # times in a row

    def run(self) -> None:
        """Deliver until `stop` is set."""
        while not self._ending.is_set():
            self.news.clear()
            try:
                wait = self._deliver_what_is_due()
            except Exception as error:  # of the queue's disk; the thread must outlive it
                log.error("%s: cannot send: %s", self._config.name, type(error).__name__)
                wait = self._config.retry
            if self._unreachable:
                self._ending.wait(wait)  # news of other results do not help here
            else:
                self.news.wait(wait)

    def close(self, patience: float) -> None:
        """After `stop`: end with the instance that is being sent, or break off, `patience` in s."""
        self.news.set()
        if self.ident is None:
            return
        self.join(patience)
        if self.is_alive():
            self._ae.shutdown()

    def _deliver_what_is_due(self) -> float:
        """Send what may be sent now; how long to wait, s."""
        for delivery in self._queue.pending(self._config.name):
            if self._ending.is_set():
                return 0.0
            if self._due.get(delivery.result, 0.0) > time.monotonic():
                continue
            try:
                self._deliver(delivery)
            except _UnreachableError as error:
                self._unreachable += 1
                wait = self._delay(self._unreachable)
                self._report(f"{error}; next try in {wait:.0f} s")
                return wait
            except _RefusedError as error:
                self._unreachable = 0
                count = self._failures.get(delivery.result, 0) + 1
                self._failures[delivery.result] = count
                self._due[delivery.result] = time.monotonic() + self._delay(count)
                self._report(
                    f"series {delivery.series}: {error}; next try in {self._delay(count):.0f} s"
                )
        next_due = min(self._due.values(), default=time.monotonic() + 60.0)
        return max(0.05, next_due - time.monotonic())

    def _delay(self, failures: int) -> float:
        return min(self._config.retry * 2.0 ** min(failures - 1, 30), self._config.retry_max)

    def _report(self, text: str) -> None:
        self._metrics.failures.labels(self._config.name).inc()
        log.warning("%s: %s", self._config.name, text)

    def _deliver(self, delivery: Delivery) -> None:
        try:
            files = sorted(delivery.folder.iterdir())
            contexts = _contexts(files)
        except Exception as error:  # damaged files make the parser raise almost anything
            raise _RefusedError("its files cannot be read") from error
        association = self._associate(contexts)
        try:
            for file in files:
                if self._ending.is_set():
                    return
                self._send(association, file)
        finally:
            if association.is_established:
                association.release()
        self._queue.sent(delivery, self._config.name)
        self._unreachable = 0
        self._failures.pop(delivery.result, None)
        self._due.pop(delivery.result, None)
        self._metrics.sent.labels(self._config.name).inc()
        log.info(
            "series %d: %d instances sent to %s", delivery.series, len(files), self._config.name
        )

    def _associate(self, contexts: list[PresentationContext]) -> Association:
        config = self._config
        tls: tuple[ssl.SSLContext, str] | None = (self._tls, config.address) if self._tls else None
        association = self._ae.associate(
            config.address,
            config.port,
            contexts=contexts,
            ae_title=config.ae_title,
            tls_args=tls,
            evt_handlers=[
                (evt.EVT_CONN_OPEN, _set_up_socket),
                (evt.EVT_DATA_SENT, _hurry),
            ],
        )
        if association.is_established:
            return association
        if association.is_rejected:
            raise _UnreachableError("it rejects associations with this node")
        raise _UnreachableError("no association, it cannot be reached or does not answer")

    def _send(self, association: Association, file: Path) -> None:
        if not association.is_established:
            raise _UnreachableError("the association broke")
        try:
            dataset = pydicom.dcmread(file)
        except Exception as error:
            raise _RefusedError(f"{file.name} cannot be read") from error
        try:
            status = association.send_c_store(dataset)
        except ValueError as error:
            raise _RefusedError("it takes neither the class nor the transfer syntax") from error
        except RuntimeError as error:
            raise _UnreachableError("the association broke") from error
        if "Status" not in status:
            raise _UnreachableError("the association broke or timed out")
        if status.Status != 0 and status.Status not in WARNINGS:
            raise _RefusedError(f"it answered with status 0x{status.Status:04X}")


def _contexts(files: list[Path]) -> list[PresentationContext]:
    """What the files are, and the syntax that every destination knows (PS3.5 10.1)."""
    found: dict[str, set[str]] = {}
    for file in files:
        meta = pydicom.filereader.read_file_meta_info(file)
        syntaxes = found.setdefault(str(meta.MediaStorageSOPClassUID), set())
        syntaxes.add(str(meta.TransferSyntaxUID))
        if not UID(meta.TransferSyntaxUID).is_compressed:
            syntaxes.add(str(ImplicitVRLittleEndian))
    return [
        build_context(sop_class, syntax)
        for sop_class, syntaxes in sorted(found.items())
        for syntax in sorted(syntaxes)
    ]


def _set_up_socket(event: evt.Event) -> None:
    """What pynetdicom leaves out: no waiting for ever within a PDU, none at all before sending."""
    connection = event.assoc.dul.socket and event.assoc.dul.socket.socket
    if connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(event.assoc.network_timeout)


def _hurry(event: evt.Event) -> None:
    """Acknowledge at once what a destination says next.

    An answer comes in two parts, of which the second waits for the acknowledgement of the first.
    An instance of 0.5 MB took dcmtk's storescp 49 ms; with this and TCP_NODELAY it takes 21, and 5
    where it allows large PDUs.
    """
    connection = event.assoc.dul.socket and event.assoc.dul.socket.socket
    option = getattr(socket, "TCP_QUICKACK", None)  # of Linux
    if connection and option is not None:
        connection.setsockopt(socket.IPPROTO_TCP, option, 1)
