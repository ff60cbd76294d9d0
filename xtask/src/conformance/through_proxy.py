"""A pytest plugin that sends every loopback connection of a test suite through a proxy.

The suites start their own servers and connect to them directly, mostly with proxy variables
removed and below any layer that would read them. So the one place that all of them share is
changed: `socket.connect` to loopback asks the proxy for a CONNECT to the same address (RFC 9110,
section 9.3.6) and gives the test a socket that looks connected.

`oriel run` names the proxy in HTTPS_PROXY; without that nothing is changed. Two more variables:
  CONFORMANCE_AUTHORITY   what the proxy and the servers of the tests issue certificates from:
                          the files PREFIX.pem and PREFIX.key
  CONFORMANCE_VERDICTS    where verdicts are written, a line `verdict<TAB>test` for each
"""

import errno
import os
import socket
import tempfile

import pytest
import trustme

PROXY = os.environ.get("HTTPS_PROXY", "").removeprefix("http://")
AUTHORITY = os.environ["CONFORMANCE_AUTHORITY"]
VERDICTS = os.environ["CONFORMANCE_VERDICTS"]
HEAD_BYTES_MAX = 16 * 1024
CONNECT_SECONDS_MAX = 20

original_connect = socket.socket.connect


def connect(self, address):
    """Connects through the proxy, if the address is one of this machine's."""
    if not is_loopback(self, address):
        return original_connect(self, address)
    # Time limits of a millisecond are meant for the server alone.
    limit = self.gettimeout()
    self.settimeout(CONNECT_SECONDS_MAX)
    try:
        connect_by_proxy(self, address)
    finally:
        self.settimeout(limit)


def connect_by_proxy(self, address):
    host, port = PROXY.rsplit(":", 1)
    if self.family == socket.AF_INET6:
        proxy = (f"::ffff:{host}", int(port))
    else:
        proxy = (host, int(port))
    original_connect(self, proxy)
    name = f"[{address[0]}]" if ":" in address[0] else address[0]
    target = f"{name}:{address[1]}"
    raw_send(self, f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
    status = read_status(self)
    if status != 200:
        # What the test would have met without a proxy.
        raise ConnectionRefusedError(errno.ECONNREFUSED, f"the proxy answered {status}")


def is_loopback(sock, address):
    if sock.family not in (socket.AF_INET, socket.AF_INET6) or sock.type & 0xF != socket.SOCK_STREAM:
        return False
    return isinstance(address, tuple) and address[0] in ("127.0.0.1", "localhost", "::1")


def raw_send(sock, data):
    # Past SSLSocket, which is not connected yet.
    while data:
        data = data[socket.socket.send(sock, data) :]


def read_status(sock):
    """Reads the head of the answer byte by byte, so as not to take what belongs to the test."""
    head = b""
    while not head.endswith(b"\r\n\r\n") and len(head) < HEAD_BYTES_MAX:
        byte = socket.socket.recv(sock, 1)
        if not byte:
            return 0
        head += byte
    return int(head.split(b" ", 2)[1])


def share_authority():
    """Makes every authority of the tests the one that the proxy issues from."""
    with open(AUTHORITY + ".pem", "rb") as certificate, open(AUTHORITY + ".key", "rb") as key:
        shared = trustme.CA.from_pem(certificate.read(), key.read())
    original = trustme.CA.__init__

    def init(self, parent_cert=None, **options):
        original(self, parent_cert=parent_cert, **options)
        if parent_cert is None:
            self.__dict__.update(shared.__dict__)

    trustme.CA.__init__ = init
    share_with_httpbin(shared)


def share_with_httpbin(authority):
    try:
        from pytest_httpbin import certs, serve
    except ImportError:
        return
    folder = tempfile.mkdtemp(prefix="httpbin-")
    server = authority.issue_cert("localhost", "127.0.0.1", "::1")
    authority.cert_pem.write_to_path(os.path.join(folder, "client.pem"))
    server.private_key_pem.write_to_path(os.path.join(folder, "server.key"))
    for index, part in enumerate(server.cert_chain_pems):
        part.write_to_path(os.path.join(folder, "server.pem"), append=index > 0)
    serve.CERT_DIR = folder
    certs.where = lambda: os.path.join(folder, "client.pem")


def pytest_configure(config):
    share_authority()
    # Some suites test how these are read, and none expects them to be set.
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        del os.environ[name]
    if PROXY:
        socket.socket.connect = connect


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session):
    with open(VERDICTS, "w", encoding="utf-8") as report:
        for test, verdict in sorted(verdicts.items()):
            report.write(f"{verdict}\t{test}\n")


verdicts = {}


def pytest_runtest_logreport(report):
    # A test fails if its set-up or its end does.
    if report.failed:
        verdicts[report.nodeid] = "failed"
    elif report.when == "call" or report.skipped:
        verdicts.setdefault(report.nodeid, report.outcome)
