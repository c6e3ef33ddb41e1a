//! What is shipped beside the binary, held to the program and to each other: the image, the units,
//! the profile, the bill of materials. Whether the tools that read them agree is for
//! `tests/release/deploy.py`, and whether the binary runs under them for `tests/container/`.
#![allow(clippy::disallowed_types, reason = "cargo is asked what is linked")]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use openexec::serve::config::SETTINGS;
use openexec::sys::limits::{
    CONNECTIONS_MAX, CONNECTIONS_PER_RESERVED, FILES_PER_CONNECTION, FILES_PER_INNER,
    FILES_RESERVED, THREADS_RESERVED,
};
use serde_json::Value;

const TARGET: &str = "x86_64-unknown-linux-musl";
const SERVICE: &str = "deploy/openexec.service";
const DEPLOYMENTS: [&str; 4] =
    [SERVICE, "deploy/openexec-init.service", "deploy/compose.yaml", "deploy/kubernetes.yaml"];
/// What only a container runtime asks for; systemd asks before it loads the filter.
const OF_THE_RUNTIME: [&str; 3] = ["execve", "fstatfs", "rt_sigreturn"];

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn json(name: &str) -> Value {
    serde_json::from_str(&read(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn array<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().unwrap_or_else(|| panic!("{name} is no array in {value}"))
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("{name} is no string in {value}"))
}

/// What follows `opening` on the first line that begins with it.
fn after<'a>(page: &'a str, opening: &str) -> &'a str {
    page.lines().find_map(|line| line.trim_start().strip_prefix(opening)).unwrap_or_else(|| {
        panic!("no line begins with {opening:?}");
    })
}

/// The value of `field = "value"` in a text of TOML.
fn toml<'a>(text: &'a str, field: &str) -> &'a str {
    after(text, &format!("{field} = ")).trim_matches('"')
}

/// `name version`, as the lock file has them, with the checksum.
fn locked() -> Vec<(String, String, String)> {
    let lock = read("Cargo.lock");
    let packages = lock.split("[[package]]\n").skip(1).filter(|p| p.contains("\nchecksum = "));
    packages
        .map(|p| [toml(p, "name"), toml(p, "version"), toml(p, "checksum")].map(str::to_owned))
        .map(|[name, version, checksum]| (name, version, checksum))
        .collect()
}

/// `name version` of each crate that is linked into the binary, by cargo.
fn linked() -> BTreeSet<String> {
    let tree = ["tree", "--locked", "-e", "normal", "--prefix", "none", "--target"];
    let output = Command::new(env!("CARGO"))
        .args(tree)
        .arg(TARGET)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).expect("UTF-8");
    let mut crates = BTreeSet::new();
    for line in lines.lines() {
        let mut words = line.split(' ');
        if let (Some(name), Some(version)) = (words.next(), words.next()) {
            crates.insert(format!("{name} {}", version.trim_start_matches('v')));
        }
    }
    assert!(crates.remove(&format!("openexec {}", env!("CARGO_PKG_VERSION"))));
    assert!(crates.len() > 10, "{crates:?}");
    crates
}

#[test]
fn the_bill_of_materials_is_that_of_the_lock_file() {
    let bill = json("SBOM.spdx.json");
    let mut billed = BTreeSet::new();
    let locked = locked();
    for package in array(&bill, "packages") {
        let (name, version) = (text(package, "name"), text(package, "versionInfo"));
        let shown = format!("{name} {version}");
        match name {
            "openexec" => {
                assert_eq!(version, env!("CARGO_PKG_VERSION"));
                assert_eq!(text(package, "supplier"), "Organization: OpenExec");
            }
            "rust-std" => assert_eq!(version, toml(&read("rust-toolchain.toml"), "channel")),
            _ => {
                let checksum = text(&array(package, "checksums")[0], "checksumValue");
                let known =
                    locked.iter().any(|l| (&*l.0, &*l.1, &*l.2) == (name, version, checksum));
                assert!(known, "the lock file has no {shown} with the checksum {checksum}");
                let purl = text(&array(package, "externalRefs")[0], "referenceLocator");
                assert_eq!(purl, format!("pkg:cargo/{name}@{version}"));
                billed.insert(shown);
            }
        }
    }
    assert_eq!(billed, linked(), "run .ci/sbom.py");
}

#[test]
fn the_policy_allows_what_is_linked_and_nothing_else() {
    let policy = read("deny.toml");
    let mut allowed: BTreeSet<&str> = policy
        .lines()
        .filter_map(|line| line.trim().strip_prefix("{ crate = \"")?.strip_suffix("\" },"))
        .collect();
    // On aarch64 `cpufeatures` needs it.
    assert!(allowed.remove("libc") && allowed.remove("openexec"));
    let linked = linked();
    let names: BTreeSet<&str> = linked.iter().filter_map(|l| l.split(' ').next()).collect();
    assert_eq!(allowed, names);
}

#[test]
fn the_images_are_built_by_the_same_compiler_and_run_by_nobody() {
    let (dockerfile, channel) = (read("Dockerfile"), read("rust-toolchain.toml"));
    let channel = toml(&channel, "channel");
    assert_eq!(after(&dockerfile, "FROM rust:"), format!("{channel}-slim-bookworm AS source"));
    assert_eq!(after(&dockerfile, "ENV RUSTUP_TOOLCHAIN="), channel);
    assert_eq!(after(&dockerfile, "FROM gcr.io/"), "distroless/static-debian13:nonroot AS image");
    // It is built alone, and so is the one that a unit runs.
    let build = ".ci/release \"$(uname -m)-unknown-linux-musl\" service";
    assert!(dockerfile.contains(build) && read("docs/deploy/systemd.md").contains(build));
    let stages: Vec<(&str, &str)> = dockerfile
        .split("\nFROM ")
        .skip(1)
        .map(|stage| stage.split_once('\n').expect("lines"))
        .collect();
    let stage = |name: &str| {
        let found = stages.iter().find(|(from, _)| *from == name);
        found.unwrap_or_else(|| panic!("no stage {name}")).1
    };
    let image = stage("gcr.io/distroless/static-debian13:nonroot AS image");
    for (opening, rest) in [
        ("USER ", "65532:65532"),
        ("STOPSIGNAL ", "SIGKILL"),
        ("ENV OPENEXEC_LISTEN=", "0.0.0.0:5000"),
        ("EXPOSE ", "5000"),
    ] {
        assert_eq!(after(image, opening), rest, "{opening}");
    }
    let version = format!("version=\"{}\"", env!("CARGO_PKG_VERSION"));
    assert!(image.contains(&format!("org.opencontainers.image.{version}")));
    for (name, release, program, setting) in [
        ("files", "service", "openexec", "OPENEXEC_DB_URL=file:/data/store"),
        ("postgres", "postgres", "openexec-postgres", "RUNTIME_DIRECTORY=/run/openexec"),
    ] {
        let build = stage(&format!("source AS build-{name}"));
        assert!(build.starts_with("ARG SOURCE_DATE_EPOCH\n"));
        assert!(build.contains(&format!("\"$(uname -m)-unknown-linux-musl\" {release} \\\n")));
        assert!(build.contains(&format!("install -D dist/{program} /image/{program} ")));
        let image = stage(&format!("image AS {name}"));
        let copied = format!("{name} --chown=65532:65532 /image/ /");
        assert_eq!(after(image, "COPY --from=build-"), copied);
        assert_eq!(after(image, "ENTRYPOINT "), format!("[\"/{program}\"]"));
        assert_eq!(after(image, "ENV "), setting);
        let asked = format!(" CMD [\"/{program}\", \"healthcheck\"]");
        assert!(after(image, "HEALTHCHECK ").ends_with(&asked));
    }
    assert_eq!(stages.last().map(|(from, _)| *from), Some("image AS files"), "the default");
    // Who runs it says which mode, and whether demo mode may be reached.
    for setting in ["OPENEXEC_MODE", "OPENEXEC_ALLOW_EXPOSED_DEMO="] {
        assert!(!dockerfile.contains(&format!("ENV {setting}")), "{setting} is in the image");
    }
}

/// What cargo and `.ci/release` read is there when the image is built, and nothing that should not be.
#[test]
fn the_image_is_built_from_what_it_needs() {
    let ignored = read(".dockerignore");
    assert!(ignored.lines().any(|line| line == "*"), "everything else is left out");
    let taken: BTreeSet<&str> = ignored.lines().filter_map(|l| l.strip_prefix('!')).collect();
    let manifest = read("Cargo.toml");
    let declared = manifest.lines().filter_map(|line| line.strip_prefix("path = \""));
    let declared = declared.map(|path| path.trim_end_matches('"').to_owned());
    let benches = manifest.matches("[[bench]]").count();
    assert!(benches > 0);
    let copied = [
        "LICENSE",
        "SBOM.spdx.json",
        "seccomp.json",
        "deploy",
        "examples/workers",
        "docs",
        "README.md",
        "SECURITY.md",
        "CHANGELOG.md",
    ]
    .map(str::to_owned);
    let release = read(".ci/release");
    for name in &copied {
        assert!(release.contains(name.as_str()), "{name} is not released");
    }
    for beside in ["(. approver postgres)", "/openexec-$name", "SBOM-$name.spdx.json"] {
        assert!(release.contains(beside), "{beside} is not released");
    }
    let needed =
        ["Cargo.toml", "Cargo.lock", ".cargo", "benches", ".ci/release"].map(str::to_owned);
    // The other image is of a package below, whose manifest names what is beside its source.
    let below = ["Cargo.toml", "Cargo.lock", "benches", "seccomp.json", "src"]
        .map(|name| format!("postgres/{name}"));
    for path in declared.chain(copied).chain(needed).chain(below) {
        let is_taken = taken.iter().any(|t| path == *t || path.starts_with(&format!("{t}/")));
        assert!(is_taken, "{path} is not there when the image is built");
    }
    for path in taken {
        let there = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        assert!(there.exists(), ".dockerignore names {path}");
    }
}

#[test]
fn every_deployment_says_clawshield_and_knows_its_settings() {
    for (file, said) in [
        (SERVICE, "\nEnvironment=OPENEXEC_MODE=clawshield\n"),
        ("deploy/openexec-init.service", "\nEnvironment=OPENEXEC_MODE=clawshield\n"),
        ("deploy/compose.yaml", "\n    OPENEXEC_MODE: clawshield\n"),
        ("deploy/kubernetes.yaml", "- name: OPENEXEC_MODE\n              value: clawshield\n"),
    ] {
        assert!(read(file).contains(said), "{file} does not say {said:?}");
    }
    // Of the Job and of the StatefulSet.
    let kubernetes = read("deploy/kubernetes.yaml");
    assert_eq!(
        kubernetes.matches("name: OPENEXEC_MODE\n              value: clawshield").count(),
        2
    );
    for file in DEPLOYMENTS.into_iter().chain([
        "Dockerfile",
        "deploy/openexec.service.d/socket.conf",
        "deploy/kubernetes-once.yaml",
    ]) {
        let content = read(file);
        assert!(!content.contains("OPENEXEC_MODE=demo"), "{file}");
        for opening in ["OPENEXEC_", "CLAWSHIELD_"] {
            for rest in content.split(opening).skip(1) {
                let end = rest.find(|c: char| !(c.is_ascii_uppercase() || c == '_'));
                let name = format!("{opening}{}", &rest[..end.unwrap_or(rest.len())]);
                let known = SETTINGS.iter().any(|known| known.name == name);
                assert!(known, "{file} names {name}, which is no setting");
            }
        }
    }
}

#[test]
fn the_unit_is_as_the_documents_say() {
    let unit = read(SERVICE);
    for line in [
        "DynamicUser=yes",
        "StateDirectory=openexec",
        "LoadCredential=keys.json:/etc/openexec/keys.json",
        // Not without `-`: its exit code does not end the restarts, that of `serve` does.
        "ExecStartPre=-/usr/local/bin/openexec check",
        "Restart=always",
        "RestartSec=2",
        "StartLimitIntervalSec=0",
        "RestartPreventExitStatus=64 65 78",
        "IPAddressDeny=any",
        "IPAddressAllow=localhost",
    ] {
        assert!(unit.lines().any(|l| l == line), "{SERVICE} lacks {line}");
    }
    let tight = read("deploy/openexec.service.d/socket.conf");
    for line in ["StandardInput=socket", "PrivateNetwork=yes", "Environment=OPENEXEC_LISTEN=stdin"]
    {
        assert!(tight.lines().any(|l| l == line), "socket.conf lacks {line}");
    }
    let inner = CONNECTIONS_MAX + CONNECTIONS_MAX / CONNECTIONS_PER_RESERVED;
    let threads = 2 * CONNECTIONS_MAX + inner + THREADS_RESERVED;
    let files = FILES_PER_CONNECTION * CONNECTIONS_MAX + FILES_PER_INNER * inner + FILES_RESERVED;
    let compose = read("deploy/compose.yaml");
    for (tasks, descriptors) in [
        (after(&unit, "TasksMax="), after(&unit, "LimitNOFILE=")),
        (after(&compose, "pids_limit: "), after(&compose, "nofile: ")),
    ] {
        assert!(tasks.parse::<usize>().expect("a number") >= threads, "{tasks} < {threads}");
        assert!(
            descriptors.parse::<usize>().expect("a number") >= files,
            "{descriptors} < {files}"
        );
    }
}

/// `/ready` is 503 on a full disk, where replays and reads go on: it must not have a pod killed.
#[test]
fn only_health_decides_whether_a_pod_is_started_again() {
    let kubernetes = read("deploy/kubernetes.yaml");
    for (probe, path) in
        [("startupProbe:", "/health"), ("readinessProbe:", "/ready"), ("livenessProbe:", "/health")]
    {
        let (_, rest) = kubernetes.split_once(probe).expect("a probe");
        assert_eq!(after(rest, "path: "), path, "{probe}");
    }
}

/// The unit of the workers, the pages that say how it is set up, and what it is set up with.
#[test]
fn service_and_workers_share_the_outbox_by_one_group() {
    let (unit, readme) =
        (read("examples/workers/openexec-worker@.service"), read("docs/deploy/systemd.md"));
    let workers = read("docs/workers.md");
    let directory = "/var/lib/openexec-outbox";
    assert_eq!(after(&unit, "User="), "openexec-worker");
    assert_eq!(after(&unit, "Group="), "openexec-outbox");
    let command = format!("/usr/local/lib/openexec/work {directory}/%i /usr/local/lib/openexec/%i");
    assert_eq!(after(&unit, "ExecStart="), command);
    assert!(workers.contains("examples/workers/work examples/workers/send_email"));
    for command in [
        "groupadd --system openexec-outbox",
        "useradd --system --gid openexec-outbox openexec-worker",
        "install -d -o root -g openexec-outbox -m 2770 /var/lib/openexec-outbox",
    ] {
        for page in [&unit, &workers] {
            assert!(
                page.lines().any(|line| line.trim_start_matches("#   ") == command),
                "{command}"
            );
        }
    }
    // The service's own user is there only while it runs: what it shares is the group.
    let drop_in = readme.split("```").find(|block| block.contains("/outbox.conf\n"));
    let drop_in = drop_in.expect("the drop-in");
    assert_eq!(after(drop_in, "Environment=OPENEXEC_OUTBOX_DIR="), directory);
    assert_eq!(after(drop_in, "ReadWritePaths="), directory);
    assert_eq!(after(drop_in, "SupplementaryGroups="), "openexec-outbox");
    for page in [drop_in, &unit] {
        assert_eq!(after(page, "UMask="), "0007");
    }
}

/// What a profile allows: it is plain enough for Docker and containerd, and each rule says what it is for.
fn allowed(name: &str) -> BTreeSet<String> {
    let profile = json(name);
    let fields: BTreeSet<&str> =
        profile.as_object().expect("an object").keys().map(String::as_str).collect();
    let wanted = ["architectures", "defaultAction", "defaultErrnoRet", "syscalls"];
    assert_eq!(fields, BTreeSet::from(wanted), "one of them would not be read everywhere");
    assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
    let mut allowed = BTreeSet::new();
    for rule in array(&profile, "syscalls") {
        let keys: BTreeSet<&str> =
            rule.as_object().expect("an object").keys().map(String::as_str).collect();
        let known = BTreeSet::from(["action", "args", "comment", "errnoRet", "names"]);
        assert!(keys.is_subset(&known), "{keys:?}");
        assert!(text(rule, "comment").len() > 10, "{rule} says nothing");
        for name in array(rule, "names") {
            let name = name.as_str().expect("a name");
            if rule["action"] == "SCMP_ACT_ALLOW" {
                let is_new = allowed.insert(name.to_owned());
                assert!(is_new || name == "socket", "{name} is there twice");
            }
            let guarded = ["clone", "socket", "prctl", "ioctl", "mmap", "mprotect", "arch_prctl"];
            assert_eq!(guarded.contains(&name), rule.get("args").is_some(), "{name}");
        }
    }
    allowed
}

#[test]
fn the_profile_is_plain_and_the_units_list_is_its_own() {
    let mut allowed = allowed("seccomp.json");
    assert!(
        read("docs/deploy/container.md")
            .contains(&format!("It allows {} system calls", allowed.len()))
    );
    for name in OF_THE_RUNTIME {
        assert!(allowed.remove(name), "{name} is not allowed to the runtime");
    }
    let unit = read(SERVICE);
    let lists = unit.lines().filter_map(|line| line.strip_prefix("SystemCallFilter="));
    let listed: BTreeSet<String> =
        lists.flat_map(|list| list.split(' ')).map(str::to_owned).collect();
    assert_eq!(listed, allowed, "{SERVICE} has another list than seccomp.json");
}

/// The other image's profile is the same text with rules behind it.
#[test]
fn the_profile_over_a_database_is_this_one_and_what_a_database_needs() {
    const END: &str = "\n  ]\n}\n";
    let (own, other) = (read("seccomp.json"), read("postgres/seccomp.json"));
    let own = own.strip_suffix(END).expect("the end of a profile");
    assert!(other.starts_with(own), "postgres/seccomp.json begins otherwise than seccomp.json");
    let (own, other) = (allowed("seccomp.json"), allowed("postgres/seccomp.json"));
    let more: Vec<String> = other.difference(&own).map(|name| format!("`{name}`")).collect();
    let said = format!("and {} more: {}", more.len(), more.join(" "));
    assert!(read("docs/deploy/postgres.md").contains(&said), "{said}");
    assert!(read(".ci/release").contains("postgres/seccomp.json \"$dist/seccomp-postgres.json\""));
}
