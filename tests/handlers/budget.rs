//! What a handler that takes its time is seen by: metrics after a second, `/ready` after ten.
use std::time::{Duration, Instant};

use crate::common::handlers::{counted, service};
use crate::common::{Scratch, Server, executed, post, until};
use serde_json::json;

#[test]
fn a_slow_handler_shows() {
    let scratch = Scratch::new();
    let server = Server::spawn(service(&scratch), &scratch);
    let slow = |action: &str| {
        server.metric(&format!("openexec_handler_slow_runs_total{{action=\"{action}\"}}"))
    };
    let ask = |action: &str, ms: u64| {
        let payload = json!({"ms": ms});
        let nonce = format!("{action} {ms}");
        let body = json!({"action": action, "nonce": nonce, "payload": payload}).to_string();
        executed(&server.execute(&body), action, &nonce, &payload);
    };
    ask("sleep", 0);
    ask("see", 0);
    assert_eq!((slow("sleep"), slow("count"), slow("see")), (0, 0, 0));
    ask("sleep", 1_100);
    ask("count", 1_100);
    assert_eq!((slow("sleep"), slow("count"), slow("see")), (1, 1, 0));
    assert_eq!((server.runs("sleep"), server.runs("count"), server.runs("see")), (2, 1, 1));

    let runs = counted(&scratch).len();
    let began = Instant::now();
    let body = json!({"action": "sleep", "nonce": "n", "payload": {"ms": 20_000}}).to_string();
    let address = server.address.clone();
    let client = std::thread::spawn(move || {
        crate::common::exchange(&address, &post("/execute", body.as_bytes())).status
    });
    until("it runs", || counted(&scratch).len() > runs);
    let busy_after = loop {
        let ready = server.get("/ready");
        let after = began.elapsed();
        assert!(after < Duration::from_secs(20), "/ready never said that the executor is busy");
        if ready.status == 503 {
            assert_eq!(ready.text(), r#"{"ready":false,"reason":"executor_busy"}"#);
            assert_eq!(ready.header("retry-after"), Some("1"));
            break after;
        }
        assert_eq!((ready.status, ready.text().as_str()), (200, r#"{"ready":true}"#));
        std::thread::sleep(Duration::from_millis(50));
    };
    assert!(busy_after >= Duration::from_secs(10), "{busy_after:?}");
    // Busy, not dead: whoever restarts what is dead asks this.
    assert_eq!(server.get("/health").status, 200);
    assert!(server.metric("openexec_handler_running_seconds") >= 10);
    assert_eq!(client.join().expect("joined"), 200);
    assert_eq!(server.get("/ready").status, 200);
    assert_eq!((slow("sleep"), server.metric("openexec_handler_running")), (2, 0));
}
