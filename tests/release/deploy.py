#!/usr/bin/env python3
"""What deploy/, the Dockerfile, the bill of materials and deny.toml say, judged by the tools that are
made for it; and that each of these tools refuses the same when it is wrong.

    deploy.py BINARY     with systemd-analyze, hadolint, docker-compose, kubernetes-validate,
                         pyspdxtools, sbomcheck and cargo-deny in the PATH of this Python's bin/
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TOOLS = os.path.dirname(sys.executable)
# Tenths: systemd's own unit of exposure.
EXPOSURE_MAX = 10
UNITS = ("openexec.service", "openexec.socket", "openexec-init.service")
WORKER_UNITS = tuple(f"openexec-worker@.{kind}" for kind in ("service", "path", "timer"))


def run(command, **options):
    """Exit code and all that was said."""
    environment = {**os.environ, "CLAWSHIELD_TENANT_ID": "acme", "OWNER": "1000:1000", "FILES": "/made", "PATH": f"{TOOLS}:{os.environ['PATH']}"}
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, check=False,
        cwd=REPOSITORY, **options,
    )
    return done.returncode, done.stdout.decode(errors="replace")


def read(path):
    with open(os.path.join(REPOSITORY, path), encoding="utf-8") as file:
        return file.read()


class Judge:
    """A tool, what it judges, and changes each of which it must refuse."""

    def __init__(self, base):
        self.base = base
        self.count = 0
        self.failures = []

    def place(self):
        return tempfile.mkdtemp(dir=self.base)

    def judge(self, name, path, refuses, verdict):
        """`verdict(text)` is None where the text is right, else what is wrong."""
        text = read(path)
        self.say(f"{name}: {path}", verdict(text))
        for old, new in refuses:
            if old not in text:
                self.say(f"{name}: {path}", f"there is no {old!r} to change")
                continue
            wrong = verdict(text.replace(old, new, 1))
            self.say(f"{name} refuses {new!r}", None if wrong else "it is taken")

    def say(self, what, wrong):
        self.count += 1
        if wrong:
            self.failures.append(what)
        print(f"FAILED {what}: {wrong}" if wrong else f"ok: {what}", flush=True)

    def file(self, name, text):
        path = os.path.join(self.place(), name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path


def said_unless_zero(command, **options):
    code, said = run(command, **options)
    return said.strip() or f"exit code {code}" if code else None


def units(judge, binary):
    """systemd's own judgement, of the units as they are but for the place of the programs."""
    place = judge.place()
    work = os.path.join(REPOSITORY, "examples", "workers", "work")

    def install(name, text, directory):
        text = text.replace("/usr/local/bin/openexec", binary)
        text = text.replace("/usr/local/lib/openexec/work ", f"{work} ")
        with open(os.path.join(directory, name), "w", encoding="utf-8") as file:
            file.write(text)

    def fresh(tight):
        directory = tempfile.mkdtemp(dir=place)
        for name in UNITS:
            install(name, read(f"deploy/{name}"), directory)
        for name in WORKER_UNITS:
            install(name, read(f"examples/workers/{name}"), directory)
        if tight:
            drop_in = os.path.join(directory, "openexec.service.d")
            shutil.copytree(os.path.join(REPOSITORY, "deploy", "openexec.service.d"), drop_in)
        return directory

    def verified(name, directory):
        instance = name.replace("@.", "@send_email.")
        if instance != name:
            shutil.copy(os.path.join(directory, name), os.path.join(directory, instance))
        verify = ["systemd-analyze", "verify", "--man=no", os.path.join(directory, instance)]
        code, said = run(verify)
        # It ends well in spite of what it warns about.
        return said.strip() or (f"exit code {code}" if code else None)

    def exposed(directory, threshold=EXPOSURE_MAX):
        unit = os.path.join(directory, "openexec.service")
        limit = f"--threshold={threshold}"
        code, said = run(["systemd-analyze", "security", "--offline=yes", "--no-pager", limit, unit])
        level = re.search(r"exposure level for openexec.service: (\S+)", said)
        if level is None:
            return said.strip() or "no level"
        print(f"openexec.service{' with socket.conf' if directory.endswith('tight') else ''}: "
              f"exposure {level[1]}")
        return f"exposure {level[1]}" if code else None

    for tight in (False, True):
        directory = fresh(tight)
        if tight:
            directory = shutil.move(directory, directory + "-tight")
        for name in (*UNITS, *WORKER_UNITS):
            judge.say(f"systemd-analyze verify {name}", verified(name, directory))
        judge.say("systemd-analyze security", exposed(directory))

    def changed(text):
        directory = fresh(False)
        install("openexec.service", text, directory)
        return verified("openexec.service", directory) or exposed(directory)

    judge.judge("systemd-analyze", "deploy/openexec.service", [
        ("DynamicUser=yes\nUser=openexec\n", "User=root\n"),
        ("CapabilityBoundingSet=\n", ""),
        ("ProtectSystem=strict", "ProtectSystem=sometimes"),
        ("PrivateTmp=yes", "PrivatTmp=yes"),
        ("/usr/local/bin/openexec serve", "/nowhere/openexec serve"),
    ], changed)


def compose(judge):
    package = importlib.util.find_spec("compose")
    program = os.path.join(os.path.dirname(package.origin), "docker-compose")

    def verdict(text):
        # Beside the others: it reads seccomp.json by a relative path.
        path = judge.file("compose.yaml", text)
        return said_unless_zero([program, "-f", path, "config", "--quiet"])

    judge.judge("docker-compose config", "deploy/compose.yaml", [
        ("read_only: true", "readonly: true"),
        ("pids_limit: 420", "pids_limit: many"),
        ("networks: [agents]", "networks: [elsewhere]"),
        ("source: data", "source: dota"),
    ], verdict)
    judge.judge("docker-compose config", "examples/quickstart/compose.yaml", [
        ("read_only: true", "readonly: true"),
        ("profiles: [init]", "profile: [init]"),
        ("${FILES:?the directory}", "${FILE:?the directory}"),
        ('ports: ["127.0.0.1:5000:5000"]', 'ports: ["127.0.0.1:5000:port"]'),
        ("<<: *service\n    # For", "<<: *servant\n    # For"),
    ], verdict)


def kubernetes(judge):
    def verdict(text):
        path = judge.file("kubernetes.yaml", text)
        wrong = said_unless_zero(["kubernetes-validate", "--strict", "--quiet", path])
        return wrong or restricted(text)

    of_a_pod = [
        ("readOnlyRootFilesystem: true", "readonlyRootFilesystem: true"),
        ("type: RuntimeDefault", "type: Unconfined"),
        ("drop: [ALL]", "drop: [NET_RAW]"),
        ("allowPrivilegeEscalation: false", "allowPrivilegeEscalation: true"),
        ("runAsNonRoot: true", "runAsNonRoot: false"),
        ("runAsUser: 65532", "runAsUser: 0"),
    ]
    replicas = ("replicas: 1\n  serviceName", "replicas: one\n  serviceName")
    judge.judge("kubernetes-validate", "deploy/kubernetes.yaml", [replicas, *of_a_pod], verdict)
    judge.judge("kubernetes-validate", "deploy/kubernetes-once.yaml", of_a_pod, verdict)
    judge.judge("kubernetes-validate", "deploy/kubernetes-postgres.yaml", [
        ("replicas: 2", "replicas: two"), ("type: Recreate", "kind: Recreate"),
        ("whenUnsatisfiable: DoNotSchedule", "whenUnsatisfied: DoNotSchedule"), *of_a_pod,
    ], verdict)


def restricted(text):
    """The "restricted" level of Kubernetes' Pod Security Standards, as far as a pod of ours can
    break it."""
    import yaml

    for document in yaml.safe_load_all(text):
        spec = document.get("spec", {})
        pod = spec if document["kind"] == "Pod" else spec.get("template", {}).get("spec")
        if pod is None:
            continue
        name = f"{document['kind']} {document['metadata']['name']}"
        context = pod["securityContext"]
        if not context.get("runAsNonRoot") or context.get("runAsUser") == 0:
            return f"{name} may run as root"
        if context.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
            return f"{name} has no seccomp profile"
        if {"hostNetwork", "hostPID", "hostIPC"} & set(pod):
            return f"{name} shares a namespace of the host"
        for volume in pod["volumes"]:
            if set(volume) - {"name", "persistentVolumeClaim", "secret", "configMap", "emptyDir"}:
                return f"{name} has the volume {volume}"
        for container in pod["containers"]:
            own = container["securityContext"]
            if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
                return f"{name} may gain privileges"
            if own["capabilities"].get("drop") != ["ALL"] or own["capabilities"].get("add"):
                return f"{name} has capabilities"
    return None


def dockerfile(judge):
    judge.judge("hadolint", "Dockerfile", [
        (":nonroot AS image", " AS image"),
        ("WORKDIR /source", "WORKDIR source"),
        ('ENTRYPOINT ["/openexec"]', "ENTRYPOINT /openexec"),
        ('ENTRYPOINT ["/openexec-postgres"]', "ENTRYPOINT /openexec-postgres"),
        ("COPY --from=build-files ", "COPY --from=nothing "),
        ("COPY --from=build-postgres ", "COPY --from=nothing "),
    ], lambda text: said_unless_zero(["hadolint", "-"], input=text.encode()))


def bill(judge):
    def spdx(text):
        return said_unless_zero(["pyspdxtools", "-i", judge.file("SBOM.spdx.json", text)])

    def ntia(text):
        path = judge.file("SBOM.spdx.json", text)
        code, said = run(["sbomcheck", "-c", "ntia", path])
        return None if code == 0 and "Conformant: True" in said else said.strip()

    judge.judge("pyspdxtools", "SBOM.spdx.json", [
        ('"SPDX-2.3"', '"SPDX-9.9"'),
        ('"licenseDeclared": "MIT"', '"licenseDeclared": "MIT/Apache-2.0"'),
        ('"relatedSpdxElement": "SPDXRef-sha2', '"relatedSpdxElement": "SPDXRef-sha3'),
    ], spdx)
    judge.judge("sbomcheck", "SBOM.spdx.json", [
        ('"supplier": "Organization: OpenExec"', '"supplier": "NOASSERTION"'),
        ('"versionInfo": "0.2.0",\n', ""),
    ], ntia)
    for judged in (spdx, ntia):
        for package in ("approver", "postgres"):
            judge.say(f"the same of {package}", judged(read(f"{package}/SBOM.spdx.json")))
    for package in (".", "approver", "postgres"):
        judge.say(f"sbom.py --check {package}", said_unless_zero([sys.executable, ".ci/sbom.py", "--check", package]))


def dependencies(judge):
    def verdict(text):
        config = judge.file("deny.toml", text)
        return said_unless_zero([
            "cargo-deny", "--locked", "--config", config, "check", "bans", "licenses", "sources",
        ])

    judge.judge("cargo deny", "deny.toml", [
        ('  { crate = "sha2" },\n', ""),
        ('allow = ["MIT"]', 'allow = ["Apache-2.0"]'),
        ("https://github.com/rust-lang/crates.io-index", "https://example.org/index"),
    ], verdict)
    for package in ("approver", "postgres"):
        judge.say(f"cargo deny, {package}/", said_unless_zero([
            "cargo-deny", "--locked", "--manifest-path", f"{package}/Cargo.toml", "--config", f"{package}/deny.toml",
            "check", "bans", "licenses", "sources",
        ]))


def main():
    binary = os.path.abspath(sys.argv[1])
    base = tempfile.mkdtemp()
    judge = Judge(base)
    try:
        units(judge, binary)
        for check in (compose, kubernetes, dockerfile, bill, dependencies):
            check(judge)
    finally:
        shutil.rmtree(base, ignore_errors=True)
    print(f"{judge.count - len(judge.failures)} passed, {len(judge.failures)} failed")
    sys.exit(1 if judge.failures else 0)


if __name__ == "__main__":
    main()
