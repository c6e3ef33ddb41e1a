"""A world of its own for a cluster: namespaces of processes, mounts and networks that end with the test, whatever ends it;
hosts on one switch in it, any two of which can be cut from one another; and the processes that run on them.

Nothing of this machine's network is touched, and all files are in memory that is gone with the namespace.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

# Over whatever another process has to do, however slow the machine.
PATIENCE_S = 180
SKIPPED = 77
NETWORK = "10.77.0."
# Of no host: what is sent there, nobody takes, and nobody says so.
NOBODY = "02:00:00:00:00:99"
INSIDE = "OPENEXEC_TEST_WORLD"


def skip(reason):
    print(f"skipped: {reason}", flush=True)
    sys.exit(SKIPPED)


def expect(condition, sentence):
    if not condition:
        raise AssertionError(sentence)


def until(what, happened, every=0.05):
    """What `happened()` gives at last; it fails where that takes longer than anybody's patience."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        value = happened()
        if value:
            return value
        expect(time.monotonic() < deadline, f"waited in vain until {what}")
        time.sleep(every)


def run(*command, **options):
    """Its output; it must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S, **options)
    expect(done.returncode == 0, f"{command}: {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


def enter():
    """Goes on in a world of its own; the directory for its files. Returns only there, and once."""
    if INSIDE in os.environ:
        return begin(os.environ.pop(INSIDE))
    if os.geteuid() != 0:
        skip("this needs root")
    for tool in ("unshare", "ip", "etcd", "patroni", "psql", "openssl"):
        if shutil.which(tool) is None:
            skip(f"there is no {tool}")
    world = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    trial = "mount -t tmpfs none /run && ip link add switch type bridge && ip netns add trial && " \
            "ip link add trial type veth peer name eth0 netns trial"
    tried = subprocess.run([*world, "sh", "-c", trial], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        skip(f"there are no namespaces of one's own here: {tried.stderr.strip()}")
    place = tempfile.mkdtemp(prefix="oe-")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    inside = subprocess.Popen([*world, sys.executable, *sys.argv], env={**os.environ, INSIDE: place})
    try:
        sys.exit(inside.wait())
    finally:
        inside.kill()
        inside.wait()
        os.rmdir(place)


def begin(place):
    """The first process in it takes in every orphan, as an `init` does: Patroni takes a dead server that nobody has waited
    for to be alive."""
    run("mount", "-t", "tmpfs", "-o", "size=6g,mode=755", "none", place)
    run("mount", "-t", "tmpfs", "-o", "mode=755", "none", "/run")
    test = os.fork()
    if test == 0:
        return place
    while True:
        pid, status = os.wait()
        if pid == test:
            os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


class Network:
    """Hosts on one switch."""

    def __init__(self):
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", "switch", "type", "bridge")
        run("ip", "addr", "add", f"{NETWORK}254/24", "dev", "switch")
        run("ip", "link", "set", "switch", "up")
        self.cuts = set()

    def cut(self, one, others):
        """From now on nothing passes between the one and the others, in either direction, and nobody is told."""
        for other in others:
            for at, to in ((one, other), (other, one)):
                run("ip", "-n", at.name, "neigh", "replace", to.address, "lladdr", NOBODY, "dev", "eth0", "nud", "permanent")
                self.cuts.add((at.name, to.address))

    def heal(self):
        for name, address in self.cuts:
            run("ip", "-n", name, "neigh", "del", address, "dev", "eth0")
        self.cuts.clear()


class Host:
    """A host: a network of its own with one address."""

    def __init__(self, name, number):
        self.name, self.address = name, f"{NETWORK}{number}"
        run("ip", "netns", "add", name)
        run("ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
        run("ip", "link", "set", name, "master", "switch", "up")
        for words in (["link", "set", "lo", "up"], ["addr", "add", f"{self.address}/24", "dev", "eth0"],
                      ["link", "set", "eth0", "up"]):
            run("ip", "-n", name, *words)

    def start(self, command, log, environment, user=None):
        """A process here, as that user; what it says goes behind `log`."""
        identity = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"] if user else []
        with open(log, "ab") as file:
            return subprocess.Popen(["ip", "netns", "exec", self.name, *identity, *command], env=environment,
                                    stdin=subprocess.DEVNULL, stdout=file, stderr=file)

    def processes(self):
        """Of all that run here, the numbers."""
        return [int(pid) for pid in run("ip", "netns", "pids", self.name).split()]

    def signal(self, number, of=lambda pid: True):
        """To everything that runs here, or to what is of that kind. All are stopped first, so that none of them sees
        another end."""
        pids = [pid for pid in self.processes() if of(pid)]
        for sent in (signal.SIGSTOP, number):
            for pid in pids:
                try:
                    os.kill(pid, sent)
                except ProcessLookupError:
                    pass  # It has ended by itself.


def is_postgres(pid):
    try:
        with open(f"/proc/{pid}/comm", encoding="ascii", errors="replace") as comm:
            return comm.read().strip() == "postgres"
    except OSError:
        return False


def certificates(place, names):
    """A root, and a server's key and certificate for these (`IP:10.0.0.1`); `ca.pem`, `server.key`, `server.pem` there."""
    def at(name):
        return os.path.join(place, name)

    root = ["-keyout", at("ca.key"), "-out", at("ca.pem"), "-subj", "/CN=a root", "-addext", "keyUsage=critical,keyCertSign"]
    ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    run("openssl", "req", "-x509", *ec, *root, "-days", "2")
    run("openssl", "req", *ec, "-keyout", at("server.key"), "-out", at("server.csr"), "-subj", "/CN=databases")
    with open(at("names"), "w", encoding="ascii") as file:
        file.write("subjectAltName=" + ",".join(names) + "\n")
    run("openssl", "x509", "-req", "-in", at("server.csr"), "-CA", at("ca.pem"), "-CAkey", at("ca.key"),
        "-extfile", at("names"), "-days", "2", "-out", at("server.pem"))
    shutil.chown(at("server.key"), "postgres", "postgres")
    os.chmod(at("server.key"), 0o600)
