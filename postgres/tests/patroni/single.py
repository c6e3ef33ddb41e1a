#!/usr/bin/env python3
"""OpenExec over one server, and what happens to one: its disk is full, it is stopped and killed under load, it takes no
writes, the role may not write, and PgBouncer stands between in transaction mode. Each request ends as executed, refused
or unknown; asking again tells the truth; nothing is executed twice; and the nodes go on by themselves.

    single.py OPENEXEC-POSTGRES

In namespaces of its own, as root; ends with 77 where there are none.
"""

import json
import os
import shutil
import signal
import sys
import time
import traceback

import world
from databases import DATABASE, PATH, Databases, Server, binaries
from services import Load, Log, Node, Nodes
from world import Host, expect, until

BEFORE, AFTER = 25, 25
SPACE = "112m"


class Single(Databases):
    """One server, on a disk of its own that is small. For nodes it is the leader, as long as it is there."""

    def __init__(self, place):
        self.place = place
        self.server = Server(Host("db1", 1), place)
        self.members = [self.server]
        self.pooler = None

    def begin(self):
        place = self.server.place
        world.run("mount", "-t", "tmpfs", "-o", f"size={SPACE}", "none", place)
        shutil.chown(place, "postgres", "postgres")
        initdb = [f"{binaries()}/initdb", "-D", f"{place}/data", "-U", "postgres", "-A", "trust", "-E", "UTF8",
                  "--locale", "C", "--wal-segsize=1"]
        expect(self.server.host.start(initdb, f"{self.place}/initdb.log", PATH, "postgres").wait() == 0, "no initdb")
        with open(f"{place}/data/postgresql.conf", "a", encoding="ascii") as file:
            file.write(f"listen_addresses = ''\nunix_socket_directories = '{place}'\nshared_buffers = '16MB'\n"
                       "min_wal_size = '2MB'\nmax_wal_size = '8MB'\n")
        self.start()
        self.settle()
        self.prepare()

    def start(self):
        """The server, and a supervisor's part: until it takes writes. Its log is on a disk that has room."""
        place = self.server.place
        command = [f"{binaries()}/postgres", "-D", f"{place}/data"]
        self.process = self.server.host.start(command, f"{self.place}/server.log", PATH, "postgres")

    def is_up(self):
        if self.process.poll() is not None:
            self.start()
        return self.leader()

    def leader(self):
        return self.server if self.server.sql("SELECT pg_is_in_recovery()", "postgres") == "f" else None

    def settle(self):
        until("it takes writes", self.is_up, every=0.2)

    def url(self, role):
        return f"postgresql://{role}@/{DATABASE}?host={self.server.place}"

    def pooled(self):
        """Through PgBouncer, which gives each transaction any of its two connections."""
        place = os.path.join(self.place, "pooler")
        os.mkdir(place, 0o755)
        shutil.chown(place, "postgres", "postgres")
        with open(os.path.join(place, "users"), "w", encoding="ascii") as file:
            file.write('"serve" "serve-p"\n')
        with open(os.path.join(place, "ini"), "w", encoding="ascii") as file:
            file.write(f"[databases]\n{DATABASE} = host={self.server.place}\n[pgbouncer]\npool_mode = transaction\n"
                       f"auth_type = trust\nauth_file = {place}/users\nunix_socket_dir = {place}\nlisten_port = 5432\n"
                       f"default_pool_size = 2\nlogfile = {place}/log\n")
        command = ["/usr/sbin/pgbouncer", os.path.join(place, "ini")]
        self.pooler = self.server.host.start(command, f"{self.place}/pooler.log", PATH, "postgres")
        until("PgBouncer listens", lambda: os.path.exists(os.path.join(place, ".s.PGSQL.5432")))
        return f"postgresql://serve@/{DATABASE}?host={place}"

    def tails(self):
        with open(f"{self.place}/server.log", encoding="utf-8", errors="replace") as log:
            return "".join(log.readlines()[-20:])


class Trouble:
    def __init__(self, place, binary):
        world.Network()
        self.place, self.databases, self.nodes = place, Single(place), None
        self.binary = binary

    def begin(self):
        self.databases.begin()
        key = os.path.join(self.place, "log.pem")
        world.run("openssl", "genpkey", "-algorithm", "ed25519", "-out", key)
        nodes = [Node(self.binary, self.place, number, self.databases, key, None) for number in (1, 2)]
        for node in nodes:
            node.environment["OPENEXEC_ACCEPT_LOST_COMMITS"] = "yes"
            for name in ("OPENEXEC_LOG_KEY_FILE", "OPENEXEC_LOG_ORIGIN", "OPENEXEC_CHECKPOINT_FILE"):
                del node.environment[name]
        code, said = nodes[0].command("init", "--serve-role", "serve", "--operator-role", "op",
                                      OPENEXEC_DB_URL=self.databases.url("owner"))
        expect(code == 0, f"init: {code}: {said}")
        self.nodes = Nodes(nodes)
        self.nodes.active()
        self.load = Load(self.nodes)
        self.log = Log(self.databases)

    def sql(self, text):
        expect(self.databases.server.sql(text) is not None, text)

    def disk_full(self):
        ballast = os.path.join(self.databases.server.place, "ballast")
        # Unbuffered: a buffer would keep what did not fit, and its close would fail once more.
        with open(ballast, "wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(1 << 16))
            except OSError as error:
                expect(error.errno == 28, error)
        self.load.has_unknown()
        os.unlink(ballast)

    def stopped(self):
        self.databases.process.send_signal(signal.SIGINT)
        self.databases.process.wait()

    def killed(self):
        self.databases.server.host.signal(signal.SIGKILL)
        self.databases.process.wait()

    def paused(self):
        self.databases.server.host.signal(signal.SIGSTOP)
        self.nobody_is_ready()
        self.databases.server.host.signal(signal.SIGCONT)

    def nobody_is_ready(self):
        until("no node is ready", lambda: self.nodes.ready() is None)

    END = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'serve'"

    def takes_no_writes(self):
        self.sql(f"ALTER DATABASE {DATABASE} SET default_transaction_read_only = on")
        self.sql(self.END)
        self.nobody_is_ready()
        self.sql(f"BEGIN READ WRITE; ALTER DATABASE {DATABASE} RESET default_transaction_read_only; COMMIT")

    def may_not_append(self):
        """A node that happens to start meanwhile finds that it cannot serve (78); here an operator starts it again."""
        for node in self.nodes.nodes:
            node.started_again = {*node.started_again, 78}
        function = self.databases.server.sql("SELECT oid::regprocedure FROM pg_proc WHERE proname = 'append'")
        self.sql(f"REVOKE EXECUTE ON FUNCTION {function} FROM serve")
        self.load.has_unknown()
        self.sql(f"GRANT EXECUTE ON FUNCTION {function} TO serve")

    def pooled(self):
        """They take over from one another again and again; what is acknowledged is there once all the same."""
        url = self.databases.pooled()
        was = self.databases.url("serve")
        self.restart(url)
        self.load.has(AFTER, time.monotonic())
        self.restart(was)
        self.databases.pooler.kill()

    def restart(self, url):
        for node in self.nodes.nodes:
            node.environment["OPENEXEC_DB_URL"] = url
            process = node.process
            if process:
                process.kill()

    def round(self, name, fault):
        self.databases.settle()
        self.nodes.active()
        self.load.begin(name)
        self.load.has(BEFORE, 0)
        fault(self)
        self.databases.settle()
        self.nodes.active()
        self.load.has(AFTER, time.monotonic())
        self.load.pause()
        unknown = self.load.settle()
        self.log.read({})
        self.log.holds(self.load.told)
        expect(not self.load.faults, self.load.faults[:3])
        until("both are there", lambda: all(node.process for node in self.nodes.nodes))
        executed = sum(told.executed is not None for told in self.load.told.values())
        print(f"{name}: {executed - unknown} acknowledged, {unknown} unknown; nodes ended with "
              f"{json.dumps([node.ends for node in self.nodes.nodes])}", flush=True)


ROUNDS = [
    ("disk-full", Trouble.disk_full), ("stopped", Trouble.stopped), ("killed", Trouble.killed), ("paused", Trouble.paused),
    ("takes-no-writes", Trouble.takes_no_writes), ("may-not-append", Trouble.may_not_append), ("pooled", Trouble.pooled),
]


def main():
    place = world.enter()
    if not os.path.exists("/usr/sbin/pgbouncer"):
        world.skip("there is no pgbouncer")
    trouble = Trouble(place, os.path.abspath(sys.argv[1]))
    try:
        trouble.begin()
        for name, fault in ROUNDS:
            trouble.round(name, fault)
    except Exception:
        traceback.print_exc()
        print(trouble.databases.tails())
        for node in trouble.nodes.nodes if trouble.nodes else ():
            print(f"--- {node.name} {node.ends}\n{node.tail()}")
        sys.exit(1)
    print(f"{len(ROUNDS)} passed, 0 failed")


if __name__ == "__main__":
    main()
