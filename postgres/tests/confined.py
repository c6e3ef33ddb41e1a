#!/usr/bin/env python3
"""The service over PostgreSQL as its image has it: under runc and postgres/seccomp.json, as user 65532, with a root that
cannot be written.

    confined.py OPENEXEC-POSTGRES

Two servers, of which one follows the other, are reached by names that a name server tells, with TLS and passwords; and
over a socket. Everything that a node and its commands do works there. Of the calls that this profile has and seccomp.json
has not, each is missed when it is taken away; what both have is held by tests/container/calls.py. Then its probe asks for
everything else. Skipped, and said, where runc cannot run.
"""

import json
import os
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
for beside in ("patroni", "../../tests/container"):
    sys.path.insert(0, os.path.join(HERE, beside))

import bundle as bundles  # noqa: E402
import calls  # noqa: E402
import common  # noqa: E402
from bundle import USER, Bundle, Service  # noqa: E402
from common import Report, expect, until  # noqa: E402
from databases import PASSWORDS  # noqa: E402
from world import certificates, run  # noqa: E402

CLUSTER = os.path.join(HERE, "cluster.sh")
NAME_SERVER = "127.0.0.53"
ADDRESSES = {"db1.test": "127.0.0.11", "db2.test": "127.0.0.12"}
ROLES = ("--serve-role", "serve", "--operator-role", "op", "--worker-role", "work")
SETTINGS = {
    "OPENEXEC_LISTEN": "unix:/run/socket",
    "OPENEXEC_FILES_DIR": "/files",
    "RUNTIME_DIRECTORY": "/data",
    # The servers that a node finds by its URL are asked what they wait for; here one does, until it is dead.
    "OPENEXEC_ACCEPT_LOST_COMMITS": "yes",
}
# A call that is missing is not waited for any longer.
SECONDS = 60


def profile():
    with open(os.path.join(HERE, "..", "seccomp.json"), encoding="utf-8") as file:
        return json.load(file)


def added(whole):
    """What it allows and seccomp.json does not: the number of each rule, and its names."""
    known = len(bundles.profile()["syscalls"])
    return [(number, name) for number, rule in enumerate(whole["syscalls"]) if number >= known for name in rule["names"]]


class Network:
    """One of its own, with a loopback that containers, servers and names share; it ends with this test."""

    def __init__(self):
        command = ["unshare", "--net", "sh", "-c", "ip link set lo up && echo up && exec cat"]
        self.holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.path = f"/proc/{self.holder.pid}/ns/net"
        self.names = None
        if self.holder.stdout.readline() != b"up\n":
            common.skip("there is no network of one's own here")

    def inside(self, *command):
        return ["nsenter", f"--net={self.path}", "--", *command]

    def name_server(self):
        known = [f"{name}={address}" for name, address in ADDRESSES.items()]
        command = self.inside(sys.executable, os.path.join(HERE, "names.py"), NAME_SERVER, *known)
        self.names = subprocess.Popen(command, stdout=subprocess.PIPE)
        expect(self.names.stdout.readline() == b"answers\n", "no name server")

    def end(self):
        for process in (self.names, self.holder):
            if process:
                process.kill()
                process.wait()


class Servers:
    """The first, and one that follows it and has every commit."""

    def __init__(self, place, network):
        self.network, self.place = network, place
        self.first, self.second = (os.path.join(place, name) for name in ("db1", "db2"))
        certificates(place, [f"DNS:{name}" for name in ADDRESSES])

    def cluster(self, *words):
        run(*self.network.inside(CLUSTER, *words))

    def begin(self):
        self.cluster(self.first)
        with open(f"{self.first}/data/pg_hba.conf", "r+", encoding="ascii") as file:
            trusted = file.read()
            file.seek(0)
            file.write(f"hostssl all all 127.0.0.0/8 scram-sha-256\nhost all all 127.0.0.0/8 reject\n{trusted}")
        for role, password in PASSWORDS.items():
            self.sql(self.first, f"ALTER ROLE {role} PASSWORD '{password}'")
        for database in ("d", "e"):
            self.sql(self.first, f"CREATE DATABASE {database} OWNER owner")
        self.listen(self.first, ADDRESSES["db1.test"])
        self.cluster(self.first, "standby", self.second)
        self.listen(self.second, ADDRESSES["db2.test"])
        self.sql(self.first, "ALTER SYSTEM SET synchronous_standby_names = 'walreceiver'")
        self.sql(self.first, "SELECT pg_reload_conf()")
        followed = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"
        until("it is followed", lambda: self.sql(self.first, followed) == "1")

    def listen(self, directory, address):
        self.cluster(directory, "stop")
        with open(f"{directory}/data/postgresql.auto.conf", "a", encoding="ascii") as file:
            file.write(f"listen_addresses = '{address}'\nssl = on\nssl_cert_file = '{self.place}/server.pem'\n"
                       f"ssl_key_file = '{self.place}/server.key'\n")
        self.cluster(directory, "start")

    @staticmethod
    def sql(directory, text):
        return run("psql", "-qAtX", "-v", "ON_ERROR_STOP=1", "-h", directory, "-U", "postgres", "-c", text, "postgres").strip()

    def fail_over(self):
        self.cluster(self.first, "stop")
        self.sql(self.second, "SELECT pg_promote()")

    def end(self):
        for directory in (self.first, self.second):
            if os.path.exists(f"{directory}/data/postmaster.pid"):
                self.cluster(directory, "stop")


class Image(Bundle):
    """The bundle of tests/container, in that network, with a server's socket in /db."""

    def __init__(self, binary, directory, seccomp, servers):
        super().__init__(binary, directory, seccomp)
        self.servers = servers
        root = os.path.join(directory, "rootfs")
        os.mkdir(os.path.join(root, "db"))
        with open(os.path.join(root, "etc", "resolv.conf"), "w", encoding="ascii") as file:
            file.write(f"nameserver {NAME_SERVER}\n")
        shutil.copy(os.path.join(servers.place, "ca.pem"), self.at("keys"))
        with open(self.at("keys", "passwords"), "w", encoding="ascii") as file:
            file.write("".join(f"*:*:*:{role}:{password}\n" for role, password in PASSWORDS.items()))
        with open(self.at("keys", "log.pem"), "wb") as file:
            subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519"], check=True, stdout=file)
        for name in ("passwords", "log.pem"):
            os.chown(self.at("keys", name), USER, USER)
            os.chmod(self.at("keys", name), 0o400)

    def configuration(self, arguments, environment):
        value = super().configuration(arguments, environment)
        for namespace in value["linux"]["namespaces"]:
            if namespace["type"] == "network":
                namespace["path"] = self.servers.network.path
        value["mounts"].append({
            "destination": "/db", "type": "bind", "source": self.servers.second, "options": ["bind", "nosuid", "nodev", "noexec"],
        })
        return value

    def by_name(self, role):
        url = f"postgresql://{role}@{','.join(ADDRESSES)}:5432/d?sslrootcert=/keys/ca.pem"
        return {**SETTINGS, "OPENEXEC_DB_URL": url, "PGPASSFILE": "/keys/passwords"}

    def by_socket(self, role, database="d"):
        return {**SETTINGS, "OPENEXEC_DB_URL": f"postgresql://{role}@/{database}?host=/db"}

    def must(self, environment, *words):
        code, said = self.run(*words, environment=environment, seconds=SECONDS)
        expect(code == 0, f"{words}: {code}: {said}")
        return said


LOG = {
    "OPENEXEC_CHECKPOINT_FILE": "/log/checkpoint", "OPENEXEC_LOG_KEY_FILE": "/keys/log.pem", "OPENEXEC_LOG_ORIGIN": "example.com/log",
}
EXECUTIONS = [
    ("echo", {"msg": "hello"}),
    # Too long for one write into a socket, of the database and of the caller.
    ("echo", {"long": "x" * 900_000}),
    ("enqueue", {"queue": "q", "job": {}}),
    ("write_file", {"path": "made", "content": "x"}),
    ("write_file", {"path": "made", "content": "y"}),
    ("delete_file", {"path": "made"}),
]


def execute(service, known):
    """Each is answered, once, with what was answered before, and one more; a failover is waited for."""
    for number, (action, payload) in [*enumerate(EXECUTIONS), (len(EXECUTIONS) + len(known), EXECUTIONS[0])]:
        answers = []

        def is_executed():
            answers.append(service.execute(action, payload, f"n{number}"))
            return answers[-1] is not None and answers[-1].status == 200

        until(f"{action} is executed", is_executed, service)
        before = known.setdefault(number, answers[-1].body)
        expect(answers[-1].body == before, f"{action}: {answers[-1]}")


def everything(image):
    """All that a node and its commands do."""
    node, operator = {**image.by_name("serve"), **LOG}, image.by_name("op")
    image.must({**image.by_name("owner"), **LOG}, "init", *ROLES)
    image.must(node, "check")
    known = {}
    service = Service(image, node).must_be_ready()
    try:
        execute(service, known)
        for path in ("/", "/health", "/version", "/metrics", "/actions", "/openapi.json", "/log/checkpoint", "/log/consistency?from=1"):
            answer = service.get(path)
            expect(answer.status == 200, f"{path}: {answer}")
        code, said = service.container.execute("healthcheck")
        expect(code == 0, f"healthcheck: {code}: {said}")
        for words in (("pending",), ("history",), ("jobs",), ("freeze",), ("unfreeze", "--yes")):
            image.must(operator, *words)
        image.servers.fail_over()
        execute(service, known)
        image.must(image.by_name("serve"), "backup", "/data/copy")
    finally:
        service.kill()
    service = Service(image, {**image.by_socket("serve"), **LOG}).must_be_ready()
    try:
        execute(service, known)
    finally:
        service.kill()
    os.unlink(image.at("log", "checkpoint"))
    image.must({**image.by_socket("serve"), **LOG}, "checkpoint", "--create")
    image.must(image.by_socket("owner", "e"), "import", "/data/copy", *ROLES)
    expect(os.path.exists(image.at("data", "copy", "FROZEN")), "the copy is not frozen")
    container = image.container(["/openexec"], {**image.by_socket("serve", "e"), "OPENEXEC_LISTEN": "0.0.0.0:5000",
                                                "OPENEXEC_ALLOW_EXPOSED_DEMO": "yes"})
    try:
        until("it is healthy", lambda: container.execute("healthcheck")[0] == 0 or container.process.poll() is not None)
        expect(container.process.poll() is None, container.said())
    finally:
        container.kill()


def is_missed(binary, base, servers, whole, number, name):
    """Without that call no database is reached by name, or over a socket, or neither."""
    image = Image(binary, os.path.join(base, f"without-{name}"), calls.without(whole, number, name), servers)
    said = []
    for environment in (image.by_name("serve"), image.by_socket("serve")):
        try:
            code, text = image.run("check", environment=environment, seconds=SECONDS)
            said.append(f"{code}: {text.strip()}"[-160:] if code else None)
        except subprocess.TimeoutExpired:
            said.append("it hangs")
    expect(any(said), "nothing misses it")
    print(f"without {name}: {next(filter(None, said))}", flush=True)


def is_enough(image):
    """It was the call that was missed: the servers are there."""
    for environment in (image.by_name("serve"), image.by_socket("serve")):
        image.must(environment, "check")


def main():
    binary = os.path.abspath(sys.argv[1])
    base = common.scratch(on_disk=True)
    os.chmod(base, 0o755)
    network = servers = None
    report = Report()
    try:
        reason = bundles.cannot_run(binary, os.path.join(base, "trial"))
        if reason:
            common.skip(reason)
        network = Network()
        network.name_server()
        servers = Servers(base, network)
        servers.begin()
        whole = profile()
        report.case("everything", everything, Image(binary, os.path.join(base, "whole"), whole, servers))
        for number, name in added(whole):
            report.case(f"without {name}", is_missed, binary, base, servers, whole, number, name)
        report.case("with all of them", is_enough, Image(binary, os.path.join(base, "again"), whole, servers))
        calls.probe(report, binary, base, whole, {name for _, name in added(whole)})
    finally:
        if servers:
            servers.end()
        if network:
            network.end()
        shutil.rmtree(base, ignore_errors=True)
    report.end()


if __name__ == "__main__":
    main()
