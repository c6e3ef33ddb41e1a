//! A job that a proposal leaves, and what the log says became of it.

use serde_json::Value;

use super::{Answer, Cluster};

pub fn job(nonce: &str, queue: &str) -> String {
    format!(
        "{{\"action\":\"enqueue\",\"nonce\":\"{nonce}\",\"payload\":{{\"queue\":\"{queue}\",\"job\":{{\"of\":\"{nonce}\"}}}}}}"
    )
}

pub fn id_of(answer: &Answer) -> String {
    answer.json()["id"].as_str().expect("an id").to_owned()
}

/// What the log has of it, outcome and result.
pub fn completions(cluster: &Cluster, id: &str) -> Vec<(String, Value)> {
    let sql = format!(
        "SELECT line FROM openexec.rec WHERE line LIKE '%\"kind\":\"completion\"%' AND line LIKE '%{id}%' ORDER BY n"
    );
    let lines = cluster.sql("d", "postgres", &sql);
    let read = |line: &str| serde_json::from_str::<Value>(line).expect("JSON");
    let said =
        |line: Value| (line["outcome"].as_str().expect("text").to_owned(), line["result"].clone());
    lines.lines().map(read).map(said).collect()
}
