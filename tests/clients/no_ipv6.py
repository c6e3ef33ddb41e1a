"""Where the machine has no IPv6, the default serves IPv4 alone, and [::1] asked for by itself ends with 74.

usage: no_ipv6.py OPENEXEC. Runs in a network of its own (unshare, ip; as root); ends with 77 where there can be none."""
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import urllib.request

INSIDE = "INSIDE"
BINARY = os.path.abspath(sys.argv[1])


def inside():
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    pathlib.Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").write_text("1")
    with tempfile.TemporaryDirectory() as scratch:
        environment = {"OPENEXEC_LOG": "error", "OPENEXEC_DB_URL": f"file:{scratch}/store"}
        asked = subprocess.run([BINARY, "serve", "--listen", "127.0.0.1:0,[::1]:5000"], env=environment,
                               capture_output=True, text=True, timeout=60)
        assert asked.returncode == 74 and "cannot listen on [::1]:5000: " in asked.stderr, asked
        service = subprocess.Popen([BINARY], env=environment)
        deadline = time.monotonic() + 60
        while subprocess.run([BINARY, "healthcheck"], env=environment, capture_output=True).returncode:
            assert service.poll() is None and time.monotonic() < deadline, "the default does not serve"
            time.sleep(0.05)
        with urllib.request.urlopen("http://127.0.0.1:5000/health", timeout=30) as answer:
            assert answer.status == 200
        checked = subprocess.run([BINARY, "check"], env=environment, capture_output=True, text=True, timeout=60)
        assert checked.returncode == 0, checked
        service.kill()
        service.wait()
    print("ok: no IPv6")


if INSIDE in os.environ:
    inside()
elif subprocess.run(["unshare", "--net", "true"], capture_output=True).returncode:
    print("no network of its own can be had here")
    sys.exit(77)
else:
    os.execvpe("unshare", ["unshare", "--net", sys.executable, __file__, BINARY], {**os.environ, INSIDE: "yes"})
