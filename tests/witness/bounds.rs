//! What bounds the witness: files that are too large, and requests that would hold every connection.
use std::io::Write;
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::common::evidence::{Evidence, ORIGIN, echo, opened, verifier, verify_proof};
use crate::common::{PATIENCE, Scratch, cli, get, read_answer, until};
use openexec::core::base64;
use openexec::sys::limits::{
    INNER_DEADLINE_MS, NOTE_BYTES_MAX, PROOF_BYTES_MAX, WITNESS_REQUESTS_MAX,
};

#[test]
fn what_is_too_large_is_not_read() {
    let scratch = Scratch::new();
    let evidence = Evidence::new(&scratch);
    let mut server = evidence.start(&scratch);
    let id = echo(&server, "n", "");
    let proof = server.get(&format!("/receipts/{id}/proof")).text();
    let note = server.get("/log/checkpoint").text();
    server.kill();
    let key = verifier().to_string();
    // Witnesses' lines up to the bound, then one byte more.
    let filled = |text: &str, bytes: usize| {
        let line = |n: usize| {
            let signature = base64::encode(&vec![7; n]);
            format!("\u{2014} witness.example/w {signature}\n")
        };
        let mut text = text.to_owned();
        while bytes - text.len() > 4_000 {
            text.push_str(&line(1_500));
        }
        // Three bytes of signature are four of text: the name makes up for the rest.
        let rest = bytes - text.len() - line(300).len();
        let name = "w".repeat(rest % 4);
        let last = line(300 + rest / 4 * 3).replace("example/w", &format!("example/w{name}"));
        text + &last
    };
    for (size, code) in [(NOTE_BYTES_MAX, 0), (NOTE_BYTES_MAX + 1, 65)] {
        let note = filled(&note, size);
        assert_eq!(note.len(), size);
        std::fs::write(scratch.join("kept"), &note).expect("written");
        let arguments = ["verify", "store", "--checkpoint", "kept", "--log-key", &key];
        let ended = cli(&scratch, &[], &arguments);
        assert_eq!(ended.code, code, "{size}: {}", ended.stderr);
    }
    for (size, code) in [(PROOF_BYTES_MAX, 0), (PROOF_BYTES_MAX + 1, 65)] {
        let proof = filled(&proof, size);
        assert_eq!(proof.len(), size);
        assert_eq!(verify_proof(&scratch, &proof, &key).code, code, "{size}");
    }
    // A file without an end is not read to it either.
    let ended = cli(&scratch, &[], &["verify", "--proof", "/dev/zero", "--log-key", &key]);
    assert_eq!(ended.code, 65, "{}", ended.stderr);
    let mut settings = evidence.settings();
    settings[1].1 = ORIGIN;
    std::fs::write(&evidence.checkpoint, filled(&note, NOTE_BYTES_MAX + 1)).expect("written");
    let ended = cli(&scratch, &settings, &["serve"]);
    assert_eq!(ended.code, 65, "{}", ended.stderr);
    assert!(
        ended.stderr.contains("is damaged: it is larger than any checkpoint"),
        "{}",
        ended.stderr
    );
    // One byte that is no UTF-8 is damage too, and no fault of the disk.
    std::fs::write(&evidence.checkpoint, [note.as_bytes(), b"\xff"].concat()).expect("written");
    let ended = cli(&scratch, &settings, &["serve"]);
    assert_eq!(ended.code, 65, "{}", ended.stderr);
    assert!(ended.stderr.contains("is damaged: invalid utf-8"), "{}", ended.stderr);
}

/// Storage that hangs, as a network file system does whose server is gone: here a tracer that holds the
/// service in the sync of the checkpoint file's directory. Requests for evidence wait, few of them;
/// everybody else does not, and the watch that ends a deaf process knows why nobody answers.
#[test]
fn evidence_never_takes_the_connections_that_executions_need() {
    if Command::new("strace").arg("--version").output().is_err() {
        eprintln!("skipped: strace is not here");
        return;
    }
    let scratch = Scratch::new();
    let evidence = Evidence::new(&scratch);
    let server = evidence.start(&scratch);
    echo(&server, "before", "");
    until("the file covers it", || opened(&evidence.text()).head.size == 4);
    until("the next segment is made", || server.metric("openexec_segments_prepared") == 1);
    let lock = std::fs::read_to_string(server.store.join("LOCK")).expect("LOCK");
    let pid = lock.split(' ').next().expect("a pid").to_owned();
    let mut tracer = Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync"])
        .args(["-e", "inject=fsync:delay_enter=600000000", "-p", &pid])
        .spawn()
        .expect("strace");
    until("every thread is traced", || {
        let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("threads");
        threads.flatten().all(|thread| {
            let status = std::fs::read_to_string(thread.path().join("status")).unwrap_or_default();
            !status.contains("TracerPid:\t0\n")
        })
    });
    echo(&server, "after", "");

    let ask = || {
        let mut stream = TcpStream::connect(&server.address).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.write_all(&get("/log/checkpoint")).expect("sent");
        stream
    };
    let asked: Vec<TcpStream> = (0..WITNESS_REQUESTS_MAX + 20).map(|_| ask()).collect();
    // For longer than a process that is deaf is given.
    let began = Instant::now();
    for n in 0.. {
        echo(&server, &format!("n{n}"), "");
        std::thread::sleep(Duration::from_millis(50));
        if began.elapsed() > Duration::from_millis(INNER_DEADLINE_MS + 2_000) {
            break;
        }
    }
    assert_eq!(server.get("/ready").status, 200);
    // The storage is back.
    let stopped = Command::new("kill").arg(tracer.id().to_string()).status();
    assert!(stopped.expect("kill").success());
    tracer.wait().expect("ended");
    let read =
        |stream| read_answer(&mut std::io::BufReader::new(stream)).expect("an answer").status;
    let statuses: Vec<u16> = asked.into_iter().map(read).collect();
    let answered = statuses.iter().filter(|status| **status == 200).count();
    let refused = statuses.iter().filter(|status| **status == 503).count();
    assert_eq!(answered + refused, statuses.len(), "{statuses:?}");
    // Those that waited in the queue, and one that had been taken out of it.
    assert!((WITNESS_REQUESTS_MAX..=WITNESS_REQUESTS_MAX + 1).contains(&answered), "{statuses:?}");
    assert_eq!(server.get("/log/checkpoint").text(), evidence.text());
}
