//! A node that is stopped in the middle of a statement, at each message of the protocol and within each: the server waits
//! for the rest and keeps what it has locked, no time-out of it counts, and another node takes over all the same.

mod common;

use std::thread;

use common::proxy::{After, Proxy, Then};
use common::{Cluster, Node, until};

const APPEND: &[u8] = b"openexec.append(";
/// Of one key alone, whose line is large: what is found for several keys leaves such a line out.
const FIND: &[u8] = b"SELECT kind, n, line FROM openexec.find(";
const FENCE: &[u8] = b"SELECT openexec.fence(";
/// In which messages a statement is sent: Parse, Bind, Describe, Execute, Sync.
const MESSAGES: usize = 5;

fn echo(nonce: &str, of: &str) -> String {
    format!("{{\"action\":\"echo\",\"nonce\":\"{nonce}\",\"payload\":{{\"of\":\"{of}\"}}}}")
}

/// A database with a log of its own, on the one server.
struct Database<'a> {
    cluster: &'a Cluster,
    name: String,
}

impl<'a> Database<'a> {
    fn new(cluster: &'a Cluster, name: String) -> Self {
        let sql = format!("CREATE DATABASE {name} TEMPLATE d OWNER owner");
        cluster.sql("postgres", "postgres", &sql);
        Database { cluster, name }
    }

    fn node(&self, name: &str, socket: &std::path::Path) -> Node {
        let url = format!("postgresql://serve@/{}?host={}", self.name, socket.display());
        Node::start(self.cluster, &format!("{}-{name}", self.name), &[("OPENEXEC_DB_URL", &url)])
    }

    fn direct(&self, name: &str) -> Node {
        self.node(name, &self.cluster.dir)
    }

    fn claims(&self, nonce: &str) -> String {
        let sql = format!(
            "SELECT count(*) FROM openexec.rec WHERE line LIKE '%\"kind\":\"claim\"%\"nonce\":\"{nonce}\"%'"
        );
        self.cluster.sql(&self.name, "postgres", &sql)
    }

    /// Waits until the server waits so for a node, in the middle of a statement.
    fn waits(&self, event: &str) {
        let sql = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND usename = 'serve' AND wait_event = '{event}' \
             AND state = 'active'",
            self.name
        );
        until(&format!("the server waits for the node: {event} in {}", self.name), || {
            self.cluster.sql("d", "postgres", &sql) == "1"
        });
    }
}

/// The first node meets this while it is asked; then the second takes over, and the first one wakes.
fn round(database: &Database, text: &'static [u8], after: After, then: Then) {
    let what = format!("{} {after:?} {then:?}", String::from_utf8_lossy(text));
    let proxy = Proxy::named(&database.cluster.dir, &format!("{}-proxy", database.name));
    let mut first = database.node("a", &proxy.dir);
    until("it is ready", || first.is_ready());
    // An answer that no buffer holds.
    let large = echo("large", &"x".repeat(900_000));
    first.insist(&large);
    let second = database.direct("b");
    until("it stands by", || second.log().contains("stands by"));

    let body = if text == FIND { large } else { echo("asked", "") };
    let nonce = if text == FIND { "large" } else { "asked" };
    proxy.arm_after(text, after, then);
    let (address, sent) = (first.address.clone(), body.clone());
    let asked = thread::spawn(move || {
        common::try_exchange(&address, &common::post("/execute", sent.as_bytes())).ok()
    });
    until("the proxy stops", || proxy.is_done());
    first.signal("-STOP");
    match after {
        After::Answer if text == FIND => database.waits("ClientWrite"),
        // Before it the server has nothing of the statement, or only a part of a message.
        After::Messages(1..) => database.waits("ClientRead"),
        _ => {}
    }
    until("the other takes over", || second.is_ready());
    let executed = second.insist(&body);
    assert_eq!(database.claims(nonce), "1", "{what}");

    proxy.go_on();
    first.signal("-CONT");
    assert_eq!(first.ended(), 75, "{what}: {}", first.log());
    if let Some(answer) = asked.join().expect("asked") {
        // It may have been told of a commit before it slept.
        let is_true = answer.status == 503 || answer.json() == executed.json();
        assert!(is_true, "{what}: {}", answer.text());
    }
    second.insist(&echo("after", ""));
    assert_eq!(database.claims(nonce), "1", "{what}");
}

/// The fence itself may be what is stopped: then a third one takes over, and the second finds that when it wakes.
fn within_the_fence(database: &Database) {
    let proxy = Proxy::named(&database.cluster.dir, &format!("{}-proxy", database.name));
    let mut first = database.direct("a");
    first.insist(&echo("before", ""));
    let mut second = database.node("b", &proxy.dir);
    until("it stands by", || second.log().contains("stands by"));
    proxy.arm_after(FENCE, After::Messages(MESSAGES - 1), Then::Stop);
    first.kill();
    until("the proxy stops", || proxy.is_done());
    second.signal("-STOP");
    database.waits("ClientRead");
    let third = database.direct("c");
    until("the third takes over", || third.is_ready());
    third.insist(&echo("asked", ""));
    proxy.go_on();
    second.signal("-CONT");
    until("it stands by again", || second.log().matches("stands by").count() > 1);
    third.insist(&echo("after", ""));
    assert!(second.child.try_wait().expect("waited").is_none());
}

#[test]
fn one_that_is_stopped_in_the_middle_of_a_statement_loses_its_place() {
    let cluster = Cluster::new();
    let mut cases = vec![(FIND, After::Answer, Then::Stop), (APPEND, After::Answer, Then::Stop)];
    for then in [Then::Stop, Then::StopWithin] {
        cases.extend((0..MESSAGES).map(|n| (APPEND, After::Messages(n), then)));
    }
    // Made one after the other: a database that is copied has nobody in it.
    let databases: Vec<Database> =
        (0..=cases.len()).map(|n| Database::new(&cluster, format!("d{n}"))).collect();
    thread::scope(|scope| {
        let (fenced, others) = databases.split_first().expect("one");
        scope.spawn(|| within_the_fence(fenced));
        for (database, (text, after, then)) in others.iter().zip(cases) {
            scope.spawn(move || round(database, text, after, then));
        }
    });
}
