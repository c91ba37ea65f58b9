"""TLS contexts for both roles, at least version 1.2 (PS3.15 B.9, BCP 195)."""

import ssl

from mrlift.errors import ConfigError
from mrlift.node.config import DestinationTlsConfig, TlsConfig


def server_context(tls: TlsConfig) -> ssl.SSLContext:
    """For incoming associations; with a `ca`, peers must show a certificate that it signed.

    Raises:
        ConfigError: a file is missing or holds something else.
    """
    return _context(ssl.Purpose.CLIENT_AUTH, tls)


def client_context(tls: DestinationTlsConfig) -> ssl.SSLContext:
    """For outgoing associations; without a `ca`, those that the system trusts count.

    Raises:
        ConfigError: a file is missing or holds something else.
    """
    context = _context(ssl.Purpose.SERVER_AUTH, tls)
    context.check_hostname = tls.check_name
    return context


def _context(purpose: ssl.Purpose, tls: TlsConfig) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(purpose, cafile=tls.ca or None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if purpose is ssl.Purpose.CLIENT_AUTH and tls.ca:
            context.verify_mode = ssl.CERT_REQUIRED
        if tls.certificate:
            context.load_cert_chain(tls.certificate, tls.key, password=_no_password)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise ConfigError(
            f"TLS cannot be set up with the files {tls.certificate or '-'}, {tls.key or '-'} and "
            f"{tls.ca or '-'}: {error}. Expected PEM files and a key without a password."
        ) from error
    return context


def _no_password() -> str:
    """Instead of a question on the terminal that nobody would answer."""
    raise ValueError("the key is locked with a password")
