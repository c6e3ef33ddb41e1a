#!/usr/bin/env python3
"""OpenExec over a real cluster: three PostgreSQL members kept by Patroni, with synchronous replication, and two nodes of ours;
load, and twenty rounds with a fault each. After each round every execution that was acknowledged is in the log, once,
and every job was taken once, and its end is recorded once.

    run.py OPENEXEC-POSTGRES OPENEXEC [--rounds N,N...]

In namespaces of its own, as root; ends with 77 where there are none. At the end it prints the table of the rounds. Then the
same cluster without synchronous replication: a start is refused, and with the operator's acceptance a failover that
loses commits ends each node that has seen them with 65.
"""

import argparse
import base64
import glob
import os
import signal
import statistics
import subprocess
import sys
import time
import traceback

import world
from databases import Databases
from services import Load, Log, Node, Nodes, Worker, share_checkpoint
from world import expect, until

# Executions that are waited for before each fault, and after it.
BEFORE, AFTER = 25, 25
# Executions that a figure is the median of; nothing is asserted of it.
MEASURED = 200
LIBRARIES = "/usr/lib/*/faketime/libfaketimeMT.so.1"


class Cluster:
    """All of it."""

    def __init__(self, place, binary, files_binary):
        self.place, self.binary, self.files_binary = place, binary, files_binary
        self.network = world.Network()
        self.databases = Databases(place, self.network)
        self.nodes = self.worker = None
        self.jobs = 0

    def begin(self):
        place, binary = self.place, self.binary
        self.databases.begin()
        key = os.path.join(place, "log.pem")
        world.run("openssl", "genpkey", "-algorithm", "ed25519", "-out", key)
        clock = next(iter(sorted(glob.glob(LIBRARIES))), None)
        expect(clock, "there is no libfaketime; install faketime")
        nodes = [Node(binary, place, number, self.databases, key, clock) for number in (1, 2)]
        first = nodes[0]
        code, said = first.command(
            "init", "--serve-role", "serve", "--operator-role", "op", "--worker-role", "work",
            OPENEXEC_DB_URL=self.databases.url("owner"), OPENEXEC_DB_PASSWORD_FILE=f"{place}/owner.password")
        expect(code == 0, f"init: {code}: {said}")
        share_checkpoint(first.checkpoint_file, nodes[1:])
        self.nodes = Nodes(nodes)
        self.nodes.active()
        self.load = Load(self.nodes, leaves_jobs=True)
        self.worker = Worker(place, self.databases)
        self.log = Log(self.databases)

    def nobody_is_ready(self):
        until("no node is ready", lambda: self.nodes.ready() is None)

    # The faults. Each waits for what it brings about, and mends what it broke.

    def server_killed(self):
        self.databases.kill_server(self.databases.leader())

    def primary_killed(self):
        leader = self.databases.leader()
        self.databases.kill_host(leader)
        self.databases.another_leads(leader)
        leader.start()

    def primary_paused(self):
        leader = self.databases.leader()
        leader.host.signal(signal.SIGSTOP)
        self.databases.another_leads(leader)
        leader.host.signal(signal.SIGCONT)

    def cut_from_standbys(self):
        leader = self.databases.leader()
        self.network.cut(leader.host, [other.host for other in self.databases.others(leader)])
        # Of what waits for a standby.
        self.load.has_unknown()
        self.nobody_is_ready()
        self.network.heal()

    def cut_from_nodes(self):
        leader = self.databases.leader()
        self.network.cut(leader.host, [node.host for node in self.nodes.nodes])
        self.nobody_is_ready()
        # Until its server has ended their sessions by itself.
        sessions = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'serve'"
        until("their sessions are ended", lambda: leader.sql(sessions) == "0")
        self.network.heal()

    def cut_from_all(self):
        leader = self.databases.leader()
        others = [other.host for other in self.databases.others(leader)]
        self.network.cut(leader.host, [*others, self.databases.etcd, *(node.host for node in self.nodes.nodes)])
        self.databases.another_leads(leader)
        self.network.heal()

    def cut_but_for_nodes(self):
        """Two of them take themselves for the primary for a while, and nodes reach both."""
        leader = self.databases.leader()
        others = [other.host for other in self.databases.others(leader)]
        self.network.cut(leader.host, [*others, self.databases.etcd])
        self.databases.another_leads(leader)
        self.network.heal()

    def switched_over(self):
        self.databases.switch_over()

    def node_killed(self):
        active = self.nodes.active()
        ends = len(active.ends)
        active.process.kill()
        # Its supervisor may start it again before the other one, which may have begun just now, has looked.
        until(f"{active.name} ends", lambda: len(active.ends) > ends)
        self.nodes.active()

    def node_paused(self):
        active = self.nodes.active()
        ends = len(active.ends)
        active.process.send_signal(signal.SIGSTOP)
        self.nodes.takes_over_from(active)
        active.process.send_signal(signal.SIGCONT)
        until(f"{active.name} ends", lambda: len(active.ends) > ends)
        expect(active.ends[-1] == 75, f"{active.name} ended with {active.ends[-1]}: {active.tail()}")

    def node_cut_off(self):
        active = self.nodes.active()
        ends = len(active.ends)
        self.network.cut(active.host, [member.host for member in self.databases.members])
        self.nodes.takes_over_from(active)
        self.network.heal()
        until(f"{active.name} ends", lambda: len(active.ends) > ends)
        expect(active.ends[-1] == 75, f"{active.name} ended with {active.ends[-1]}: {active.tail()}")

    def clock_ahead(self):
        self.clock(600)

    def clock_behind(self):
        self.clock(-600)

    def clock(self, seconds):
        active = self.nodes.active()
        ends = len(active.ends)
        active.set_clock(seconds)
        self.nodes.takes_over_from(active)
        until(f"{active.name} ends", lambda: len(active.ends) > ends)
        expect(active.ends[-1] == 75, f"{active.name} ended with {active.ends[-1]}: {active.tail()}")
        active.set_clock(0)

    def round(self, number, name, fault):
        """A row of the table."""
        self.databases.settle()
        self.nodes.active()
        ends = [len(node.ends) for node in self.nodes.nodes]
        self.load.begin(number)
        self.load.has(BEFORE, 0)
        began = time.monotonic()
        fault(self)
        self.databases.settle()
        self.nodes.active()
        self.load.has(AFTER, time.monotonic())
        self.load.pause()
        unknown = self.load.settle()
        self.worker.settle()
        self.log.read(self.load.checkpoints)
        self.log.holds(self.load.told)
        self.jobs = self.worker.holds(self.load.told, self.log)
        expect(not self.load.faults, self.load.faults[:3])
        new = [end for node, at in zip(self.nodes.nodes, ends) for end in node.ends[at:]]
        until(f"both are there: {new}", lambda: all(node.process for node in self.nodes.nodes))
        # Of those after the fault and the last before it.
        times = sorted(self.load.answered_at)
        pairs = [(later - earlier, later) for earlier, later in zip(times, times[1:]) if later > began]
        gap = max(pairs)[0]
        executed = sum(told.executed is not None for told in self.load.told.values())
        return number, name, f"{gap:.1f}", executed - unknown, unknown, " ".join(map(str, new)) or "-"

    def verified(self):
        """The backup is a store that verifies, and extends what was signed last."""
        active = self.nodes.active()
        copy = os.path.join(self.place, "copy")
        code, said = active.command("backup", copy)
        expect(code == 0, f"backup: {code}: {said}")
        print(said, end="")
        environment = {"PATH": "/usr/bin:/bin"}
        vkey = [self.files_binary, "checkpoint", "--vkey"]
        settings = {name: active.environment[name] for name in ("OPENEXEC_LOG_KEY_FILE", "OPENEXEC_LOG_ORIGIN",
                                                                    "OPENEXEC_CHECKPOINT_FILE")}
        vkey = subprocess.run(vkey, capture_output=True, text=True, check=True, env={**environment, **settings}).stdout.strip()
        for node in self.nodes.nodes:
            newest = os.path.join(node.place, "newest")
            if not os.path.exists(newest):
                continue
            command = [self.files_binary, "verify", copy, "--checkpoint", newest, "--log-key", vkey]
            done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
            expect(done.returncode == 0, f"verify: {done.returncode}: {done.stdout}{done.stderr}")
        print(done.stdout.strip().splitlines()[-1])
        root = self.log.root()
        expect(bytes.fromhex(said.split()[-1]) == base64.b64decode(root), "the backup has another root")

    def median_ms(self, node, of):
        """Of one caller that asks alone, one thing after the other."""
        def took(number):
            began = time.monotonic()
            status, value = node.ask("POST", "/execute", {"action": "echo", "nonce": f"{of}-{number}", "payload": {}})
            expect(status == 200, value)
            return time.monotonic() - began

        return f"{1000 * statistics.median(took(number) for number in range(MEASURED)):.1f}"

    def asynchronous(self):
        """Without synchronous replication nothing is promised; who has seen what is lost must not go on."""
        self.load.is_over = self.worker.is_over = True
        self.load.may_ask.set()
        synchronous = self.median_ms(self.nodes.active(), "synchronous")
        self.nodes.end()
        for node in self.nodes.nodes:
            node.process.kill()
            node.process.wait()
        self.databases.set(synchronous_mode=False, synchronous_mode_strict=False)
        leader = self.databases.leader()
        until("nobody is waited for", lambda: leader.sql("SHOW synchronous_standby_names") == "")
        first, second = self.nodes.nodes
        for command in ("check", "serve"):
            code, said = first.command(command)
            expect(code == 78 and "synchronous_standby_names" in said, f"{command}: {code}: {said}")
        for node in self.nodes.nodes:
            node.environment["OPENEXEC_ACCEPT_LOST_COMMITS"] = "yes"
        first.start()
        until(f"{first.name} is ready", first.is_ready)
        print(f"one caller alone: {synchronous} ms an execution with a synchronous standby, "
              f"{self.median_ms(first, 'alone')} ms without")
        second.start()

        def executed(node, nonce):
            def is_executed():
                try:
                    return node.ask("POST", "/execute", {"action": "echo", "nonce": nonce, "payload": {}})[0] == 200
                except OSError:
                    return False

            until(f"{nonce} is executed", is_executed)

        executed(first, "kept")
        size = "SELECT max(size) FROM openexec.batch"
        kept = leader.sql(size)
        others = self.databases.others(leader)
        until("it is everywhere", lambda: all(other.sql(size) == kept for other in others))
        self.network.cut(leader.host, [other.host for other in others])
        executed(first, "lost")
        saved = int(leader.sql(size))

        def is_saved():
            with open(first.checkpoint_file, encoding="utf-8") as file:
                return int(file.read().split("\n")[1]) >= saved

        until("its checkpoint file has it", is_saved)
        self.databases.kill_host(leader)
        self.databases.another_leads(leader)
        code = until(f"{first.name} ends", lambda: first.process.poll())
        expect(code == 65, f"{first.name} ended with {code}: {first.tail()}")
        until(f"{second.name} is ready", second.is_ready)
        now = self.databases.another_leads(leader)
        count = "SELECT count(*) FROM openexec.rec WHERE line LIKE '%\"nonce\":\"{}\"%'"
        expect(now.sql(count.format("lost")) == "0", "the commit is not lost, so this shows nothing")
        expect(now.sql(count.format("kept")) == "1", "what every member had is lost")
        executed(second, "goes on")
        # By its checkpoint file the other one knows it still, once it would serve.
        first.start()
        second.process.kill()
        second.process.wait()
        code = until(f"{first.name} ends", lambda: first.process.poll())
        expect(code == 65, f"{first.name} was started over what has lost, and ended with {code}: {first.tail()}")
        print("asynchronous: a start is refused; a node that saw what a failover lost ends with 65, and again when it is "
              "started; one that saw nothing goes on")


ROUNDS = [
    ("the primary's server killed", Cluster.server_killed),
    ("active node killed", Cluster.node_killed),
    ("switched over", Cluster.switched_over),
    ("the primary cut off from its standbys", Cluster.cut_from_standbys),
    ("active node paused", Cluster.node_paused),
    ("the primary's host killed", Cluster.primary_killed),
    ("active node's clock 10 min ahead", Cluster.clock_ahead),
    ("the primary cut off from the nodes", Cluster.cut_from_nodes),
    ("the primary's host paused", Cluster.primary_paused),
    ("active node cut off from the databases", Cluster.node_cut_off),
    ("the primary cut off from all but the nodes", Cluster.cut_but_for_nodes),
    ("switched over", Cluster.switched_over),
    ("active node's clock 10 min behind", Cluster.clock_behind),
    ("the primary cut off from everything", Cluster.cut_from_all),
    ("active node killed", Cluster.node_killed),
    ("the primary cut off from its standbys", Cluster.cut_from_standbys),
    ("the primary's server killed", Cluster.server_killed),
    ("active node paused", Cluster.node_paused),
    ("the primary cut off from the nodes", Cluster.cut_from_nodes),
    ("the primary's host paused", Cluster.primary_paused),
]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("files_binary")
    parser.add_argument("--rounds", default=",".join(map(str, range(1, len(ROUNDS) + 1))))
    options = parser.parse_args()
    place = world.enter()
    cluster, rows = None, []
    try:
        cluster = Cluster(place, os.path.abspath(options.binary), os.path.abspath(options.files_binary))
        cluster.begin()
        for number in filter(None, options.rounds.split(",")):
            began = time.monotonic()
            rows.append(cluster.round(int(number), *ROUNDS[int(number) - 1]))
            print(*rows[-1], f"({time.monotonic() - began:.0f} s)", flush=True)
        cluster.verified()
        print(f"{len(cluster.load.checkpoints)} checkpoints seen, {cluster.log.size} records, {cluster.jobs} jobs")
        cluster.asynchronous()
    except Exception:
        traceback.print_exc()
        if cluster:
            print(cluster.databases.tails())
            if cluster.worker:
                print(cluster.worker.tail())
            for node in cluster.nodes.nodes if cluster.nodes else ():
                print(f"--- {node.name} {node.ends}\n{node.tail()}")
        sys.exit(1)
    print("\n| round | fault | gap in s | acknowledged | unknown | nodes ended with |\n| --- | --- | --- | --- | --- | --- |")
    for row in rows:
        print("| " + " | ".join(map(str, row)) + " |")
    print(f"{len(rows) + 1} passed, 0 failed")


if __name__ == "__main__":
    main()
