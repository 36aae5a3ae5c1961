# SPDX-License-Identifier: Apache-2.0
"""With a certificate the API is served over TLS; plain HTTP is told so, and nothing more."""
import http.client
import json
import os
import signal
import ssl
import subprocess

import cloud as clouds
import pytest
from cloud import Client


def certify(folder, name="localhost"):
    """A certificate of our own at the usual place in 'folder'; its path and its key's."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                    "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert],
                   check=True, capture_output=True)
    for p in (cert, key):
        p.chmod(0o644)
    return cert, key


class TlsCloud(clouds.Cloud):
    """A cloud whose state of health is asked over TLS."""

    def __init__(self, settings=None):
        super().__init__({"compute.fake_drivers": "true", **(settings or {})}, name="tls")
        self.cert, self.cert_key = certify(self.top)
        self.settings |= {"server.tls_cert": self.cert, "server.tls_key": self.cert_key}

    def secure(self, method, path, headers=None, body=None, cafile=None):
        context = ssl.create_default_context(cafile=cafile or self.cert)
        c = http.client.HTTPSConnection("127.0.0.1", self.port, context=context, timeout=10)
        try:
            c.request(method, path, body, headers or {})
            r = c.getresponse()
            return r.status, json.loads(r.read() or b"null")
        finally:
            c.close()

    def ready(self):
        if self.process.poll() is not None:
            raise AssertionError(f"brume ended with {self.process.returncode}: {self.log_tail()}")
        try:
            return self.secure("GET", "/health/live")[0] == 200 and b"serves at" in self.out.read_bytes()
        except (OSError, http.client.HTTPException):
            return False


@pytest.fixture(scope="module")
def tls():
    c = TlsCloud()
    try:
        c.start()
        yield c
        assert c.stop() == 0
    finally:
        c.remove()


def test_a_request_over_tls_is_served(tls):
    assert tls.secure("GET", "/queues", {"X-API-Key": tls.key}) == (200, [])
    assert tls.secure("GET", "/queues")[0] == 401


@pytest.mark.parametrize("method, path", [("GET", "/queues"), ("POST", "/v1/queues"), ("POST", "/auth/login"), ("GET", "/health/ready"),
                                          ("GET", "/nowhere"), ("OPTIONS", "/queues"), ("GET", "/v1/openapi.json")])
def test_plain_http_is_refused_before_anything_is_read(tls, method, path):
    for key in (tls.key, "thecloud_nonsense", None):
        r = Client(tls.port, key).req(method, path, body={"name": "q"} if method == "POST" else None)
        assert (r.status, r.code) == (403, "https_required"), r
        assert "Location" not in r.headers and "X-RateLimit-Limit" not in r.headers
        assert "https://" in r.error["details"] and r.headers["Connection"] == "close"
    assert tls.secure("GET", "/queues", {"X-API-Key": tls.key}) == (200, [])


def test_a_body_in_clear_is_not_waited_for(tls):
    got = Client(tls.port).wire(f"POST /queues HTTP/1.1\r\nHost: a\r\nX-API-Key: {tls.key}\r\nContent-Length: 100000\r\n\r\n".encode())
    assert got.startswith(b"HTTP/1.1 403 ") and b"https_required" in got and got.count(b"HTTP/1.1") == 1


def test_two_requests_in_clear_get_one_answer(tls):
    got = Client(tls.port).wire(b"GET /queues HTTP/1.1\r\nHost: a\r\n\r\n" * 2)
    assert got.count(b"HTTP/1.1 403") == 1
