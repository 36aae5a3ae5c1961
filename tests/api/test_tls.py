# SPDX-License-Identifier: Apache-2.0
"""With a certificate the API is served over TLS; plain HTTP is told so, and nothing more."""
import http.client
import json
import os
import pwd
import re
import signal
import socket
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


def handshake(tls, suite):
    """The suite that TLS 1.2 came to, or None where it did not."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(f"{suite}:@SECLEVEL=0")
    try:
        with socket.create_connection(("127.0.0.1", tls.port), 10) as raw, context.wrap_socket(raw) as s:
            return s.cipher()[0]
    except (ssl.SSLError, OSError):
        return None


@pytest.mark.parametrize("kind", ["ec", "rsa"])
def test_no_suite_of_tls_1_2_is_of_cbc_or_without_forward_secrecy(tls, tmp_path, kind):
    if kind == "rsa":
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                        "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", tls.cert_key, "-out", tls.cert], check=True, capture_output=True)
        tls.process.send_signal(signal.SIGHUP)
        assert clouds.until(lambda: handshake(tls, "ECDHE-RSA-AES128-GCM-SHA256"), 10)
    every = subprocess.run(["openssl", "ciphers", "-s", "-tls1_2", "ALL:@SECLEVEL=0"], check=True, capture_output=True, text=True).stdout.strip().split(":")
    assert any("CBC" in x or x.endswith("-SHA") for x in every) and len(every) > 30
    taken = {x for x in every if not x.startswith("TLS_") and handshake(tls, x)}
    auth = "ECDSA" if kind == "ec" else "RSA"
    assert taken == {f"ECDHE-{auth}-AES256-GCM-SHA384", f"ECDHE-{auth}-AES128-GCM-SHA256", f"ECDHE-{auth}-CHACHA20-POLY1305"}


def test_who_came_by_tls_is_told_to_stay_there(tls):
    context = ssl.create_default_context(cafile=tls.cert)
    for path in ("/health/live", "/queues", "/nowhere", "/volumes", "/%zz"):
        c = http.client.HTTPSConnection("127.0.0.1", tls.port, context=context, timeout=10)
        c.request("GET", path)
        assert c.getresponse().headers.get_all("Strict-Transport-Security") == ["max-age=31536000"], path
        c.close()
    with socket.create_connection(("127.0.0.1", tls.port), 10) as raw, context.wrap_socket(raw, server_hostname="127.0.0.1") as s:
        s.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert b"\r\nStrict-Transport-Security: max-age=31536000\r\n" in s.recv(4096)
    assert "Strict-Transport-Security" not in Client(tls.port).get("/health/live").headers


def test_plain_http_says_nothing_of_tls(api):
    assert "Strict-Transport-Security" not in api.nobody.get("/health/live").headers


def bad_files(folder):
    """What is wrong with a certificate or its key: the two, and what is said of it."""
    cert, key = certify(folder)
    (folder / "other").mkdir()
    _, other = certify(folder / "other")
    secret, nonsense, locked, rsa = (folder / x for x in ("secret.pem", "nonsense.pem", "locked.pem", "rsa.pem"))
    secret.write_bytes(key.read_bytes())
    secret.chmod(0o600)
    nonsense.write_text("nonsense")
    subprocess.run(["openssl", "ec", "-in", key, "-aes256", "-passout", "pass:x", "-out", locked], check=True, capture_output=True)
    subprocess.run(["openssl", "genrsa", "-out", rsa, "2048"], check=True, capture_output=True)
    for p in (locked, rsa):
        p.chmod(0o644)
    return [
        (cert, folder / "none.pem", f"the TLS key {folder}/none.pem cannot be read: No such file or directory"),
        (cert, secret, f"the TLS key {secret} cannot be read by uid {pwd.getpwnam('brume').pw_uid}: permission denied"),
        (cert, nonsense, f"the TLS key {nonsense} holds no private key in PEM form"),
        (cert, cert, f"the TLS key {cert} holds no private key in PEM form"),
        (cert, other, f"the TLS key {other} does not belong to the certificate {cert}"),
        (cert, rsa, f"the TLS key {rsa} does not belong to the certificate {cert}"),
        (cert, locked, f"the TLS key {locked} has a pass phrase: give it without one"),
        (cert, folder, f"the TLS key {folder} is no file"),
        (folder / "none.pem", key, f"the TLS certificate {folder}/none.pem cannot be read: No such file or directory"),
        (nonsense, key, f"the TLS certificate {nonsense} holds no certificate in PEM form"),
        (key, key, f"the TLS certificate {key} holds no certificate in PEM form"),
    ]


def test_a_certificate_or_key_that_cannot_be_used_says_why_in_one_line(make_cloud):
    c = make_cloud()
    folder = c.top / "tls"
    folder.mkdir()
    for cert, key, why in bad_files(folder):
        c.settings |= {"server.tls_cert": cert, "server.tls_key": key}
        c.spawn()
        assert c.process.wait(20) != 0
        assert c.err.read_text() == f"brume: {why}\n"
        c.err.unlink()
        p = subprocess.run([str(clouds.BRUME), "doctor"], env=c.env, capture_output=True, text=True, check=False)
        assert p.returncode == 1 and f"FAIL  tls              {why} (the api runs as brume)" in p.stdout, p.stdout
    c.process = None


def test_doctor_looks_at_the_certificate(make_cloud):
    c = make_cloud()
    cert, key = certify(c.top)

    def doctor():
        return subprocess.run([str(clouds.BRUME), "doctor"], env=c.env, capture_output=True, text=True, check=False).stdout
    assert "ok    tls              no certificate: plain HTTP" in doctor()
    c.settings |= {"server.tls_cert": cert, "server.tls_key": key}
    assert re.search(rf"^warn  tls              the certificate {cert} expires in [12] days?$", doctor(), re.M)
    subprocess.run(["openssl", "req", "-x509", "-key", key, "-days", "90", "-subj", "/CN=localhost", "-out", cert], check=True, capture_output=True)
    assert re.search(rf"^ok    tls              {cert}, good for (89|90) days$", doctor(), re.M)
    c.spawn()
    assert clouds.until(lambda: f"{c.port}: brume serves there" in doctor(), 20)


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
