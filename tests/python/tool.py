#!/usr/bin/env python3
"""`list`, `show`, `approve` and `reject` against the real service: over loopback, a Unix socket and HTTPS, through certificates that
are wrong and answers that lead elsewhere; and with a security key (in software) whose flags say everything that they can.

usage: tool.py OPENEXEC OPENEXEC-APPROVE     (needs caddy, openssl, faketime, ssh-keygen, a C compiler, libssl-dev)
"""

import contextlib
import http.server
import json
import os
import pathlib
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import uuid
import warnings

from boundary import TENANT, boundary

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOL = os.path.abspath(sys.argv[2])


def tool(at, *arguments, **environment):
    """Exit code, standard output and standard error; without a terminal."""
    own = {"PATH": os.environ["PATH"], "HOME": str(at), "SSL_CERT_FILE": str(at / "ca.pem")} | environment
    done = subprocess.run([TOOL, *map(str, arguments)], cwd=at, env=own, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, start_new_session=True)
    return done.returncode, done.stdout, done.stderr


def run(*command, **options):
    return subprocess.run(command, check=True, capture_output=True, text=True, **options).stdout


def certificates(at):
    """An authority that is trusted here, and certificates of it and of another, each wrong in one thing but the first."""
    for name in ("ca", "other"):
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "9000", "-subj", f"/CN={name}",
            "-keyout", at / f"{name}.key", "-out", at / f"{name}.pem")

    def signed(name, by="ca", names="DNS:localhost", usage="serverAuth", when=()):
        run("openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=localhost", "-keyout", at / f"{name}.key", "-out", at / "csr")
        (at / "extension").write_text(f"extendedKeyUsage={usage}\n" + (f"subjectAltName={names}\n" if names else ""))
        run(*when, "openssl", "x509", "-req", "-in", at / "csr", "-days", "30", "-extfile", at / "extension", "-CA", at / f"{by}.pem", "-CAkey", at / f"{by}.key",
            "-set_serial", "7", "-out", at / f"{name}.pem")

    signed("good")
    signed("of another authority", by="other")
    signed("for another name", names="DNS:localhost.example,DNS:*.localhost")
    signed("for no name", names="")
    signed("for clients", usage="clientAuth")
    signed("expired", when=("faketime", "2020-01-01"))
    signed("not yet valid", when=("faketime", "2099-01-01"))
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30", "-subj", "/CN=localhost",
        "-addext", "subjectAltName=DNS:localhost", "-keyout", at / "its own.key", "-out", at / "its own.pem")
    return ["of another authority", "for another name", "for no name", "for clients", "expired", "not yet valid", "its own"]


class Ear(http.server.BaseHTTPRequestHandler):
    """Somebody else's server: it remembers every request, and answers with `status` and, where that leads elsewhere, to where."""

    def do_GET(self):
        self.server.heard.append(self.path + "\n" + str(self.headers))
        self.send_response(self.server.status)
        if self.server.elsewhere:
            self.send_header("Location", self.server.elsewhere + self.path)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    do_CONNECT = do_POST = do_GET

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def ear(certificate=None, status=200, elsewhere=None, at=None, version=None):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Ear)
    server.heard, server.status, server.elsewhere = [], status, elsewhere
    server.handle_error = lambda *_: None
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(at / f"{certificate}.pem", at / f"{certificate}.key")
        if version:
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, version
            context.set_ciphers("ALL:@SECLEVEL=0")
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server, f"localhost:{server.server_port}"
    finally:
        server.shutdown()


@contextlib.contextmanager
def caddy(at, upstream):
    """TLS as an operator has it: a proxy in front of the service's socket."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (at / "Caddyfile").write_text(f"{{\n\tadmin off\n\tauto_https disable_redirects\n}}\nhttps://localhost:{port} {{\n\tbind 127.0.0.1\n"
                                  f"\ttls {at}/good.pem {at}/good.key\n\treverse_proxy unix/{upstream}\n}}\n")
    own = {**os.environ, "HOME": str(at), "XDG_DATA_HOME": str(at), "XDG_CONFIG_HOME": str(at)}
    process = subprocess.Popen(["caddy", "run", "--config", at / "Caddyfile", "--adapter", "caddyfile"], env=own, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            assert process.poll() is None and time.monotonic() < deadline, "caddy does not listen"
            time.sleep(0.05)
        yield f"https://localhost:{port}"
    finally:
        process.kill()
        process.wait()


def ways(binary):
    """Each command over each way to the service does the same."""
    with boundary(binary, {"alice": None}, callers=["alice"]) as one:
        one.stop()
        sock = one.at / "socket"
        one.environment["OPENEXEC_LISTEN"] = f"{one.url.removeprefix('http://')},unix:{sock}"
        one.start()
        wrong = certificates(one.at)
        port = one.url.rpartition(":")[2]
        key, who = ("--key", "alice.pem", "--yes"), ("--token-file", "alice.token")
        with caddy(one.at, sock) as https:
            for number, url in enumerate([one.url, f"http://localhost:{port}", f"unix:{sock}", https, https + "/"]):
                yes, no = one.propose(f"yes {number}"), one.propose(f"no {number}", amount=1)
                at = ("--url", url, *who)
                code, out, said = tool(one.at, "list", *at)
                assert code == 0 and f"proposal {yes}" in out and f"proposal {no}" in out and 'asked by "agent"' in out, (url, out, said)
                code, out, said = tool(one.at, "show", yes, *at)
                assert code == 0 and "49.00 EUR" not in said and '"amount": 4900' in out, (url, out, said)
                code, out, said = tool(one.at, "approve", yes, *key, *at)
                assert code == 0 and out == f"proposal {yes}\nstate    executing\n", (url, out, said)
                one.until(yes, "executed")
                code, out, said = tool(one.at, "reject", no, *key, "--justification", "not on a Friday", *at)
                assert code == 0 and out == f"proposal {no}\nstate    rejected\n", (url, out, said)
                assert one.ask(f"/proposals/{no}", "watcher")[1]["rejection"]["justification"] == "not on a Friday"
                # What is decided is decided; who may not, may not; nobody else's token, nor none.
                for command in (("approve", yes), ("approve", no), ("reject", yes, "--justification", "x")):
                    code, out, said = tool(one.at, *command, *key, *at)
                    assert code == 65 and out == "" and "no longer pending" in said, (url, command, said)
                other = one.propose(f"other {number}")
                for command in (("approve", other), ("reject", other, "--justification", "x")):
                    for token, word in (("watcher", "caller_not_allowed"), ("agent", "caller_not_allowed")):
                        code, out, said = tool(one.at, *command, *key, "--url", url, "--token-file", f"{token}.token")
                        assert code == 65 and out == "" and word in said, (url, command, token, said)
                    code, out, said = tool(one.at, *command, *key, "--url", url)
                    assert code == 65 and out == "" and "unauthenticated" in said, (url, command, said)
                assert one.state(other) == "pending"
            elsewhere(one, https, wrong)
    print(f"five ways to the service; {len(wrong)} certificates refused before anything was said")


def elsewhere(one, https, wrong):
    """Where the service is not, nothing is said that only the service may hear."""
    token = (one.at / "alice.token").read_text().strip()
    who = ("--token-file", "alice.token")

    def silent(server, what):
        assert not any(token in heard for heard in server.heard), (what, server.heard)

    # A certificate that is right in every thing is taken; then each that is wrong in one.
    with ear("good", at=one.at) as (server, name):
        code, _, said = tool(one.at, "list", "--url", f"https://{name}", *who)
        assert code == 65 and len(server.heard) == 1 and token in server.heard[0], (code, said, server.heard)
    for certificate in wrong:
        with ear(certificate, at=one.at) as (server, name):
            code, out, said = tool(one.at, "list", "--url", f"https://{name}", *who)
            assert code == 74 and out == "" and not server.heard, (certificate, code, said, server.heard)
            assert "ertificate" in said or "UnknownIssuer" in said, (certificate, said)
    with ear("good", at=one.at, version=ssl.TLSVersion.TLSv1_1) as (server, name):
        code, _, said = tool(one.at, "list", "--url", f"https://{name}", *who)
        assert code == 74 and not server.heard, (code, said)
    # Right, but for the address by which it is called; and an authority that this machine does not trust.
    code, _, said = tool(one.at, "list", "--url", https.replace("localhost", "127.0.0.1"), *who)
    assert code == 74, said
    code, _, said = tool(one.at, "list", "--url", https, *who, SSL_CERT_FILE=str(one.at / "other.pem"))
    assert code == 74, said
    (one.at / "none.pem").write_text("")
    code, _, said = tool(one.at, "list", "--url", https, *who, SSL_CERT_FILE=str(one.at / "none.pem"))
    assert code == 78 and "trusts no certificate authority" in said, said
    # Plain HTTP to a TLS port, and TLS to a plain one.
    with ear() as (server, name):
        code, _, said = tool(one.at, "list", "--url", f"https://{name}", *who)
        assert code == 74, said
        silent(server, "TLS to a plain port")
    # Plain HTTP goes nowhere but to loopback, whatever the address looks like.
    with ear() as (server, name):
        port = name.rpartition(":")[2]
        for host in ("0.0.0.0", socket.gethostname(), "[::ffff:127.0.0.1]", "127.0.0.1.", "localhost.", "0x7f000001", "2130706433", "127.1", "10.0.0.1", "openexec.example"):
            code, _, said = tool(one.at, "list", "--url", f"http://{host}:{port}", *who)
            assert code == 64 and not server.heard, (host, code, said, server.heard)
    # Nobody is followed, by any status, from HTTPS and from loopback; nor is a proxy of this shell's, to loopback.
    with ear() as (trap, trapped), ear("good", at=one.at) as (safe, safely):
        for status in (300, 301, 302, 303, 307, 308):
            for to in (f"http://{trapped}", f"https://{safely}", "//" + trapped):
                for certificate in (None, "good"):
                    with ear(certificate, status=status, elsewhere=to, at=one.at) as (server, name):
                        url = f"{'https' if certificate else 'http'}://{name}"
                        code, out, said = tool(one.at, "list", "--url", url, *who)
                        assert code == 65 and out == "" and f"answers {status}" in said, (status, to, said)
        assert not trap.heard and not safe.heard, (trap.heard, safe.heard)
        proxies = {name: f"http://{trapped}" for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")}
        for url in (one.url, f"unix:{one.at}/socket"):
            code, out, said = tool(one.at, "list", "--url", url, *who, **proxies)
            assert code == 0 and not trap.heard, (url, said, trap.heard)
        tool(one.at, "list", "--url", https, *who, **proxies)
        silent(trap, "a proxy for HTTPS hears a name and a port")


def hardware(binary):
    """A real ssh-keygen with a key that lies in a token: each flag that the token can set."""
    with tempfile.TemporaryDirectory() as scratch:
        made = pathlib.Path(scratch)
        provider = str(made / "token.so")
        run("cc", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", provider, ROOT / "tests/token/token.c", "-lcrypto")
        lines = {}
        for name in ("touched", "verified", "stranger"):
            run("ssh-keygen", "-q", "-t", "ed25519-sk", "-N", "", "-f", made / name, env={**os.environ, "SSH_SK_PROVIDER": provider})
            lines[name] = (made / f"{name}.pub").read_text()
        keys = {"touched": {"public_key": lines["touched"]}, "verified": {"public_key": lines["verified"], "verified": True}}
        with boundary(binary, keys, callers=["desk"]) as one:
            at = ("--url", one.url, "--token-file", one.at / "desk.token")

            def approve(id, name, **environment):
                return tool(made, "approve", id, "--yes", "--key", name, *at, SSH_SK_PROVIDER=provider, **environment)

            id = one.propose("by a token")
            for name, environment, code, word in [
                ("touched", {"TOKEN_FLAGS": "00"}, 78, "it is not used"),
                ("touched", {"TOKEN_FLAGS": "04"}, 78, "it is not used"),
                ("touched", {"TOKEN_ABSENT": "1"}, 78, "did not sign"),
                ("verified", {"TOKEN_FLAGS": "01"}, 65, "approval_signature_invalid"),
                ("stranger", {}, 65, "approval_signature_invalid"),
            ]:
                found, out, said = approve(id, name, **environment)
                assert found == code and out == "" and word in said, (name, environment, found, said)
            found, _, said = tool(made, "approve", id, "--yes", "--key", "touched", *at, SSH_SK_PROVIDER="/nowhere.so")
            assert found == 78 and "did not sign" in said, said
            assert one.state(id) == "pending"
            # What the tool lets through no more than the service does: each flag, signed by ssh-keygen and posted by hand.
            for flags in (0x00, 0x02, 0x03, 0x04, 0x06, 0x07, 0x09, 0x11, 0x21, 0x41, 0x45, 0x80, 0x81, 0x85, 0xFE, 0xFF):
                status, answer = posted(one, made, provider, id, "touched", flags)
                assert status == 403 and answer["code"] in ("approval_signature_invalid", "approval_malformed"), (hex(flags), answer)
            for flags in (0x00, 0x01, 0x04):
                status, answer = posted(one, made, provider, id, "verified", flags)
                assert status == 403, (hex(flags), answer)
            assert one.state(id) == "pending"
            # A touch; a touch of one that must ask for a PIN as well; and a no.
            for name, environment in (("touched", {}), ("touched", {"TOKEN_FLAGS": "05"}), ("verified", {"TOKEN_FLAGS": "05"})):
                id = one.propose(f"{name} {environment}")
                found, out, said = approve(id, name, **environment)
                assert found == 0 and out.endswith("state    executing\n"), (name, said)
                one.until(id, "executed")
            id = one.propose("by a token, no")
            found, out, said = tool(made, "reject", id, "--justification", "no", "--yes", "--key", "touched", *at, SSH_SK_PROVIDER=provider)
            assert found == 0 and one.state(id) == "rejected", said
            agent(one, made, provider, at)
    print("a security key: a touch approves, and so does a PIN; nineteen flags, an absent one and a stranger's do not")


def agent(one, made, provider, at):
    """The same keys in ssh-agent, named by their public halves."""
    said = run("ssh-agent", "-P", provider, "-a", made / "agent")
    pid = said.partition("SSH_AGENT_PID=")[2].partition(";")[0]
    own = {"SSH_AUTH_SOCK": str(made / "agent"), "SSH_SK_PROVIDER": provider}
    try:
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", made / "file")
        run("ssh-add", "-q", made / "touched", env={**os.environ, **own})
        (made / "touched").rename(made / "elsewhere")
        id = one.propose("by an agent")
        found, _, said = tool(made, "approve", id, "--yes", "--key", "file.pub", *at, **own)
        assert found in (65, 78) and one.state(id) == "pending", said
        found, out, said = tool(made, "approve", id, "--yes", "--key", "touched.pub", *at, **own)
        assert found == 0, said
        one.until(id, "executed")
    finally:
        os.kill(int(pid), 15)


def posted(one, made, provider, id, name, flags):
    """What the service says of an approval that a token signed with these flags."""
    now = time.time()
    times = [time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at)) for at in (now, now + 900)]
    fields = dict(zip(("approval_id", "tenant_id", "action_hash", "issued_at", "expires_at"), (str(uuid.uuid4()), TENANT, id, *times), strict=True))
    own = {**os.environ, "SSH_SK_PROVIDER": provider, "TOKEN_FLAGS": f"{flags:x}"}
    armor = run("ssh-keygen", "-q", "-Y", "sign", "-n", "openexec", "-f", made / name, input="".join(fields.values()), env=own)
    fields["signature"] = "".join(line for line in armor.splitlines() if not line.startswith("-----"))
    return one.ask("/approvals", "desk", fields)


def main():
    ways(sys.argv[1])
    hardware(sys.argv[1])


if __name__ == "__main__":
    main()
