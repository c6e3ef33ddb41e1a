"""One request and its answer, over HTTP, HTTPS or a Unix socket.

Invariant: a request ends by its deadline and holds at most ANSWER_BYTES_MAX, whatever the other side does. Nothing is followed
elsewhere: no redirect, and no proxy of the environment's, so that a token goes to the one address that was configured.
"""

import dataclasses
import http.client
import io
import ipaddress
import socket
import ssl
import time
import urllib.parse
from collections.abc import Mapping
from typing import Any, cast

from openexec.errors import ConfigurationError, WrongAnswer

ANSWER_BYTES_MAX = 4 * 1024 * 1024


class Lost(Exception):
    """No whole answer. `sent` says whether the request may have arrived."""

    def __init__(self, said: str, sent: bool) -> None:
        super().__init__(said)
        self.sent = sent


@dataclasses.dataclass(frozen=True)
class Answer:
    """A whole answer. The names of `headers` are in lower case. `may_have_executed` is of tries of the same request before it."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    may_have_executed: bool = False


class _Wire(io.RawIOBase):
    """A socket of which no wait, and not all waits together, pass the deadline."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock = sock
        self._deadline = deadline
        # The other side has said all that it will.
        self.has_ended = False

    def _arm(self) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the time for one request is over")
        self._sock.settimeout(left)

    def sendall(self, data: bytes) -> None:
        self._arm()
        self._sock.sendall(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._arm()
        count = self._sock.recv_into(buffer)
        self.has_ended = count == 0
        return count

    def close(self) -> None:
        """Who has connected closes: until then an answer is read, also where the client's half has ended."""

    def makefile(self, *_: object) -> io.BufferedReader:
        return io.BufferedReader(self)


class Transport:
    """Where the service is, and how one gets there."""

    def __init__(self, url: str, ca_file: str | None, plain_http: bool) -> None:
        self._context: ssl.SSLContext | None = None
        self._path: str | None = None
        if url.startswith("unix:"):
            self._path, self._host, self._port = url.removeprefix("unix:"), "localhost", 80
            return
        try:
            parts = urllib.parse.urlsplit(url)
            port = parts.port
        except ValueError:
            raise ConfigurationError("the URL is not well formed") from None
        if parts.scheme not in ("http", "https") or not parts.hostname or not url.isascii() or not url.isprintable():
            raise ConfigurationError("the URL is none of http://HOST:PORT, https://HOST:PORT and unix:PATH")
        if parts.path not in ("", "/") or parts.query or parts.fragment or "@" in parts.netloc:
            raise ConfigurationError("the URL has more than a scheme, a host and a port")
        self._host = parts.hostname
        if parts.scheme == "https":
            self._port = 443 if port is None else port
            try:
                self._context = ssl.create_default_context(cafile=ca_file)
            except (OSError, ssl.SSLError) as error:
                raise ConfigurationError(f"the CA file cannot be used: {error}") from None
        else:
            self._port = 80 if port is None else port
            if not plain_http and not _is_loopback(self._host):
                raise ConfigurationError("plain HTTP goes to this machine alone: use https://, or say plain_http=True")

    def __str__(self) -> str:
        return f"unix:{self._path}" if self._path is not None else f"{self._host}:{self._port}"

    def ask(self, method: str, path: str, headers: Mapping[str, str], body: bytes | None, timeout_seconds: float) -> Answer:
        """Raises `Lost`, `WrongAnswer`, or `ConfigurationError` where the certificate is not trusted."""
        deadline = time.monotonic() + timeout_seconds
        try:
            sock = self._connected(timeout_seconds)
        except ssl.SSLCertVerificationError as error:
            raise ConfigurationError(f"the service's certificate is not trusted: {error.verify_message}") from None
        except (OSError, UnicodeError) as error:
            raise Lost(f"no connection: {error}", sent=False) from None
        try:
            return self._exchange(_Wire(sock, deadline), method, path, headers, body)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise Lost(f"no whole answer: {error!r}", sent=True) from None
        finally:
            sock.close()

    def _connected(self, timeout_seconds: float) -> socket.socket:
        if self._path is not None:
            sock = socket.socket(socket.AF_UNIX)
            sock.settimeout(timeout_seconds)
            try:
                sock.connect(self._path)
            except BaseException:
                sock.close()
                raise
            return sock
        sock = socket.create_connection((self._host, self._port), timeout_seconds)
        if self._context is None:
            return sock
        try:
            # The handshake as a whole has the socket's timeout.
            return self._context.wrap_socket(sock, server_hostname=self._host)
        except BaseException:
            sock.close()
            raise

    def _exchange(self, wire: _Wire, method: str, path: str, headers: Mapping[str, str], body: bytes | None) -> Answer:
        default_port = http.client.HTTPS_PORT if self._context else http.client.HTTP_PORT
        # It leaves its own default port, and no other, out of `Host`.
        connection = http.client.HTTPConnection(self._host, http.client.HTTP_PORT if self._port == default_port else self._port)
        connection.sock = cast(socket.socket, wire)
        connection.request(method, path, body, {**headers, "Connection": "close"})
        response = connection.getresponse()
        if wire.has_ended:
            # The parser takes that for the end of the head.
            raise Lost("the head of the answer was cut short", sent=True)
        text = b""
        while piece := response.read(65_536):
            text += piece
            if len(text) > ANSWER_BYTES_MAX:
                raise WrongAnswer(f"the answer has more than {ANSWER_BYTES_MAX} bytes")
        length = response.headers.get("Content-Length")
        if length is not None and method != "HEAD" and response.status != 304 and length.strip() != str(len(text)):
            raise Lost("the answer was cut short", sent=True)
        return Answer(response.status, {name.lower(): value for name, value in response.headers.items()}, text)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
