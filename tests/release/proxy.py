#!/usr/bin/env python3
"""deploy/nginx.conf and deploy/Caddyfile with the blocks of docs/deploy/proxy.md as they are, but for names, ports and paths, in
front of the real service.

    python3 tests/release/proxy.py OPENEXEC OPENEXEC-APPROVE

Needs nginx, caddy, openssl and curl.
"""

import contextlib
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/python"))
from boundary import boundary  # noqa: E402

NAME = "openexec.example.com"
# The approvers' name here: one that leads to this machine.
APPROVERS = "localhost"
CALL = {"action": "echo", "payload": {"msg": "hello world"}, "nonce": "unique-1"}


def run(*command, **options):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options).stdout


def certificates(directory):
    """An authority for callers, a caller of it, one of another authority, and the server's own."""
    def authority(name):
        run("openssl", "req", "-x509", "-newkey", "ed25519", "-nodes", "-days", "2", "-subj", f"/CN={name}",
            "-keyout", directory / f"{name}.key", "-out", directory / f"{name}.pem")

    def signed(name, by, subject, extension):
        run("openssl", "req", "-newkey", "ed25519", "-nodes", "-subj", f"/CN={subject}",
            "-keyout", directory / f"{name}.key", "-out", directory / f"{name}.csr")
        (directory / "extension").write_text(extension)
        run("openssl", "x509", "-req", "-in", directory / f"{name}.csr", "-days", "2", "-extfile", directory / "extension",
            "-CA", directory / f"{by}.pem", "-CAkey", directory / f"{by}.key", "-CAcreateserial",
            "-out", directory / f"{name}.pem")

    authority("callers")
    authority("others")
    # Ed25519 certificates are not for every client: the server's is ECDSA.
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
        "-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME},DNS:{APPROVERS}", "-addext", "basicConstraints=critical,CA:FALSE",
        "-keyout", directory / "server.key", "-out", directory / "server.pem")
    usage = "extendedKeyUsage=clientAuth"
    signed("agent", "callers", "agent", usage)
    signed("stranger", "others", "stranger", usage)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def started(command, port, **options):
    process = subprocess.Popen(command, **options)
    try:
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"{command[0]} does not listen")
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait()


def configured(name, directory, port, service):
    """The shipped file with ports and paths of this run; each must be there to be replaced."""
    page = (ROOT / "docs/deploy/proxy.md").read_text()
    text = (ROOT / "deploy" / name).read_text()
    text += re.search(rf"^```{name.removesuffix('.conf').lower()}\n(.*?)^```$", page, re.S | re.M)[1]
    listening = {"nginx.conf": [("listen 443 ", f"listen 127.0.0.1:{port} "), ("approvals.example.com", APPROVERS)],
                 "Caddyfile": [(f"\n{NAME} {{", f"\n{NAME}:{port} {{\n\tbind 127.0.0.1"),
                               ("\napprovals.example.com {", f"\n{APPROVERS}:{port} {{\n\tbind 127.0.0.1")]}[name]
    for old, new in [*listening, ("127.0.0.1:5000", f"127.0.0.1:{service}"), ("/etc/openexec/tls", str(directory))]:
        assert old in text, (name, old)
        text = text.replace(old, new)
    return text


@contextlib.contextmanager
def nginx(directory, port, service):
    (directory / "logs").mkdir()
    text = configured("nginx.conf", directory, port, service)
    paths = "".join(f"{kind}_temp_path {directory}/{kind};\n" for kind in
                    ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    whole = directory / "whole.conf"
    whole.write_text(f"daemon off; pid {directory}/pid; error_log {directory}/logs/error.log;\n"
                     f"events {{}}\nhttp {{ access_log off;\n{paths}{text}}}\n")
    run("nginx", "-t", "-p", directory, "-c", whole)
    with started(["nginx", "-p", directory, "-c", whole], port):
        yield


@contextlib.contextmanager
def caddy(directory, port, service):
    file = directory / "Caddyfile"
    # No address but its own, and nothing fetched.
    file.write_text("{\n\tadmin off\n\tauto_https disable_redirects\n}\n" + configured("Caddyfile", directory, port, service))
    environment = {**os.environ, "HOME": str(directory), "XDG_DATA_HOME": str(directory), "XDG_CONFIG_HOME": str(directory)}
    run("caddy", "validate", "--config", file, "--adapter", "caddyfile", env=environment)
    command = ["caddy", "run", "--config", file, "--adapter", "caddyfile"]
    with started(command, port, env=environment, stderr=subprocess.DEVNULL):
        yield


def ask(directory, port, path, *options, caller="agent", data=None, host=NAME):
    """Status and body; status 0 where the handshake failed."""
    command = ["curl", "-s", "--cacert", directory / "server.pem", "--resolve", f"{host}:{port}:127.0.0.1",
               "-w", "\n%{http_code}", f"https://{host}:{port}{path}", *options]
    if caller:
        command += ["--cert", directory / f"{caller}.pem", "--key", directory / f"{caller}.key"]
    if data is not None:
        command += ["-H", "Content-Type: application/json", "--data-binary", "@-"]
    done = subprocess.run(command, input=data, stdout=subprocess.PIPE, text=True)
    body, _, status = done.stdout.rpartition("\n")
    return int(status), body


def answered(*arguments, **options):
    """The same, asked until there is a whole answer: who is held up while it sends may find the connection closed, with or without
    a 100 before."""
    answers = (ask(*arguments, **options) for _ in range(5))
    return next((answer for answer in answers if answer[0] >= 200), (0, ""))


def padded(size):
    text = json.dumps(CALL | {"pad": ""})
    return text[:-2] + "x" * (size - len(text)) + '"}'


def check_alone(name, directory, port):
    """Where there is no OpenExec behind it: the proxy's own word for that, and for a body that OpenExec would never take."""
    for size, status in ((200, 502), (1 << 20, 502), ((1 << 20) + 1, 413)):
        got, _ = answered(directory, port, "/execute", "--http1.1", data=padded(size))
        assert got == status, (name, size, got)
    got, _ = ask(directory, port, "/health", "--http1.1")
    assert got == 502, (name, got)


def check(name, directory, port):
    def expect(status, *arguments, within=None, **options):
        got, body = ask(directory, port, *arguments, **options)
        assert got == status and (within is None or within in body), (name, arguments, got, body)
        return body

    call = json.dumps(CALL)
    first = expect(200, "/execute", data=call, within='"approved":true')
    assert expect(200, "/execute", data=call) == first, "a replay has the same bytes"
    expect(200, "/execute", "-H", "Transfer-Encoding: chunked", data=call.replace("unique-1", "unique-2"))
    expect(200, "/health", "--http1.1", within='"healthy"')
    expect(200, "/health", "--http2", within='"healthy"')
    # Nobody without a certificate of this authority gets to OpenExec.
    for stranger in (None, "stranger"):
        status, body = ask(directory, port, "/health", caller=stranger)
        assert status in (0, 400) and "healthy" not in body, (name, stranger, status, body)
    expect(403, "/execute", "-H", "Origin: https://evil.example", data=call, within="browser_origin")
    status, body = ask(directory, port, "/health", "-H", "Host: evil.example")
    assert status in (0, 404, 421) or "host_not_allowed" in body or body == "", (name, status, body)
    assert "healthy" not in body, (name, body)
    expect(415, "/execute", "-H", "Content-Type: text/plain", "--data-binary", "{}", within="unsupported_media_type")
    # A body of the largest size is let through, to be refused for what it says. A larger one is not, with its length or without.
    expect(422, "/execute", data=padded(1 << 20), within="unknown_field")
    for size in ((1 << 20) + 1, 3 << 20):
        # Debian's curl loses an answer over HTTP/2 that comes before it has sent all.
        status, body = ask(directory, port, "/execute", data=padded(size))
        assert status in (0, 413), (name, status, body)
        for options in (), ("-H", "Transfer-Encoding: chunked"):
            status, body = answered(directory, port, "/execute", "--http1.1", *options, data=padded(size))
            assert status == 413, (name, options, status, body)
    # The service is as before, after all of this.
    assert expect(200, "/execute", data=call) == first


def check_approvers(name, directory, port, one, approve):
    """The tool does its work under the approvers' name, without a certificate; nothing else goes through there."""
    def tool(*words, token="alice"):
        command = [approve, *words, "--url", f"https://{APPROVERS}:{port}", "--token-file", one.at / f"{token}.token"]
        own = {"PATH": os.environ["PATH"], "HOME": str(one.at), "SSL_CERT_FILE": str(directory / "server.pem")}
        return subprocess.run(command, cwd=one.at, env=own, stdin=subprocess.DEVNULL, capture_output=True, text=True)

    def asked(path, *options, **more):
        return ask(directory, port, path, "--http1.1", *options, host=APPROVERS, caller=None, **more)

    yes, no = one.propose(f"{name} yes"), one.propose(f"{name} no", amount=1)
    listed = tool("list")
    assert listed.returncode == 0 and yes in listed.stdout and no in listed.stdout, (name, listed)
    # With the reading of an amount, for which it asks the service what the action is.
    approved = tool("approve", yes, "--key", "alice.pem", "--yes")
    assert approved.returncode == 0 and "executing" in approved.stdout, (name, approved)
    one.until(yes, "executed")
    rejected = tool("reject", no, "--key", "alice.pem", "--yes", "--justification", "no")
    assert rejected.returncode == 0 and one.state(no) == "rejected", (name, rejected)
    assert "caller_not_allowed" in tool("approve", one.propose(f"{name} other"), "--key", "alice.pem", "--yes", token="watcher").stderr
    # The callers file is there for those without a token; everything else is not.
    for path in ("/actions", "/proposals?state=pending", f"/proposals/{yes}"):
        status, body = asked(path)
        assert status == 401 and "unauthenticated" in body, (name, path, status, body)
    agent = f"Authorization: Bearer {(one.at / 'agent.token').read_text().strip()}"
    for path in ("/", "/health", "/ready", "/metrics", "/log/checkpoint", "/openapi.json", "/approvals/", "//approvals", "/proposals/../execute",
                 "/proposals%2f..%2fexecute", f"/receipts/{yes}", "/actionsx", "/x/actions"):
        status, body = asked(path, "--path-as-is", "-H", agent)
        assert status in (404, 400) and "paid" not in body and "healthy" not in body, (name, path, status, body)
    for path in ("/execute", "/mcp", "/receipts/verify", "/approvals/../execute"):
        status, body = asked(path, "--path-as-is", "-H", agent, data=json.dumps(CALL))
        assert status == 404 and '"approved"' not in body, (name, path, status, body)
    # Nor does the other name, for those who said this one to TLS.
    for path in ("/health", "/execute"):
        status, body = asked(path, "-H", f"Host: {NAME}", "-H", agent, data=json.dumps(CALL) if path == "/execute" else None)
        # By the proxy: OpenExec would say so in its own words.
        assert status in (0, 400, 404, 421) and "host_not_allowed" not in body, (name, path, status, body)
        assert "healthy" not in body and '"approved"' not in body, (name, path, status, body)


def is_ready(port):
    """Waits for it: a service listens before it has opened its store."""
    while True:
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=30).close()
        except urllib.error.HTTPError as error:
            assert b"opening" in error.read()
        time.sleep(0.02)


def main():
    binary, approve = map(os.path.abspath, sys.argv[1:])
    for name, proxy in [("nginx", nginx), ("caddy", caddy)]:
        with tempfile.TemporaryDirectory() as scratch:
            directory = pathlib.Path(scratch)
            # nginx gives up root for its workers, which read nothing here but what it opened before.
            directory.chmod(0o755)
            certificates(directory)
            # Bound until the service is, so that nobody else takes it, and without a listener.
            held, port = socket.socket(), free_port()
            held.bind(("127.0.0.1", 0))
            service = held.getsockname()[1]
            environment = {"OPENEXEC_DB_URL": f"file:{directory}/store", "OPENEXEC_LOG": "error",
                           "OPENEXEC_LISTEN": f"127.0.0.1:{service}", "OPENEXEC_ALLOWED_HOSTS": NAME}
            with proxy(directory, port, service):
                check_alone(name, directory, port)
                held.close()
                with started([binary], service, env=environment):
                    is_ready(service)
                    check(name, directory, port)
            (directory / "logs").exists() and (directory / "logs").rename(directory / "logs.1")
            with boundary(binary, {"alice": None}, callers=["alice"]) as one:
                with proxy(directory, port, int(one.url.rpartition(":")[2])):
                    check_approvers(name, directory, port, one, approve)
            print(f"{name}: ok")


if __name__ == "__main__":
    main()
