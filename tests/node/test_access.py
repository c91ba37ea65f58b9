"""Who may talk to the node, and what becomes of those who do not talk DICOM."""

import os
import random
import shutil
import socket
import ssl
import struct
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest
import trustme
from peers import Node, free_port, send, storescp, wait_until
from phantoms import head, write_series
from pydicom.uid import UID
from pynetdicom import AE, build_context
from pynetdicom.pdu import A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
)
from pynetdicom.sop_class import Verification

pytestmark = pytest.mark.skipif(not shutil.which("echoscu"), reason="needs dcmtk")


def echo(port, *options, title="MRLIFT"):
    """Whether dcmtk's echoscu gets an answer, and what it says."""
    command = ["echoscu", "-v", "-to", "5", "-ta", "5", "-aec", title, *options, "127.0.0.1", port]
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def strict(tmp_path_factory):
    """A node with both allow-lists and a short patience."""
    server = 'allow_ae_titles = ["GOOD"]\nallow_addresses = ["127.0.0.1"]\ntimeout = 1.0'
    server += "\nmax_instance_mb = 2"
    with Node(tmp_path_factory.mktemp("node"), {"none": free_port()}, server=server) as node:
        yield node


def test_only_listed_titles_may_associate(strict):
    assert echo(strict.port, "-aet", "GOOD")[0]
    before = strict.metric('mrlift_node_associations_total{outcome="rejected"}')
    accepted, words = echo(strict.port, "-aet", "BAD")
    assert not accepted
    assert "Calling AE Title Not Recognized" in words
    accepted, words = echo(strict.port, "-aet", "GOOD", title="OTHER")
    assert not accepted
    assert "Called AE Title Not Recognized" in words
    assert strict.metric('mrlift_node_associations_total{outcome="rejected"}') == before + 2
    assert "rejected an association with 'BAD' at 127.0.0.1" in strict.log.read_text()


def test_only_listed_addresses_may_connect(tmp_path):
    server = 'address = "0.0.0.0"\nallow_addresses = ["127.0.0.2", "10.0.0.0/8"]'
    with Node(tmp_path, {"none": free_port()}, server=server) as node:
        accepted, _ = echo(node.port)
        assert not accepted
        assert node.metric('mrlift_node_associations_total{outcome="address"}') >= 1
        assert "the address is not allowed" in node.log.read_text()
        entity = AE("ECHOSCU")
        entity.add_requested_context(Verification)
        association = entity.associate(
            "127.0.0.1", node.port, ae_title="MRLIFT", bind_address=("127.0.0.2", 0)
        )
        assert association.is_established
        assert association.send_c_echo().Status == 0
        association.release()


def test_metrics_are_on_loopback_only(strict):
    listening = Path("/proc/net/tcp").read_text().splitlines()
    port = f":{strict.metrics_port:04X}"
    (address,) = {
        line.split()[1] for line in listening if port in line.split()[1] and line.split()[3] == "0A"
    }
    assert address.startswith("0100007F")


@pytest.fixture(scope="module")
def papers(tmp_path_factory):
    """Certificates: of an authority, of the node, and of a peer; PEM files."""
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    for name in ("node", "peer"):
        issued = authority.issue_cert("127.0.0.1", "localhost")
        issued.private_key_pem.write_to_path(folder / f"{name}.key")
        for part in issued.cert_chain_pems:
            part.write_to_path(folder / f"{name}.pem", append=True)
    return folder


def tls_server(papers, *, ca=False):
    text = f'[server.tls]\ncertificate = "{papers}/node.pem"\nkey = "{papers}/node.key"\n'
    return text + (f'ca = "{papers}/ca.pem"\n' if ca else "")


def test_tls_from_end_to_end(papers, tmp_path):
    """In and out over TLS; a peer without it does not get a word through."""
    port = free_port()
    keys = ["+tls", papers / "peer.key", papers / "peer.pem", "+cf", papers / "ca.pem"]
    with storescp(tmp_path / "archive", port, *keys):
        destination = f'[destination.tls]\nca = "{papers}/ca.pem"\n'
        destination += f'certificate = "{papers}/node.pem"\nkey = "{papers}/node.key"\n'
        node = Node(tmp_path, {"copy": port}, server="timeout = 1.0\n" + tls_server(papers))
        with (tmp_path / "node.toml").open("a") as file:
            file.write(destination)
        with node:
            accepted, _ = echo(node.port)
            assert not accepted
            assert not send(write_series(tmp_path / "in"), node.port)
            assert echo(node.port, "+tla", "+cf", papers / "ca.pem")[0]
            files = write_series(tmp_path / "in", head((20, 24, 3)))
            assert len(send(files, node.port, "+tla", "+cf", papers / "ca.pem")) == 3
            archive = tmp_path / "archive"
            wait_until(lambda: len(list(archive.iterdir())) == 3, 30, "the result over TLS")
            wait_until(node.idle, 10, "the end")
            assert node.metric('mrlift_node_associations_total{outcome="broken"}') >= 2


def test_peers_must_show_a_certificate_where_a_ca_is_given(papers, tmp_path):
    server = "timeout = 1.0\n" + tls_server(papers, ca=True)
    with Node(tmp_path, {"none": free_port()}, server=server) as node:
        assert not echo(node.port, "+tla", "+cf", papers / "ca.pem")[0]
        stranger = tmp_path / "stranger"
        other = trustme.CA().issue_cert("127.0.0.1")
        other.private_key_pem.write_to_path(f"{stranger}.key")
        other.cert_chain_pems[0].write_to_path(f"{stranger}.pem")
        ca = ["+cf", papers / "ca.pem"]
        assert not echo(node.port, "+tls", f"{stranger}.key", f"{stranger}.pem", *ca)[0]
        assert echo(node.port, "+tls", papers / "peer.key", papers / "peer.pem", *ca)[0]


def test_a_destination_with_a_foreign_certificate_gets_nothing(papers, tmp_path):
    port, ca = free_port(), tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(ca)
    with storescp(
        tmp_path / "archive", port, "+tls", papers / "peer.key", papers / "peer.pem", "-ic"
    ):
        node = Node(tmp_path, {"copy": port})
        with (tmp_path / "node.toml").open("a") as file:
            file.write(f'[destination.tls]\nca = "{ca}"\n')
        with node:
            send(write_series(tmp_path / "in"), node.port)
            failures = 'mrlift_node_send_failures_total{destination="copy"}'
            wait_until(lambda: node.metric(failures) >= 1, 30, "a failure")
        assert not list((tmp_path / "archive").iterdir())


def threads(node):
    status = Path(f"/proc/{node.running.pid}/status").read_text()
    return int(status.split("Threads:")[1].split()[0])


def resident(node):
    """Megabytes."""
    status = Path(f"/proc/{node.running.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1000


def association_request():
    """The body of an A-ASSOCIATE-RQ (PS3.8 9.3.2) of GOOD for Verification."""
    primitive = A_ASSOCIATE()
    primitive.application_context_name = "1.2.840.10008.3.1.1.1"
    primitive.calling_ae_title, primitive.called_ae_title = "GOOD", "MRLIFT"
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    implementation.implementation_class_uid = UID("1.2.3.4")
    primitive.user_information = [length, implementation]
    context = build_context(Verification)
    context.context_id = 1
    primitive.presentation_context_definition_list = [context]
    request = A_ASSOCIATE_RQ()
    request.from_primitive(primitive)
    return request.encode()[6:]


REQUEST = association_request()


def pdu(kind, body, length=None):
    return struct.pack(">BBL", kind, 0, len(body) if length is None else length) + body


def talk(port, *parts):
    """Send bytes, the first alone, and listen until the node hangs up or is silent."""
    with socket.create_connection(("127.0.0.1", port), timeout=4) as connection:
        heard = b""
        try:
            for index, part in enumerate(parts):
                connection.sendall(part)
                if index == 0 and len(parts) > 1:
                    heard += connection.recv(4096)
            while len(heard) < 10_000:
                more = connection.recv(4096)
                if not more:
                    break
                heard += more
        except (TimeoutError, ConnectionError):
            pass
        return heard


def test_the_request_above_is_sound(strict):
    heard = talk(strict.port, pdu(1, REQUEST), pdu(5, b"\0\0\0\0"))
    assert heard[0] == 2  # A-ASSOCIATE-AC
    assert heard.endswith(pdu(6, b"\0\0\0\0"))  # A-RELEASE-RP


MALFORMED = {
    "nothing": [],
    "half a header": [b"\x01\0\0"],
    "half a PDU": [pdu(1, REQUEST[:40], len(REQUEST))],
    "4 GB announced": [pdu(1, b"x" * 5000, 2**32 - 1)],
    "4 GB announced when associated": [pdu(1, REQUEST), pdu(4, b"x" * 5000, 2**32 - 1)],
    "unknown PDU": [pdu(9, b"abc")],
    "not expected yet": [pdu(4, b"\0\0\0\x02\x01\x03")],
    "request twice": [pdu(1, REQUEST), pdu(1, REQUEST)],
    "lengths beyond the end": [pdu(1, REQUEST[:-20])],
    "no command": [pdu(1, REQUEST), pdu(4, struct.pack(">LBB", 20, 1, 3) + b"\xff" * 18)],
    "unknown context": [pdu(1, REQUEST), pdu(4, struct.pack(">LBB", 20, 99, 3) + b"\0" * 18)],
    "empty values": [pdu(1, REQUEST), pdu(4, b"\0\0\0\0" * 50)],
    "a message without end": [
        pdu(1, REQUEST), *[pdu(4, struct.pack(">LBB", 60002, 1, 0) + b"x" * 60000)] * 60
    ],
    "silence after the association": [pdu(1, REQUEST)],
    "HTTP": [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"],
    "TLS": [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500)],
}  # fmt: skip


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_associations_do_not_stop_the_node(strict, name):
    talk(strict.port, *MALFORMED[name])
    assert echo(strict.port, "-aet", "GOOD")[0]


def test_many_of_them_at_once_leave_nothing_behind(strict):
    """200 connections of random and mutated bytes, some left open; threads and memory go back."""
    assert echo(strict.port, "-aet", "GOOD")[0]
    wait_until(lambda: threads(strict) < 20, 10, "rest")
    before, memory = threads(strict), resident(strict)
    chance = random.Random(1)
    left_open = []
    for _ in range(200):
        data = bytearray(pdu(1, REQUEST))
        if chance.random() < 0.3:
            data = bytearray(chance.randbytes(chance.randrange(1, 300)))
        for _ in range(chance.randrange(4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        connection = socket.create_connection(("127.0.0.1", strict.port), timeout=5)
        with suppress(ConnectionError):
            connection.sendall(data + chance.randbytes(chance.randrange(100)))
        if chance.random() < 0.2:
            left_open.append(connection)
        else:
            connection.close()
    # Those that are silent are hung up on within the timeout; no slot stays taken.
    wait_until(lambda: echo(strict.port, "-aet", "GOOD")[0], 30, "an answer")
    wait_until(lambda: threads(strict) <= before, 30, "an end of all threads")
    for connection in left_open:
        connection.close()
    assert resident(strict) < memory + 60
    assert strict.running.poll() is None
    assert strict.get("/health") == (200, "ok\n")


def test_a_stalled_tls_handshake_keeps_nobody_waiting(papers, tmp_path):
    server = "timeout = 5.0\n" + tls_server(papers)
    with Node(tmp_path, {"none": free_port()}, server=server) as node:
        silent = [socket.create_connection(("127.0.0.1", node.port)) for _ in range(15)]
        silent[0].sendall(b"\x16\x03\x01")
        began = time.monotonic()
        assert echo(node.port, "+tla", "+cf", papers / "ca.pem")[0]
        assert time.monotonic() - began < 4
        for connection in silent:
            connection.close()


def test_old_tls_is_refused(papers, tmp_path):
    with Node(tmp_path, {"none": free_port()}, server=tls_server(papers)) as node:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(papers / "ca.pem")
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context.minimum_version = context.maximum_version = version
            with (
                socket.create_connection(("127.0.0.1", node.port)) as plain,
                context.wrap_socket(plain, server_hostname="127.0.0.1") as secure,
            ):
                assert secure.version() == version.name.replace("_", ".")
        old = ["openssl", "s_client", "-connect", f"127.0.0.1:{node.port}", "-tls1_1"]
        done = subprocess.run(
            old, stdin=subprocess.DEVNULL, capture_output=True, env={**os.environ}, check=False
        )
        assert done.returncode != 0
