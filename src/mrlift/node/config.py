"""Configuration of the node: one TOML file, read into frozen dataclasses."""

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from mrlift.config import load_toml
from mrlift.errors import ConfigError
from mrlift.io.facts import Selection

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class TlsConfig:
    """Files in PEM format; an empty name means that there is none."""

    certificate: str = ""  # of this node, with its chain
    key: str = ""  # of the certificate
    ca: str = ""  # who signed the peers' certificates


@dataclass(frozen=True)
class DestinationTlsConfig(TlsConfig):
    """TLS towards a destination."""

    check_name: bool = True  # its certificate must bear its address


@dataclass(frozen=True)
class ServerConfig:
    """Who this node is and who may talk to it."""

    ae_title: str = "MRLIFT"
    address: str = "127.0.0.1"
    port: int = 11112
    allow_ae_titles: tuple[str, ...] = ("*",)  # "*" is every title
    allow_addresses: tuple[str, ...] = ("127.0.0.1", "::1")  # addresses and networks
    tls: TlsConfig | None = None
    associations: int = 10  # at one time
    timeout: float = 60.0  # s of silence, or for one PDU, before a peer is hung up on
    max_instance_mb: float = 1024.0  # of what one association may have unfinished in memory


@dataclass(frozen=True)
class QueueConfig:
    """Where series are kept and when one is complete."""

    folder: str
    quiet: float = 30.0  # s without a new instance after which a series is complete
    keep_days: float = 2.0  # how long a finished series is kept for late instances
    reserve_mb: float = 1024.0  # instances are refused while less than this is free


@dataclass(frozen=True)
class RuleConfig(Selection):
    """Which series, and what happens to it. What is not stated fits every series."""

    skip: bool = False  # leave these series alone
    scale: int = 2
    model: str = ""  # name of shipped weights or path of an .onnx file; "" is the default


@dataclass(frozen=True)
class DestinationConfig:
    """An archive that gets every result."""

    name: str
    address: str
    port: int
    ae_title: str
    tls: DestinationTlsConfig | None = None
    timeout: float = 30.0  # s for the connection and for each answer
    retry: float = 5.0  # s until the second attempt; doubled after each failure ...
    retry_max: float = 600.0  # ... up to this


@dataclass(frozen=True)
class MetricsConfig:
    """Health and metrics over HTTP, on the loopback interface only."""

    port: int = 9104  # 0 switches it off


@dataclass(frozen=True)
class NodeConfig:
    """The whole file.

    Raises:
        ConfigError: a value outside of its range.
    """

    queue: QueueConfig
    destination: tuple[DestinationConfig, ...]
    server: ServerConfig = ServerConfig()
    rule: tuple[RuleConfig, ...] = (RuleConfig(),)
    metrics: MetricsConfig = MetricsConfig()
    threads: int = 0  # of the network; 0 takes all cores

    def __post_init__(self) -> None:
        server, queue = self.server, self.queue
        titles = [server.ae_title, *(d.ae_title for d in self.destination)]
        ports = [server.port, *(d.port for d in self.destination)]
        names = [d.name for d in self.destination]
        ranges = {
            "at least one [[destination]] must be given": bool(self.destination),
            "every destination.name must differ from the others": len(set(names)) == len(names),
            "an ae_title must have 1 to 16 printable ASCII characters": all(map(_is_ae, titles)),
            "a port must be in 1 to 65535": all(0 < port < 65536 for port in ports),
            "metrics.port must be in 0 to 65535": 0 <= self.metrics.port < 65536,
            "server.associations must be positive": server.associations > 0,
            "server.timeout must be positive": server.timeout > 0,
            "server.max_instance_mb must be positive": server.max_instance_mb > 0,
            "queue.quiet must be positive": queue.quiet > 0,
            "queue.keep_days and reserve_mb must not be negative": queue.keep_days >= 0
            and queue.reserve_mb >= 0,
            "destination.timeout and retry must be positive": all(
                d.timeout > 0 and d.retry > 0 for d in self.destination
            ),
            "rule.spacing must be a range, the smaller number first": all(
                0 <= rule.spacing[0] <= rule.spacing[1] for rule in self.rule
            ),
            "threads must not be negative": self.threads >= 0,
        }
        for text, holds in ranges.items():
            if not holds:
                raise ConfigError(f"{text}.")
        networks(server.allow_addresses)
        for tls in (server.tls, *(d.tls for d in self.destination)):
            if tls and bool(tls.certificate) != bool(tls.key):
                raise ConfigError("tls.certificate and tls.key go together: give both or none.")
        if server.tls and not server.tls.certificate:
            raise ConfigError("server.tls needs a certificate and its key.")


def load_node_config(path: Path) -> NodeConfig:
    """Read the configuration of a node.

    Raises:
        ConfigError: the file is missing, is not TOML, or has an unknown, missing or wrong entry.
    """
    return load_toml(path, NodeConfig)


def networks(addresses: tuple[str, ...]) -> tuple[Network, ...]:
    """Addresses and networks such as "10.1.2.3" and "10.1.0.0/16".

    Raises:
        ConfigError: one is neither.
    """
    try:
        return tuple(ipaddress.ip_network(address) for address in addresses)
    except ValueError as error:
        raise ConfigError(
            f"server.allow_addresses: {error}. Expected an address or a network, such as "
            "10.1.2.3 or 10.1.0.0/16."
        ) from error


def address_allowed(address: str, allowed: tuple[Network, ...]) -> bool:
    """Whether a peer's address lies in one of the networks; IPv4 in IPv6 counts as IPv4."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped:
        found = found.ipv4_mapped
    return any(found.version == network.version and found in network for network in allowed)


def _is_ae(title: str) -> bool:
    plain = title.isascii() and title.isprintable() and "\\" not in title  # PS3.5 6.2
    return plain and 0 < len(title.strip()) == len(title) <= 16
