#!/usr/bin/env python3
"""The units of deploy/ for real: a systemd of its own, in namespaces of its own, that knows no other
unit, starts them as they are.

    systemd.py BINARY

Makes the store, serves, is killed and started again; is frozen and restored by root, and gets an approvals
directory, a checkpoint file and a log key, and callers and actions, by the drop-ins and commands of the
documents; then the same with the socket handed over and no network, and with an outbox. Skipped, and said,
where namespaces or systemd are not to be had.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(REPOSITORY, "tests/python"))
from approval import sign  # noqa: E402

SYSTEMD = "/lib/systemd/systemd"
TARGETS = ("local-fs", "multi-user", "shutdown", "sockets", "sysinit", "basic", "time-sync", "umount")
PATIENCE_S = 120
# More than the unit waits before it starts the service again.
RESTART_S = 5
# There is no journal here.
LOGGED = "[Service]\nStandardOutput=append:/run/said\nStandardError=append:/run/said\n"
# What the first process of the namespaces sees: directories of its own where units, keys, the program
# and the store are; mounts that its services' own mounts are told of, as at a real start.
FIRST = """
set -eu
ip link set lo up
mount --make-rprivate /
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/lib
mkdir -p /run/units "$PLACE/work"
cp -r "$PLACE/units/." /run/units
mount -t tmpfs tmpfs /usr/local/bin
install -m 755 "$PLACE/openexec" /usr/local/bin/openexec
mount -t overlay overlay -o "lowerdir=/etc,upperdir=$PLACE/etc,workdir=$PLACE/work" /etc
umount -R /sys/fs/cgroup || true
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount --make-rshared /
export container=docker SYSTEMD_UNIT_PATH=/run/units
exec %s --unit=multi-user.target --log-target=null </dev/null
""" % SYSTEMD


def blocks(page, language):
    """The blocks of a page in one language, as they are printed."""
    with open(os.path.join(REPOSITORY, page), encoding="utf-8") as file:
        return re.findall(rf"^```{language}\n(.*?)^```$", file.read(), re.S | re.M)


def drop_in(page, name):
    """The drop-in that a page shows; `adm` is a group that is here already."""
    shown = next(block for block in blocks(page, "ini") if f"/{name}" in block.splitlines()[0])
    return shown.replace("openexec-outbox\nUMask", "adm\nUMask")


def commands(page, words):
    """The shell block of a page that has these words."""
    return next(block for block in blocks(page, "sh") if words in block)


def skip(reason):
    print(f"skipped: {reason}", flush=True)
    sys.exit(77)


def expect(condition, sentence):
    if not condition:
        raise AssertionError(sentence)


class Group:
    """A control group of its own, so that nothing stays behind in that of this machine: filters of
    addresses live as long as the groups that they are for."""

    def __init__(self):
        with open("/proc/mounts", encoding="utf-8") as mounts:
            roots = [line.split()[1] for line in mounts if line.split()[2] == "cgroup2"]
        if not roots:
            skip("there is no cgroup2 file system")
        self.path = os.path.join(roots[0], f"openexec-units-{os.getpid()}")
        os.mkdir(self.path)

    def enter(self):
        with open(os.path.join(self.path, "cgroup.procs"), "w", encoding="ascii") as file:
            file.write(str(os.getpid()))

    def remove(self):
        deadline = time.monotonic() + PATIENCE_S
        while os.path.exists(self.path) and time.monotonic() < deadline:
            for directory, _, _ in os.walk(self.path, topdown=False):
                try:
                    os.rmdir(directory)
                except OSError:
                    time.sleep(0.05)


class Machine:
    """The namespaces, with a systemd as their first process."""

    def __init__(self, place, binary, group):
        units = os.path.join(place, "units")
        shutil.copytree(os.path.join(REPOSITORY, "deploy"), units)
        shutil.rmtree(os.path.join(units, "openexec.service.d"))
        for target in TARGETS:
            with open(os.path.join(units, f"{target}.target"), "w", encoding="ascii") as file:
                file.write(f"[Unit]\nDescription={target}\n")
        shutil.copy(binary, os.path.join(place, "openexec"))
        configuration = os.path.join(place, "etc", "openexec")
        os.makedirs(configuration)
        self.key = os.path.join(place, "alice.pem")
        self.binary = binary
        generate = ["openssl", "genpkey", "-algorithm", "ed25519", "-out", self.key]
        subprocess.run(generate, check=True, capture_output=True)
        public = subprocess.run(
            ["openssl", "pkey", "-in", self.key, "-pubout"], check=True, capture_output=True,
        ).stdout.decode()
        with open(os.path.join(configuration, "keys.json"), "w", encoding="ascii") as file:
            json.dump({"keys": [{"name": "alice", "public_key": public}]}, file)
        os.chmod(file.name, 0o644)
        with open(os.path.join(configuration, "environment"), "w", encoding="ascii") as file:
            file.write("CLAWSHIELD_TENANT_ID=acme\n")
        self.log = os.path.join(place, "log")
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                ["unshare", "--fork", "--pid", "--mount", "--ipc", "--uts", "--net", "--cgroup",
                 "--kill-child", "bash", "-c", FIRST],
                env={**os.environ, "PLACE": place}, stdout=log, stderr=log, preexec_fn=group.enter,
            )

    def first(self):
        """The process id, out here, of its systemd."""
        children = f"/proc/{self.process.pid}/task/{self.process.pid}/children"
        with open(children, encoding="ascii") as file:
            return file.read().split()[0]

    def run(self, *command, check=True):
        done = subprocess.run(
            ["nsenter", "--target", self.first(), "--mount", "--pid", "--ipc", "--uts", "--net", *command],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, timeout=PATIENCE_S,
        )
        said = done.stdout.decode(errors="replace")
        if check and done.returncode != 0:
            raise AssertionError(f"{command}: {said}{self.said()}")
        return said

    def said(self):
        with open(self.log, encoding="utf-8", errors="replace") as log:
            return log.read() + self.run("sh", "-c", "cat /run/said 2>&1", check=False)

    def is_up(self):
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if "multi-user.target" in self.run("systemctl", "list-units", "--plain", check=False):
                    return True
            except (OSError, IndexError, subprocess.TimeoutExpired):
                pass
            time.sleep(0.2)
        return False

    def write(self, path, text):
        self.run("mkdir", "-p", os.path.dirname(path))
        self.run("sh", "-c", 'printf %s "$1" >"$2"', "sh", text, path)
        self.run("systemctl", "daemon-reload")

    def shell(self, script):
        """As root, stopping at the first that fails."""
        return self.run("bash", "-euc", f"cd /run\n{script}")

    def curl(self, path, *options):
        """The body of the answer, once it is up: while it starts nobody listens, or it says 503. (curl's
        own retries print what each of them was answered.)"""
        deadline = time.monotonic() + PATIENCE_S
        ask = ["curl", "-s", "--max-time", "15", "-w", "\n%{http_code}", f"http://127.0.0.1:5000{path}"]
        while True:
            body, _, status = self.run(*ask, *options, check=False).rpartition("\n")
            if status not in ("000", "503"):
                return body
            expect(time.monotonic() < deadline, f"{path}: {status}: {body}{self.said()}")
            time.sleep(0.5)

    def show(self, *names):
        """Properties of the service, by name."""
        asked = [part for name in names for part in ("-p", name)]
        lines = self.run("systemctl", "show", "openexec", *asked).splitlines()
        return dict(line.split("=", 1) for line in lines)

    def main_process(self):
        return self.run("systemctl", "show", "-P", "MainPID", "openexec").strip()

    def status(self):
        text = self.run("cat", f"/proc/{self.main_process()}/status")
        return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)

    def approve(self, request):
        return json.loads(sign(self.binary, self.key, "acme", json.dumps(request)))

    def post(self, request):
        return self.curl("/execute", "-H", "Content-Type: application/json", "-d", json.dumps(request))

    def execute(self, action, payload, nonce):
        """Approved first, elsewhere."""
        request = {"action": action, "payload": payload}
        answer = self.post({**request, "nonce": nonce, "approval_artifact": self.approve(request)})
        expect('"outcome":"executed"' in answer, f"{action}: {answer}")
        return json.loads(answer)


def confined(machine):
    facts = machine.status()
    user = facts["Uid"].split()[0]
    expect(int(user) >= 61184, f"it runs as {user}, no dynamic user")
    expect(facts["NoNewPrivs"] == "1" and facts["Seccomp"] == "2", facts)
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        expect(int(facts[name], 16) == 0, f"{name} is {facts[name]}")


def alone(machine):
    for unit in ("openexec", "openexec-init"):
        machine.write(f"/run/units/{unit}.service.d/logged.conf", LOGGED)
    machine.run("systemctl", "start", "openexec-init")
    again = machine.run("systemctl", "start", "openexec-init", check=False)
    expect("failed" in again, "a second store was made")
    machine.run("systemctl", "start", "openexec")
    health = json.loads(machine.curl("/health"))
    expect(health["exec_mode"] == "clawshield" and "root_warning" not in health, health)
    confined(machine)
    machine.execute("echo", {"msg": "alone"}, "alone")
    killed = machine.main_process()
    machine.run("kill", "-9", killed)
    expect('"ready":true' in machine.curl("/ready"), "not ready after a kill")
    expect(machine.main_process() not in ("0", killed), "it was not started again")
    machine.run("systemctl", "stop", "openexec")
    # What does not mend itself is not tried again.
    machine.write("/run/units/openexec.service.d/wrong.conf", "[Service]\nEnvironment=OPENEXEC_LOG=loud\n")
    machine.run("systemctl", "start", "openexec", check=False)
    wanted = {"ActiveState": "failed", "ExecMainStatus": "78"}
    deadline = time.monotonic() + PATIENCE_S
    while (ended := machine.show(*wanted)) != wanted:
        expect(time.monotonic() < deadline, f"after a wrong setting: {ended}")
        time.sleep(0.2)
    time.sleep(RESTART_S)
    ended = machine.show(*wanted)
    expect(ended == wanted, f"some time after a wrong setting: {ended}")
    restarts = machine.show("NRestarts")
    expect(restarts == {"NRestarts": "0"}, f"it was started again: {restarts}")
    machine.run("rm", "/run/units/openexec.service.d/wrong.conf")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "reset-failed")


def by_root(machine):
    """What the runbook has root do, on the store of a user that is there only while it runs."""
    machine.run("systemctl", "start", "openexec")
    machine.curl("/ready")
    beside = commands("docs/operations.md", "openexec unfreeze  ").splitlines()
    # There is no claim here to give up, and no job.
    beside = [line for line in beside if "EXEC_ID" not in line]
    expect(beside[1].startswith("openexec freeze") and len(beside) == 5, beside)
    for state in ("live", "stopped"):
        machine.shell("\n".join(beside[:2]))
        if state == "live":
            refused = machine.run(
                "curl", "-s", "-H", "Content-Type: application/json", "-d",
                '{"action":"echo","payload":{},"nonce":"frozen"}', "http://127.0.0.1:5000/execute",
            )
            expect('"code":"frozen"' in refused, refused)
            expect('"frozen":true' in machine.curl("/ready"), "/ready does not say frozen")
        said = machine.shell("\n".join([beside[0], *beside[2:]]))
        expect("ok          /" in said and "unfrozen" in said, said)
        if state == "live":
            machine.execute("echo", {"msg": "unfrozen"}, "unfrozen")
            machine.run("systemctl", "stop", "openexec")
    machine.shell("touch /var/lib/openexec/store/FROZEN")
    machine.run("systemctl", "start", "openexec")
    deadline = time.monotonic() + PATIENCE_S
    while '"frozen":true' not in (said := machine.curl("/ready")):
        expect(time.monotonic() < deadline, f"not frozen by an empty file: {said}{machine.said()}")
        time.sleep(0.2)
    machine.shell("\n".join([beside[0], beside[2]]))
    # A copy that root made, put in the place of the store.
    machine.shell("\n".join([beside[0], "openexec backup /run/backup"]))
    machine.run("systemctl", "stop", "openexec")
    machine.shell(commands("docs/runbook.md", "store{,.damaged}"))
    machine.run("systemctl", "start", "openexec")
    machine.shell("\n".join([beside[0], beside[2]]))
    machine.execute("echo", {"msg": "restored"}, "restored")


def with_approvals_and_log_key(machine):
    """By the drop-ins of the documents, and the commands that make the file of a store that is there."""
    machine.run("groupadd", "--system", "approvers")
    machine.run("install", "-d", "-o", "root", "-g", "approvers", "-m", "2775", "/var/lib/openexec-approvals")
    machine.write("/run/units/openexec.service.d/approvals.conf", drop_in("docs/deploy/systemd.md", "approvals.conf"))
    page = "docs/deploy/systemd.md"
    for unit in ("openexec", "openexec-init"):
        machine.write(f"/run/units/{unit}.service.d/checkpoint.conf", drop_in(page, "checkpoint.conf"))
    machine.run("openssl", "genpkey", "-algorithm", "ed25519", "-out", "/run/log.pem")
    machine.run("install", "-m", "600", "/run/log.pem", "/etc/openexec/log.pem")
    machine.shell(commands(page, "openexec checkpoint --create"))
    request = {"action": "echo", "payload": {"msg": "left by an approver"}}
    artifact = machine.approve(request)
    path = f"/var/lib/openexec-approvals/{artifact['action_hash']}.json"
    machine.run("sh", "-c", 'printf %s "$1" >"$2"', "sh", json.dumps(artifact), path)
    answer = machine.post({**request, "nonce": "by a file"})
    expect('"outcome":"executed"' in answer, answer)
    expect(machine.curl("/log/checkpoint").startswith("example.com/log\n"), "no signed checkpoint")
    machine.run("systemctl", "stop", "openexec")
    # A store of its own, made by the other unit with the same settings.
    machine.shell("mv /var/lib/openexec/store /run/old; mv /var/lib/openexec-checkpoint/checkpoint /run/older")
    machine.run("systemctl", "start", "openexec-init")
    machine.run("systemctl", "start", "openexec")
    expect(machine.curl("/log/checkpoint").startswith("example.com/log\n1\n"), "not made by init")
    machine.run("systemctl", "stop", "openexec")


def with_callers_and_actions(machine):
    """By the drop-in of the documents: who has no token is refused, and who has one sees the declared action."""
    text = drop_in("docs/deploy/systemd.md", "callers.conf")
    paths = [f"/run/units/{unit}.service.d/callers.conf" for unit in ("openexec", "openexec-init")]
    for path in paths:
        machine.write(path, text)
    agent = {"name": "agent", "token_sha256": hashlib.sha256(b"token").hexdigest(), "may": ["propose"]}
    schema = {"type": "object", "properties": {}, "additionalProperties": False}
    action = {"action": "restart_shop", "summary": "Restarts the shop.", "payload_schema": schema}
    for name, content in (("callers", {"callers": [agent]}), ("actions", {"actions": [action]})):
        machine.write(f"/run/{name}.json", json.dumps(content))
        machine.run("install", "-m", "600", f"/run/{name}.json", f"/etc/openexec/{name}.json")
    # The store that the other unit made knows no such settings yet: making another takes both drop-ins.
    machine.shell("mv /var/lib/openexec/store /run/third; mv /var/lib/openexec-checkpoint/checkpoint /run/fourth")
    machine.run("systemctl", "start", "openexec-init")
    machine.run("systemctl", "start", "openexec")
    unknown = machine.curl("/actions")
    expect('"unauthenticated"' in unknown, unknown)
    listed = machine.curl("/actions", "-H", "Authorization: Bearer token")
    expect("restart_shop" in listed, listed)
    machine.run("systemctl", "stop", "openexec")
    machine.run("rm", *paths)
    machine.run("systemctl", "daemon-reload")


def without_network(machine):
    with open(os.path.join(REPOSITORY, "deploy/openexec.service.d/socket.conf"), encoding="utf-8") as file:
        machine.write("/run/units/openexec.service.d/socket.conf", file.read())
    machine.run("install", "-d", "-g", "adm", "-m", "2770", "/var/lib/openexec-outbox")
    machine.write("/run/units/openexec.service.d/outbox.conf", drop_in("docs/deploy/systemd.md", "outbox.conf"))
    machine.run("systemctl", "start", "openexec.socket")
    expect('"ready":true' in machine.curl("/ready"), "not ready over the socket")
    confined(machine)
    links = machine.run("cat", f"/proc/{machine.main_process()}/net/dev").splitlines()[2:]
    expect([line.split(":")[0].strip() for line in links] == ["lo"], f"its network has {links}")
    lo = links[0].split(":")[1].split()
    expect(lo[0] == "0", "something went over its loopback")
    job = machine.execute("enqueue", {"queue": "print", "job": {"n": 1}}, "outbox")
    path = f"/var/lib/openexec-outbox/{job['result']['queued']['job']}"
    expect(machine.run("stat", "-c", "%a %G", path).split() == ["640", "adm"], "the worker cannot read it")
    # Clients wait in the socket while it is started again: without a retry.
    machine.run("kill", "-9", machine.main_process())
    ready = machine.run("curl", "-s", "--max-time", "50", "http://127.0.0.1:5000/ready")
    expect('"ready":' in ready, f"after a kill: {ready}")


def main():
    binary = os.path.abspath(sys.argv[1])
    if os.geteuid() != 0 or not os.path.exists(SYSTEMD):
        skip("this needs root and systemd")
    place = tempfile.mkdtemp()
    group = Group()
    machine = Machine(place, binary, group)
    try:
        if not machine.is_up():
            with open(machine.log, encoding="utf-8", errors="replace") as log:
                skip(f"systemd does not start in namespaces here: {log.read()[-300:]}")
        cases = (alone, by_root, with_approvals_and_log_key, with_callers_and_actions, without_network)
        for case in cases:
            case(machine)
            print(f"ok: {case.__name__}")
    finally:
        machine.process.kill()
        machine.process.wait()
        group.remove()
        shutil.rmtree(place, ignore_errors=True)
    print(f"{len(cases)} passed, 0 failed")


if __name__ == "__main__":
    main()
