"""The certificate of HTTPS: named by options, or made here, signed by itself.

``python -m reactor.http.certificate CERT KEY NAME...`` makes one: in a process of its own, so that
the library for it takes no room in the one that serves.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bus.config import private_dir
from bus.errors import ConfigError

DAYS = 825
"""How long a made certificate holds: what browsers accept of private ones at most."""

_RENEW_DAYS = 700
_SECONDS = 30.0


def prepare(opts: Mapping[str, Any]) -> tuple[str, str]:
    """Return the files of certificate and key; empty names for HTTP without encryption.

    Raises:
        ConfigError: one of the two is missing or cannot be used.
    """
    cert, key = str(opts["http_tls_cert"]), str(opts["http_tls_key"])
    if bool(cert) != bool(key):
        missing = "http_tls_key" if cert else "http_tls_cert"
        raise ConfigError(f"http_tls_cert and http_tls_key go together: set {missing} too")
    if not cert and not opts["http_self_signed"]:
        return "", ""
    if not cert:
        cert, key = self_signed(Path(opts["pki_dir"]), names_of(str(opts["http_interface"])))
    _check(cert, key)
    return cert, key


def _check(cert: str, key: str) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password="")
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"cannot use http_tls_cert {cert} with http_tls_key {key}: {error}"
        ) from error


def names_of(interface: str) -> list[str]:
    """Return the names under which this host may be asked."""
    names = ["localhost", "127.0.0.1", "::1", socket.gethostname()]
    if interface not in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        names.append(interface)
    return [*dict.fromkeys(names)]


def self_signed(directory: Path, names: Sequence[str]) -> tuple[str, str]:
    """Return certificate and key in ``directory``, made if they are missing or nearly over."""
    cert, key = private_dir(directory) / "http.crt", directory / "http.key"
    if not key.exists() or not _holds(cert):
        # As the parent was imported, so is the child.
        path = os.pathsep.join(entry or os.curdir for entry in sys.path)
        made = subprocess.run(
            [sys.executable, "-m", __name__, str(cert), str(key), *names],
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
        )
        if made.returncode:
            why = (made.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise ConfigError(f"no certificate for HTTPS could be made: {why}")
    return str(cert), str(key)


def _holds(cert: Path) -> bool:
    try:
        return time.time() - cert.stat().st_mtime < _RENEW_DAYS * 86_400
    except OSError:
        return False


def make(cert: Path, key: Path, names: Sequence[str]) -> None:
    """Make a key and a certificate that it signs."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    private = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "reactor")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=DAYS))
        .add_extension(x509.SubjectAlternativeName([_name(each) for each in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(private, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    _write(
        key,
        private.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )
    _write(cert, certificate.public_bytes(pem))


def _name(text: str) -> Any:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _write(path: Path, content: bytes) -> None:
    """Put a whole file in place, which only its owner can read."""
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    new.replace(path)


if __name__ == "__main__":
    make(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
