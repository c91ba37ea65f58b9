"""The node's configuration file."""

import tomllib

import pytest
from conftest import ROOT

from mrlift.cli.node import need_pynetdicom
from mrlift.errors import ConfigError
from mrlift.node.config import (
    DestinationConfig,
    DestinationTlsConfig,
    MetricsConfig,
    NodeConfig,
    QueueConfig,
    RuleConfig,
    ServerConfig,
    TlsConfig,
    address_allowed,
    load_node_config,
    networks,
)

LEAST = """
[queue]
folder = "q"
[[destination]]
name = "a"
address = "10.0.0.1"
port = 104
ae_title = "PACS"
"""


def loaded(tmp_path, text):
    (tmp_path / "node.toml").write_text(text)
    return load_node_config(tmp_path / "node.toml")


def test_the_least_that_must_be_said(tmp_path):
    config = loaded(tmp_path, LEAST)
    assert config.server == ServerConfig()
    assert config.rule == (RuleConfig(),)
    assert config.destination[0].ae_title == "PACS"


def test_the_example_is_sound():
    config = load_node_config(ROOT / "examples" / "node.toml")
    assert config.server.tls
    assert len(config.rule) > 1
    assert len(config.destination) > 1


SECTIONS = {
    "queue": QueueConfig, "server": ServerConfig, "server.tls": TlsConfig, "rule": RuleConfig,
    "destination": DestinationConfig, "destination.tls": DestinationTlsConfig,
    "metrics": MetricsConfig,
}  # fmt: skip


@pytest.mark.parametrize("section", SECTIONS)
def test_the_example_and_the_reference_name_every_key(section):
    keys = set(SECTIONS[section].__dataclass_fields__) - {"tls"}
    found = [tomllib.loads((ROOT / "examples" / "node.toml").read_text())]
    for name in section.split("."):
        inner = [table[name] for table in found if name in table]
        found = [t for part in inner for t in (part if isinstance(part, list) else [part])]
    assert keys <= {key for table in found for key in table}
    reference = (ROOT / "docs" / "reference" / "node.md").read_text()
    for key in keys:
        assert f"| `{section}.{key}` |" in reference


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("[server]\nprot = 1", "Did you mean 'port'"),
        ("[[rule]]\ncontrast = ['T3']", r"rule.contrast.*expected one of 'T1'"),
        ("[[rule]]\nspacing = [1.0]", "expected 2 values"),
        ("[[rule]]\nspacing = [2, 1]", "smaller number first"),
        ("[server]\nport = 0", "1 to 65535"),
        ("[server]\nae_title = 'a name that is too long'", "1 to 16"),
        ("[server]\nallow_addresses = ['10.0.0.1/8']", "host bits set"),
        ("[server]\nallow_addresses = ['pacs']", "Expected an address or a network"),
        ("[server.tls]\ncertificate = 'a'", "go together"),
        ("[server.tls]\nca = 'a'", "needs a certificate"),
        ("[server]\ntls = 3", "expected a table"),
        ("[metrics]\nport = -1", "metrics.port"),
        ("[server]\ntimeout = 0", "must be positive"),
    ],
)
def test_mistakes_are_named(tmp_path, change, message):
    with pytest.raises(ConfigError, match=message):
        loaded(tmp_path, LEAST + change)


def test_what_must_be_there_is_asked_for(tmp_path):
    with pytest.raises(ConfigError, match="'queue' is missing in the top level"):
        loaded(tmp_path, "")
    with pytest.raises(ConfigError, match=r"'folder' is missing in \[queue\]"):
        loaded(tmp_path, "destination = []\n[queue]\n")
    with pytest.raises(ConfigError, match="at least one"):
        loaded(tmp_path, "destination = []\n[queue]\nfolder = 'q'")
    destination = LEAST[LEAST.index("[[") :]
    with pytest.raises(ConfigError, match="differ"):
        loaded(tmp_path, LEAST + destination)


def test_addresses():
    allowed = networks(("10.1.0.0/16", "::1", "192.168.1.7"))
    for address in ("10.1.255.3", "::1", "192.168.1.7", "::ffff:10.1.2.3"):
        assert address_allowed(address, allowed)
    for address in ("10.2.0.1", "::2", "192.168.1.8", "fe80::1%eth0"):
        assert not address_allowed(address, allowed)
    assert NodeConfig.__dataclass_params__.frozen


@pytest.mark.parametrize(("absent", "words"), [("pynetdicom", "node"), ("fcntl", "Linux")])
def test_what_the_command_needs_is_named(monkeypatch, absent, words):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == absent else name)
    with pytest.raises(ConfigError, match=words):
        need_pynetdicom()
