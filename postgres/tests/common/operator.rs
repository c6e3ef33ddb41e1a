//! The commands of an operator, without a terminal, and what they are about.

use std::process::Output;

use openexec::core::hash::unhex;
use openexec::executor::requests::withdrawn;
use openexec::sys::clock;
use serde_json::Value;

use super::{Cluster, Node};

// RFC 8032, test 1.
const KEY: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n-----END PUBLIC KEY-----\n";
pub const CLAWSHIELD: [(&str, &str); 3] = [
    ("OPENEXEC_MODE", "clawshield"),
    ("CLAWSHIELD_TENANT_ID", "t"),
    ("CLAWSHIELD_PUBLIC_KEY", KEY),
];

pub struct Ended {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl From<Output> for Ended {
    fn from(done: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        let code = done.status.code().expect("a code");
        Ended { code, out: text(done.stdout), err: text(done.stderr) }
    }
}

/// Without a terminal, whatever the tests themselves have.
pub fn run(cluster: &Cluster, role: &str, settings: &[(&str, &str)], words: &[&str]) -> Ended {
    let inner = cluster.command(role, words);
    let mut command = std::process::Command::new("setsid");
    command.arg("--wait").arg(inner.get_program()).args(inner.get_args());
    command.env_clear().current_dir(&cluster.dir).stdin(std::process::Stdio::null());
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.envs(settings.iter().copied()).output().expect("run").into()
}

pub fn op(cluster: &Cluster, words: &[&str]) -> Ended {
    run(cluster, "op", &[], words)
}

pub fn clawshield() -> (Cluster, Node) {
    let cluster = Cluster::empty();
    cluster.init(&CLAWSHIELD);
    let node = Node::start_ready(&cluster, "a", &CLAWSHIELD);
    (cluster, node)
}

/// A proposal that is pending: its id.
pub fn propose(node: &Node, nonce: &str) -> String {
    let asked = node.echo(nonce).expect("an answer").json();
    asked["id"].as_str().unwrap_or_else(|| panic!("{asked}")).to_owned()
}

pub fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

pub fn withdraws(id: &str) -> String {
    withdrawn(clock::now(), unhex(id).expect("an id")).line
}
