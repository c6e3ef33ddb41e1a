"""A bundle laid out as the image is, run by runc under seccomp.json.

What the Dockerfile puts into the image, and what README's `docker run` asks of the engine, is here in
the words of the OCI runtime specification: user 65532, no capabilities, no new privileges, a root
that cannot be written, a network with nothing in it but its own loopback, bounded memory, processes
and files.
"""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
REPOSITORY = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(HERE, "..", "faults"))

import common  # noqa: E402

USER = 65532
MEMORY_BYTES = 1536 << 20
PROCESSES = 300
FILES = 1024
NAMESPACES = ("pid", "ipc", "uts", "mount", "network")
# Beside the volume: what handlers, approvers and a Unix socket need.
VOLUMES = ("data", "outbox", "files", "approvals", "keys", "run", "log")
HIDDEN = ("/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/sched_debug")
READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
NUMBERS = itertools.count(1)


def profile():
    with open(os.path.join(REPOSITORY, "seccomp.json"), encoding="utf-8") as file:
        return json.load(file)


def runtime_form(value):
    """The profile as the runtime specification has it: the same, without the comments."""
    plain = json.loads(json.dumps(value))
    for rule in plain["syscalls"]:
        rule.pop("comment", None)
    return plain


class Bundle:
    """A directory with a root file system and volumes; runs any number of containers, one after
    the other or at once."""

    def __init__(self, binary, directory, seccomp=None):
        self.directory = directory
        self.seccomp = runtime_form(seccomp if seccomp is not None else profile())
        root = os.path.join(directory, "rootfs")
        for name in ("proc", "dev", "tmp", "etc", *VOLUMES):
            os.makedirs(os.path.join(root, name))
        os.chmod(os.path.join(root, "tmp"), 0o1777)
        with open(os.path.join(root, "etc", "passwd"), "w", encoding="ascii") as passwd:
            passwd.write(f"root:x:0:0:root:/:/\nnonroot:x:{USER}:{USER}:nonroot:/:/\n")
        shutil.copy2(binary, os.path.join(root, "openexec"))
        for name in VOLUMES:
            os.makedirs(self.at(name), mode=0o700)
            os.chown(self.at(name), USER, USER)

    def at(self, volume, *names):
        return os.path.join(self.directory, "volumes", volume, *names)

    def add(self, program, name):
        shutil.copy2(program, os.path.join(self.directory, "rootfs", name))

    def configuration(self, arguments, environment):
        mounts = [
            {"destination": "/proc", "type": "proc", "source": "proc",
             "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755", "size=64k"]},
        ]
        for name in VOLUMES:
            mounts.append({
                "destination": f"/{name}", "type": "bind", "source": self.at(name),
                "options": ["bind", "rw", "nosuid", "nodev", "noexec"],
            })
        return {
            "ociVersion": "1.0.2",
            "process": {
                "terminal": False,
                "user": {"uid": USER, "gid": USER},
                "args": list(arguments),
                "env": [f"{name}={value}" for name, value in environment.items()],
                "cwd": "/",
                "capabilities": {
                    kind: [] for kind in
                    ("bounding", "effective", "inheritable", "permitted", "ambient")
                },
                "rlimits": [
                    {"type": "RLIMIT_NOFILE", "hard": FILES, "soft": FILES},
                    {"type": "RLIMIT_CORE", "hard": 0, "soft": 0},
                ],
                "noNewPrivileges": True,
            },
            "root": {"path": "rootfs", "readonly": True},
            "hostname": "openexec",
            "mounts": mounts,
            "linux": {
                "namespaces": [{"type": kind} for kind in NAMESPACES],
                "resources": {
                    "devices": [{"allow": False, "access": "rwm"}],
                    "memory": {"limit": MEMORY_BYTES},
                    "pids": {"limit": PROCESSES},
                },
                "maskedPaths": list(HIDDEN),
                "readonlyPaths": list(READ_ONLY),
                "seccomp": self.seccomp,
            },
        }

    def container(self, arguments, environment=None, stdin=None):
        return Container(self, arguments, environment or {}, stdin)

    def run(self, *arguments, environment=None, seconds=common.PATIENCE_S):
        """Runs it to its end; its exit code and what it said."""
        container = self.container(["/openexec", *arguments], environment)
        try:
            code = container.process.wait(seconds)
        finally:
            container.kill()
        return code, container.said()


def end(state, name):
    """Ends a container and removes what runc remembers of it. One whose first thread has ended is
    dead to runc; if others live, it is not."""
    try:
        with open(os.path.join(state, name, "state.json"), encoding="utf-8") as file:
            os.kill(json.load(file)["init_process_pid"], signal.SIGKILL)
    except (OSError, ValueError, KeyError):
        pass  # It is gone, or was never there.
    command = ["runc", "--root", state, "delete", "--force", name]
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)


class Container:
    """One container of a bundle. With `stdin`, a socket, runc leaves it detached."""

    def __init__(self, bundle, arguments, environment, stdin=None):
        self.bundle = bundle
        self.name = f"openexec-{os.getpid()}-{next(NUMBERS)}"
        place = os.path.join(bundle.directory, "containers", self.name)
        os.makedirs(place)
        os.symlink(os.path.join(bundle.directory, "rootfs"), os.path.join(place, "rootfs"))
        configuration = bundle.configuration(arguments, environment)
        configuration["root"]["path"] = os.path.join(bundle.directory, "rootfs")
        with open(os.path.join(place, "config.json"), "w", encoding="utf-8") as file:
            json.dump(configuration, file)
        self.log = os.path.join(place, "log")
        self.state = os.path.join(bundle.directory, "state")
        options = ["--detach"] if stdin else []
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [*self.runc("run"), *options, "--bundle", place, self.name],
                stdin=stdin or subprocess.DEVNULL, stdout=log, stderr=log,
            )

    def runc(self, command):
        return ["runc", "--root", self.state, command]

    def said(self):
        with open(self.log, encoding="utf-8", errors="replace") as log:
            return log.read()

    def pid(self):
        """Of its first process, as seen from outside."""
        asked = subprocess.run([*self.runc("state"), self.name], capture_output=True, check=True)
        return json.loads(asked.stdout)["pid"]

    def execute(self, *arguments, seconds=common.PATIENCE_S):
        """Runs the binary once more beside the first process, as `docker exec` does: its exit code
        and what it said."""
        done = self.run(*arguments, seconds=seconds)
        return done.returncode, (done.stdout + done.stderr).decode(errors="replace")

    def run(self, *arguments, seconds=common.PATIENCE_S):
        """The same, with its two outputs apart."""
        command = [*self.runc("exec"), self.name, "/openexec", *arguments]
        return subprocess.run(command, capture_output=True, timeout=seconds, check=False)

    def inside(self, command, **options):
        """Runs a command of this machine in the container's network."""
        enter = ["nsenter", f"--net=/proc/{self.pid()}/ns/net", "--", *command]
        return subprocess.run(enter, check=False, **options)

    def kill(self):
        end(self.state, self.name)
        return self.process.wait(common.PATIENCE_S)


class Service(common.Server):
    """The service in a container, asked over a Unix socket on a volume. What the fault tests ask of
    a service of theirs can be asked of this one."""

    is_traced = False

    def __init__(self, bundle, environment, stdin=None):  # noqa: super().__init__ starts a process
        self.bundle = bundle
        self.directory = bundle.directory
        self.store = bundle.at("data", "store")
        self.socket = bundle.at("run", "socket")
        lock = os.path.join(self.store, "LOCK")
        for stale in (self.socket, lock):
            if os.path.exists(stale):
                os.unlink(stale)
        self.container = bundle.container(["/openexec"], environment, stdin)
        self.process = self.container.process
        self.log = self.container.log

    def pid(self):
        return self.container.pid()

    def kill(self):
        return self.container.kill()

    def resident_bytes(self):
        with open(f"/proc/{self.pid()}/status", encoding="ascii") as status:
            line = next(line for line in status if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024


SETTINGS = {
    "OPENEXEC_DB_URL": "file:/data/store",
    "OPENEXEC_LISTEN": "unix:/run/socket",
    "OPENEXEC_OUTBOX_DIR": "/outbox",
    "OPENEXEC_FILES_DIR": "/files",
}


def cannot_run(binary, directory):
    """Why runc can run nothing here; None where it can."""
    if not shutil.which("runc"):
        return "there is no runc"
    if os.geteuid() != 0:
        return "this needs root"
    anything = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []}
    code, said = Bundle(binary, directory, anything).run("--version")
    return None if code == 0 else f"runc cannot run a container here: {said.strip()}"
