"""C-ECHO and C-STORE SCP. An instance is acknowledged once it is on disk, never before."""

import hashlib
import logging
import shutil
import sqlite3
import ssl
import threading
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from socketserver import BaseServer
from typing import cast

import pydicom
from pydicom.uid import UID, EnhancedMRImageStorage, MRImageStorage
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import encode_file_meta
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

from mrlift.errors import OutputError
from mrlift.io.durable import sync
from mrlift.node.config import ServerConfig, address_allowed, networks
from mrlift.node.metrics import Metrics
from mrlift.node.queue import Added, Queue
from mrlift.node.tls import server_context

log = logging.getLogger("mrlift.node")

SUCCESS, OUT_OF_RESOURCES, WRONG_CLASS, CANNOT_UNDERSTAND = 0x0000, 0xA700, 0xA900, 0xC000
STORED = (MRImageStorage, EnhancedMRImageStorage)
# What `mrlift.io` decodes, the plain ones first: where a peer leaves the choice they are taken.
# Not Deflated: a few bytes of it unfold to any size.
SYNTAXES = (
    "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.5",
    "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.80",
    "1.2.840.10008.1.2.4.81", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91",
    "1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.202", "1.2.840.10008.1.2.4.203",
)  # fmt: skip
NAMED = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID")
LARGEST_PDU = 2**20  # bytes; a request for an association with 128 contexts takes 0.1 MB
GOODBYE = 2.0  # s that peers have to take note of an abort
OUR_PDU = 2**17  # bytes of a P-DATA PDU that peers are told to keep to


class Receiver:
    """Listens from `start` until `close`.

    Args:
        config: who may talk to it.
        queue: takes the instances.
        reserve: bytes that must stay free on its disk.
        metrics: counts.
        arrived: called with the number of a series when an instance of it has been stored.
    """

    def __init__(
        self,
        config: ServerConfig,
        queue: Queue,
        reserve: float,
        metrics: Metrics,
        arrived: Callable[[int], None],
    ) -> None:
        self._config, self._queue, self._reserve = config, queue, reserve
        self._metrics, self._arrived = metrics, arrived
        self._allowed = networks(config.allow_addresses)
        self._tls = server_context(config.tls) if config.tls else None
        self._ae = _entity(config)
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Open the port.

        Raises:
            OutputError: it is taken or may not be used.
        """
        handlers: list[evt.EventHandlerType] = [
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_C_ECHO, lambda event: SUCCESS),
            (evt.EVT_ACCEPTED, self._accepted),
            (evt.EVT_REJECTED, self._rejected),
        ]
        config = self._config
        try:
            server = _Server(
                self._ae,
                (config.address, config.port),
                config.ae_title,
                self._ae.supported_contexts,
                self._tls,
                handlers,
                _Handler,
            )
        except OSError as error:
            raise OutputError(
                f"Cannot listen on {config.address} port {config.port}: {error.strerror}."
            ) from error
        server.allows = lambda address: address_allowed(address, self._allowed)
        server.count = lambda outcome: self._metrics.associations.labels(outcome).inc()
        server.most = round(config.max_instance_mb * 1e6)
        self._server = server
        self._thread = threading.Thread(
            target=server.serve_forever, args=(0.1,), name="receiver", daemon=True
        )
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the port is being listened on."""
        return self._thread is not None and self._thread.is_alive()

    def close(self) -> None:
        """Close the port and abort associations; peers send again what was not acknowledged."""
        if self._server is None:
            return
        self._server.shutdown()
        for association in self._server.active_associations:
            association.abort(block=False)
        end = time.monotonic() + GOODBYE
        while self._server.active_associations and time.monotonic() < end:
            time.sleep(0.05)
        for association in self._server.active_associations:
            if association.dul.socket:
                association.dul.socket.close()

    def _accepted(self, event: evt.Event) -> None:
        self._metrics.associations.labels("accepted").inc()
        log.info("association with %s", _peer(event.assoc))

    def _rejected(self, event: evt.Event) -> None:
        self._metrics.associations.labels("rejected").inc()
        log.warning("rejected an association with %s", _peer(event.assoc))

    def _store(self, event: evt.Event) -> int:
        """Handle one C-STORE request; the returned status is the answer (PS3.4 B.2.3)."""
        file = self._queue.new_file()
        try:
            status, added = self._keep(event, file)
        except (OSError, sqlite3.Error) as error:
            log.error("an instance cannot be stored: %s", type(error).__name__)
            status, added = OUT_OF_RESOURCES, None
        except Exception as error:  # nothing that a peer sends may end in a false success
            log.error("an instance cannot be taken: %s", type(error).__name__)
            status, added = CANNOT_UNDERSTAND, None
        finally:
            file.unlink(missing_ok=True)
        if added is None:
            outcome = "no_room" if status == OUT_OF_RESOURCES else "malformed"
            self._metrics.instances.labels(outcome).inc()
            return status
        self._metrics.instances.labels("duplicate" if added.duplicate else "stored").inc()
        if added.differs:
            log.warning(
                "series %d: an instance came again with other content; the first is kept",
                added.series,
            )
        if added.waiting:
            self._arrived(added.series)
        return SUCCESS

    def _keep(self, event: evt.Event, file: Path) -> tuple[int, Added | None]:
        """Write, read back its identity, sync, and hand over to the queue."""
        request = cast(C_STORE, event.request)
        with cast(BytesIO, request.DataSet).getbuffer() as data:
            free = shutil.disk_usage(self._queue.folder).free
            if free - len(data) < self._reserve:
                log.error("an instance is refused: the disk of the queue is full")
                return OUT_OF_RESOURCES, None
            with file.open("xb") as out:
                out.write(b"\0" * 128 + b"DICM" + encode_file_meta(event.file_meta))
                out.write(data)
            digest = hashlib.sha256(data).hexdigest()
        identity = _identity(file)
        if identity is None or identity[1] != request.AffectedSOPInstanceUID:
            log.warning("an instance is refused: it lacks its identity or has two")
            return CANNOT_UNDERSTAND, None
        if identity[0] != request.AffectedSOPClassUID:
            log.warning("an instance is refused: it is not of the class that was agreed")
            return WRONG_CLASS, None
        sync(file)
        return SUCCESS, self._queue.add(file, identity[2], identity[1], digest)


class _Server(ThreadedAssociationServer):
    """Looks at the address before anything is read, and never waits for a TLS handshake."""

    request_queue_size = 64  # of connections; those beyond wait for a second before they retry
    allows: Callable[[str], bool]
    count: Callable[[str], None]
    most: int

    def shutdown(self) -> None:
        """Close the port; connections that are half-way in are not waited for."""
        BaseServer.shutdown(self)
        self.block_on_close = False
        self.server_close()

    def get_request(self) -> tuple[ssl.SSLSocket, tuple[str, int]]:
        connection, address = self.socket.accept()  # type: ignore[union-attr]
        if self.ssl_context:
            connection = self.ssl_context.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
        return connection, address  # type: ignore[return-value]

    def verify_request(self, request: object, client_address: tuple[str, int]) -> bool:
        if not self.allows(client_address[0]):
            self.count("address")
            log.warning("hung up on %s: the address is not allowed", client_address[0])
            return False
        # An association takes two threads, a connection that is not one yet up to three. One
        # too many is told so in DICOM's words; a flood of them is not even listened to.
        if threading.active_count() > 10 + 4 * self.ae.maximum_associations:
            self.count("flood")
            return False
        return True

    def handle_error(self, request: object, client_address: tuple[str, int]) -> None:
        self.count("broken")
        log.warning("a connection from %s broke before it was an association", client_address[0])


class _Handler(RequestHandler):
    server: _Server

    def handle(self) -> None:
        self.request.settimeout(self.ae.network_timeout)
        if isinstance(self.request, ssl.SSLSocket):
            self.request.do_handshake()  # in this connection's own thread
        super().handle()

    def _create_association(self) -> Association:
        association = super()._create_association()
        socket = cast(AssociationSocket, association.dul.socket)
        bounds = _Bounds(association, socket, self.server.most)
        socket.recv = bounds.recv  # type: ignore[method-assign]
        association.bind(evt.EVT_DIMSE_SENT, bounds.answered)
        return association


class _Bounds:
    """Bounds on what a peer can make us keep: pynetdicom reads what a PDU announces, up to 4 GB.

    A PDU must be of sensible size and be there within the timeout, a message must not exceed
    `most` bytes, and the next may only begin when the last has been answered, as was agreed.
    """

    def __init__(self, association: Association, socket: AssociationSocket, most: int) -> None:
        self._association, self._socket, self._most = association, socket, most
        self._unfinished = 0

    def recv(self, nr_bytes: int) -> bytearray:
        connection = self._socket.socket
        self._unfinished += nr_bytes
        waiting = self._association.dimse.msg_queue.qsize()
        if (
            connection is None
            or nr_bytes > LARGEST_PDU
            or self._unfinished > self._most
            or waiting > 1
        ):
            raise OSError("more than an association may send")
        allowed = self._association.network_timeout or 30.0
        deadline = time.monotonic() + allowed
        found = bytearray()
        while len(found) < nr_bytes:
            connection.settimeout(max(0.01, deadline - time.monotonic()))
            part = connection.recv(min(nr_bytes - len(found), 2**16))
            if not part:
                break
            found += part
        connection.settimeout(allowed)
        return found

    def answered(self, event: evt.Event) -> None:
        self._unfinished = 0


def _entity(config: ServerConfig) -> AE:
    ae = AE(config.ae_title)
    ae.add_supported_context(Verification)
    for sop_class in STORED:
        ae.add_supported_context(sop_class, [UID(uid) for uid in SYNTAXES])
    ae.require_called_aet = True
    ae.require_calling_aet = [] if "*" in config.allow_ae_titles else list(config.allow_ae_titles)
    ae.maximum_associations = config.associations
    ae.maximum_pdu_size = OUR_PDU
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = config.timeout
    return ae


def _identity(file: Path) -> tuple[str, str, str] | None:
    """SOP class, SOP instance and series UID, where a file has all of them."""
    header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(NAMED))
    first, second, third = (str(header.get(name) or "") for name in NAMED)
    return (first, second, third) if first and second and third else None


def _peer(association: Association) -> str:
    requestor = association.requestor
    return f"{requestor.ae_title!a} at {requestor.address}"
