"""A service of one's own in a scratch directory, for the scripts beside this one."""

import contextlib
import os
import pathlib
import subprocess
import tempfile
import time
import urllib.request

from approval import sign

TENANT = "tenant-1"


@contextlib.contextmanager
def service(binary, **settings):
    """Serves in demo mode, or with `clawshield=True` in that mode with a key of its own.

    With `evidence=True` it has a log key. Gives (url, directory); in the directory are `key.pem`,
    `approvals` and `outbox`.
    """
    binary = os.path.abspath(binary)
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        for name in ("outbox", "approvals"):
            (scratch / name).mkdir()
        environment = {
            "PATH": os.environ["PATH"],
            "OPENEXEC_LOG": "off",
            "OPENEXEC_DB_URL": f"file:{scratch}/store",
            "OPENEXEC_LISTEN": "127.0.0.1:0",
            "OPENEXEC_OUTBOX_DIR": str(scratch / "outbox"),
        }
        if settings.pop("clawshield", False):
            key = private_key(scratch / "key.pem")
            public = subprocess.run(
                ["openssl", "pkey", "-in", key, "-pubout"], check=True, capture_output=True, text=True
            ).stdout
            environment |= {
                "OPENEXEC_MODE": "clawshield",
                "CLAWSHIELD_TENANT_ID": TENANT,
                "CLAWSHIELD_PUBLIC_KEY": public,
                "OPENEXEC_APPROVALS_DIR": str(scratch / "approvals"),
            }
            subprocess.run([binary, "init"], env=environment | settings, check=True, stdout=subprocess.DEVNULL)
        if settings.pop("evidence", False):
            (scratch / "elsewhere").mkdir()
            environment |= {
                "OPENEXEC_LOG_KEY_FILE": str(private_key(scratch / "log.pem")),
                "OPENEXEC_LOG_ORIGIN": "example.com/log",
                "OPENEXEC_CHECKPOINT_FILE": str(scratch / "elsewhere/checkpoint"),
            }
        server = subprocess.Popen([binary], env=environment | settings, stderr=subprocess.DEVNULL)
        try:
            yield ready(server, scratch / "store/LOCK"), scratch
        finally:
            server.kill()
            server.wait()


def private_key(path):
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", path], check=True)
    path.chmod(0o600)
    return path


def ready(server, lock):
    """The address of a service that has just been started, once it is ready."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert server.poll() is None, f"the service ended with {server.returncode}"
        words = lock.read_text().split() if lock.exists() else []
        if words[:1] == [str(server.pid)]:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://{words[1]}/ready", timeout=20)
                return f"http://{words[1]}"
        time.sleep(0.02)
    raise AssertionError("the service did not become ready")


def approve(binary, scratch, request):
    """An approval of a request's text, by the service's one key."""
    return sign(binary, scratch / "key.pem", TENANT, request)
