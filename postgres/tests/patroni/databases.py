"""Three members of a Patroni cluster and its etcd, of Debian's packages, as their documents set them up."""

import glob
import http.client
import json
import os
import shutil
import signal
import subprocess

from world import Host, certificates, expect, is_postgres, until

DATABASE = "openexec"
PORT = 5432
STARTED = "SELECT pg_postmaster_start_time()"
PATH = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
PASSWORDS = {"owner": "owner-p", "serve": "serve-p", "op": "op-p", "work": "work-p"}
# What docs/deploy/postgres.md tells to set, and what makes a test of it short: `ttl` is at its least, and a server that has
# died is not started again in its place.
SETTINGS = {
    "ttl": 20, "loop_wait": 2, "retry_timeout": 4, "maximum_lag_on_failover": 1 << 30, "primary_start_timeout": 0,
    "synchronous_mode": True, "synchronous_mode_strict": True,
    "postgresql": {
        "use_pg_rewind": True,
        "parameters": {
            "max_connections": 40, "wal_keep_size": "512MB", "wal_log_hints": "on", "max_wal_size": "256MB",
            "shared_buffers": "32MB", "wal_sender_timeout": "8s", "wal_receiver_timeout": "8s", "tcp_user_timeout": 8000,
            "tcp_keepalives_idle": 4, "ssl": "on",
        },
    },
}


def binaries():
    """Of the newest PostgreSQL that is installed."""
    found = glob.glob("/usr/lib/postgresql/*/bin")
    return max(found, key=lambda path: int(path.split("/")[4]))


class Server:
    """A host with a server, whose socket is in a directory of its name."""

    def __init__(self, host, place):
        self.host, self.name = host, host.name
        self.place = os.path.join(place, self.name)
        os.mkdir(self.place, 0o755)
        shutil.chown(self.place, "postgres", "postgres")

    def sql(self, text, database=DATABASE, user="postgres"):
        """What psql prints, over its socket; None where it does not answer, or refuses."""
        command = ["psql", "-qAtX", "-v", "ON_ERROR_STOP=1", "-h", self.place, "-U", user, "-c", text, database]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30,
                                  env={**os.environ, "PGCONNECT_TIMEOUT": "5"})
        except subprocess.TimeoutExpired:
            return None
        return done.stdout.strip() if done.returncode == 0 else None


class Member(Server):
    """One that Patroni keeps."""

    def __init__(self, place, number, etcd):
        super().__init__(Host(f"db{number}", number), place)
        address = self.host.address
        everywhere = "all all 0.0.0.0/0 scram-sha-256"
        configuration = {
            "scope": "openexec", "name": self.name,
            "restapi": {"listen": f"{address}:8008", "connect_address": f"{address}:8008"},
            # Not `etcd3`: with it the Patroni of Debian 12 lets a leader that was paused overwrite its successor's key.
            "etcd": {"host": f"{etcd.address}:2379"},
            "bootstrap": {"dcs": SETTINGS, "initdb": [{"encoding": "UTF8"}, {"locale": "C"}, "data-checksums"]},
            "postgresql": {
                "listen": f"{address}:{PORT}", "connect_address": f"{address}:{PORT}", "use_unix_socket": True,
                "data_dir": f"{self.place}/data", "bin_dir": binaries(), "pgpass": f"{self.place}/pgpass",
                "authentication": {
                    "superuser": {"username": "postgres", "password": "super-p"},
                    "replication": {"username": "rep", "password": "rep-p"},
                    "rewind": {"username": "rewind", "password": "rewind-p"},
                },
                "parameters": {
                    "unix_socket_directories": self.place, "ssl_cert_file": f"{place}/server.pem",
                    "ssl_key_file": f"{place}/server.key",
                },
                "pg_hba": ["local all all trust", f"hostssl {everywhere}", "hostssl replication rep 0.0.0.0/0 scram-sha-256"],
            },
        }
        # JSON is YAML.
        self.configuration = os.path.join(self.place, "patroni.yml")
        with open(self.configuration, "w", encoding="ascii") as file:
            json.dump(configuration, file)
        self.patroni = None

    def start(self):
        log = os.path.join(self.place, "patroni.log")
        self.patroni = self.host.start(["/usr/bin/patroni", self.configuration], log, {**PATH, "HOME": self.place}, "postgres")

    def ask(self, method, path, value=None):
        """Patroni's own answer, with its status; None where there is none."""
        connection = http.client.HTTPConnection(self.host.address, 8008, timeout=30)
        try:
            connection.request(method, path, json.dumps(value) if value is not None else None)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except OSError:
            return None
        finally:
            connection.close()

    def tail(self):
        with open(os.path.join(self.place, "patroni.log"), encoding="utf-8", errors="replace") as log:
            return "".join(log.readlines()[-12:])


class Databases:
    def __init__(self, place, network):
        self.network, self.place = network, place
        self.etcd = Host("etcd", 10)
        self.members = [Member(place, number, self.etcd) for number in (1, 2, 3)]

    def begin(self):
        certificates(self.place, [f"IP:{member.host.address}" for member in self.members])
        store = os.path.join(self.place, "etcd")
        client, peer = (f"http://{self.etcd.address}:{port}" for port in (2379, 2380))
        # `--enable-v2`: the interface of `etcd:`.
        self.etcd.start(
            ["etcd", "--enable-v2", "--name", "etcd", "--data-dir", store, "--listen-client-urls", client,
             "--advertise-client-urls", client, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
             "--initial-cluster", f"etcd={peer}"], os.path.join(self.place, "etcd.log"), PATH)
        until("etcd answers", self.has_etcd)
        self.members[0].start()
        until("there is a leader", self.leader)
        for member in self.members[1:]:
            member.start()
        self.settle()
        self.prepare()

    def has_etcd(self):
        connection = http.client.HTTPConnection(self.etcd.address, 2379, timeout=5)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def prepare(self):
        leader = self.leader()
        for role, password in PASSWORDS.items():
            expect(leader.sql(f"CREATE ROLE {role} LOGIN PASSWORD '{password}'", "postgres") is not None, f"no role {role}")
            path = os.path.join(self.place, f"{role}.password")
            with open(path, "w", encoding="ascii", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
                file.write(password + "\n")
        expect(leader.sql(f"CREATE DATABASE {DATABASE} OWNER owner", "postgres") is not None, "no database")

    def url(self, role):
        hosts = ",".join(member.host.address for member in self.members)
        return f"postgresql://{role}@{hosts}:{PORT}/{DATABASE}?sslrootcert={self.place}/ca.pem"

    def service(self):
        """The file that tells libpq how a worker reaches the one that takes writes, and gives one up that says nothing."""
        path = os.path.join(self.place, "service")
        hosts = ",".join(member.host.address for member in self.members)
        with open(path, "w", encoding="ascii") as file:
            file.write(f"[queue]\nhost={hosts}\nport={PORT}\ndbname={DATABASE}\nuser=work\npassword={PASSWORDS['work']}\n"
                       f"sslmode=verify-full\nsslrootcert={self.place}/ca.pem\ntarget_session_attrs=read-write\n"
                       "connect_timeout=3\nkeepalives_idle=2\nkeepalives_interval=1\nkeepalives_count=3\n"
                       "tcp_user_timeout=4000\n")
        return path

    def leader(self):
        """The one that etcd says leads and that takes writes; None where there is none."""
        for member in self.members:
            answer = member.ask("GET", "/primary") if member.patroni else None
            if answer and answer[0] == 200 and member.sql("SELECT pg_is_in_recovery()", "postgres") == "f":
                return member
        return None

    def others(self, one):
        return [member for member in self.members if member is not one]

    def settle(self):
        """Waits until one leads, the others follow it, and a standby that is named has every commit."""
        def is_settled():
            leader = self.leader()
            if leader is None:
                return None
            state = leader.sql(
                "SELECT count(*) FILTER (WHERE state = 'streaming'), count(*) FILTER (WHERE sync_state = 'sync'), "
                "current_setting('synchronous_standby_names') FROM pg_stat_replication "
                "WHERE application_name LIKE 'db_'", "postgres")
            streaming, synchronous, names = (state or "0|0|").split("|")
            return leader if (streaming, synchronous) == ("2", "1") and "db" in names else None

        return until("the cluster is whole", is_settled, every=0.3)

    def another_leads(self, old):
        """Waits until the cluster has another leader than that."""
        def another():
            return next((member for member in self.others(old) if (member.ask("GET", "/primary") or [0])[0] == 200), None)

        return until(f"another than {old.name} leads", another, every=0.1)

    def starts_anew(self, member, started):
        """Waits until another than that member leads, or its server is a new one that takes writes."""
        def is_new():
            leader = self.leader()
            return leader and (leader is not member or leader.sql(STARTED, "postgres") not in (None, started))

        until("a server takes writes again", is_new, every=0.2)

    def switch_over(self):
        old = self.leader()

        def asked():
            said = old.ask("POST", "/switchover", {"leader": old.name})
            return said and said[0] in (200, 202) or (self.leader() not in (None, old))

        until("it is switched over", asked, every=0.5)
        self.another_leads(old)

    def kill_server(self, member):
        started = member.sql(STARTED, "postgres")
        member.host.signal(signal.SIGKILL, is_postgres)
        self.starts_anew(member, started)

    def kill_host(self, member):
        member.host.signal(signal.SIGKILL)
        member.patroni.wait()

    def set(self, **settings):
        """Changes what all of them are set to."""
        leader = self.leader()
        status, said = leader.ask("PATCH", "/config", settings)
        expect(status == 200, said)

    def tails(self):
        return "\n".join(f"--- {member.name}\n{member.tail()}" for member in self.members)
