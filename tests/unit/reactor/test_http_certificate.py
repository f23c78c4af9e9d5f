"""The certificate of HTTPS: named, made, kept, renewed, or refused in one line."""

import ipaddress
import os
import ssl
import stat
import time
from pathlib import Path

import pytest
from cryptography import x509

from bus.errors import ConfigError
from reactor.http import certificate
from tests.support import master_options

NAMES = ["localhost", "127.0.0.1", "host.example"]


@pytest.fixture
def made(tmp_path):
    """A certificate and its key, made in this process."""
    cert, key = tmp_path / "a.crt", tmp_path / "a.key"
    certificate.make(cert, key, NAMES)
    return cert, key


def test_what_is_made(made):
    """For these names, no authority, within what browsers take, and only the owner's."""
    cert, key = made
    found = x509.load_pem_x509_certificate(cert.read_bytes())
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "host.example"]
    assert names.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address("127.0.0.1")]
    assert not found.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    life = found.not_valid_after_utc - found.not_valid_before_utc
    assert life.days == certificate.DAYS
    for path in (cert, key):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key)
    assert sorted(path.name for path in cert.parent.iterdir()) == ["a.crt", "a.key"]


def test_it_is_kept_and_renewed(tmp_path):
    """As long as it holds it is the same; then, or without its key, it is made anew."""
    directory = tmp_path / "pki"
    cert, key = certificate.self_signed(directory, NAMES)
    first = Path(cert).read_bytes()
    assert certificate.self_signed(directory, NAMES) == (cert, key)
    assert Path(cert).read_bytes() == first
    long_ago = time.time() - 701 * 86_400
    os.utime(cert, (long_ago, long_ago))
    certificate.self_signed(directory, NAMES)
    second = Path(cert).read_bytes()
    assert second != first
    Path(key).unlink()
    certificate.self_signed(directory, NAMES)
    assert Path(cert).read_bytes() != second
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key)


def test_one_that_cannot_be_made(tmp_path):
    """The reason is the last line of what went wrong."""
    with pytest.raises(ConfigError, match=r"no certificate for HTTPS could be made: \w+Error: .+"):
        certificate.self_signed(tmp_path / "pki", ["☃"])


@pytest.mark.parametrize(
    ("interface", "more"),
    [("127.0.0.1", []), ("0.0.0.0", []), ("::", []), ("192.0.2.7", ["192.0.2.7"])],
)
def test_names_of_a_host(interface, more, monkeypatch):
    """Each once; an interface that is any says nothing."""
    monkeypatch.setattr(certificate.socket, "gethostname", lambda: "here")
    assert certificate.names_of(interface) == ["localhost", "127.0.0.1", "::1", "here", *more]


class TestOptions:
    """What the options say, and what is wrong with it."""

    def test_none(self, tmp_path):
        """Plain HTTP, if that is asked for; else one is made."""
        opts = master_options(tmp_path)
        assert certificate.prepare(opts.with_(http_self_signed=False)) == ("", "")
        cert, key = certificate.prepare(opts)
        assert (Path(cert).name, Path(key).name) == ("http.crt", "http.key")

    def test_named(self, tmp_path, made):
        """They are used as they are."""
        cert, key = map(str, made)
        opts = master_options(tmp_path).with_(http_tls_cert=cert, http_tls_key=key)
        assert certificate.prepare(opts) == (cert, key)

    @pytest.mark.parametrize("missing", ["http_tls_cert", "http_tls_key"])
    def test_one_without_the_other(self, tmp_path, made, missing):
        """The one that is missing is named."""
        named = dict(zip(("http_tls_cert", "http_tls_key"), map(str, made), strict=True))
        opts = master_options(tmp_path).with_(**{**named, missing: ""})
        with pytest.raises(ConfigError, match=f"set {missing} too"):
            certificate.prepare(opts)

    @pytest.mark.parametrize("content", [None, b"no key", "other"])
    def test_a_key_that_does_not_fit(self, tmp_path, made, content):
        """Refused at the start, with both names."""
        cert, key = made
        if content is None:
            key.unlink()
        elif content == "other":
            certificate.make(tmp_path / "b.crt", key, NAMES)
        else:
            key.write_bytes(content)
        opts = master_options(tmp_path).with_(http_tls_cert=str(cert), http_tls_key=str(key))
        with pytest.raises(
            ConfigError, match=r"cannot use http_tls_cert .*a\.crt with http_tls_key"
        ):
            certificate.prepare(opts)
