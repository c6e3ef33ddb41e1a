//! The front: the `tiny_http` loop behind the gate.
//!
//! It answers what needs no store from a snapshot, so that a handler that hangs does not look like
//! a dead process, and makes of everything else a job for the executor. It reads every body whole
//! before it answers: `tiny_http` can deadlock on one it has not read.

mod actions;
pub mod dropped;
mod evidence;
pub mod legacy;
mod mcp;
mod openapi;
mod prepare;
pub mod proposals;
pub mod request;
mod signed;
mod verify;

use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Instant;

use serde_json::json;
use tiny_http::Server;

use crate::core::caller::Who;
use crate::core::hash::{Hash, hex, sha256, unhex};
use crate::core::json::{Value, canonical};
use crate::core::problem::{Code, Problem};
use crate::core::proposal::Policy;
use crate::evidence::service::Task;
use crate::executor::{Question, answer};
use crate::serve::config::runs_as_root;
use crate::serve::gate::Counters;
use crate::serve::queue::{Job, Request};
use crate::serve::records;
use crate::serve::route::{CALLER, Route, exec_id_of, no_such_resource, route_of};
use crate::serve::status::Status;
use crate::sys::answer::{Answer, Reply};
use crate::sys::limits::BODY_BYTES_MAX;
use crate::sys::metrics::{Metrics, head};
use crate::sys::{clock, journal};

pub use evidence::ask as ask_witness;
pub use openapi::document;
pub use prepare::prepare;

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Gives a request its nonce.
const IDEMPOTENCY_KEY: &str = "Idempotency-Key";

/// What the front answers from.
pub struct Front {
    pub policy: Arc<Policy>,
    /// `GET /openapi.json`: [`document`] of the policy.
    pub openapi: String,
    pub status: Arc<Status>,
    pub metrics: Arc<Metrics>,
    pub queue: SyncSender<Request>,
    /// Where the witness takes its tasks; `None` without a log key.
    pub witness: Option<SyncSender<(Reply, Task)>>,
    pub counters: Arc<Counters>,
}

/// What to do with a request: answer it here, or have the executor or the witness answer it.
enum Next {
    Answer(Answer),
    Ask(Job),
    /// The answer is made of what the executor answers.
    Then(Job, Then),
    /// The proof of a receipt.
    Prove(Hash, Who),
    AskWitness(Task),
}

type Then = Box<dyn FnOnce(Answer) -> Answer + Send>;

impl Front {
    /// Takes requests until `tiny_http` gives none any more, which it does not by itself.
    pub fn serve(&self, server: &Server) {
        for request in server.incoming_requests() {
            // A panic here (a handler's `check`, a dependency) costs the one request: dropping it
            // makes tiny_http answer 500.
            let _ = catch_unwind(AssertUnwindSafe(|| self.take(request)));
            self.status.lock().taken = None;
        }
    }

    fn take(&self, mut request: tiny_http::Request) {
        let mut body = Vec::new();
        let limit = BODY_BYTES_MAX as u64 + 1;
        if request.as_reader().take(limit).read_to_end(&mut body).is_err() {
            return;
        }
        let next = self.next(&request, &body);
        drop(body);
        let reply: Reply = Box::new(move |answer| respond(request, &answer));
        match next.unwrap_or_else(|problem| Next::Answer(problem.into())) {
            Next::Answer(answer) => reply(answer),
            Next::Ask(job) => self.ask(job, reply),
            Next::Then(job, then) => {
                let status = self.status.clone();
                let made = move |found| {
                    status.lock().making = Some(Instant::now());
                    let answer = then(found);
                    status.lock().making = None;
                    reply(answer);
                };
                self.ask(job, Box::new(made));
            }
            // The executor says where the receipt is, and the witness makes the proof: it takes longer than
            // executions should wait.
            Next::Prove(id, who) => {
                let witness = self.witness.clone();
                let find = move |e: &_| {
                    let found = records::receipt_at(e, &id, &who);
                    found.map(|position| position.to_string()).into()
                };
                let prove = move |found: Answer| match found.body.parse() {
                    Ok(position) => ask_witness(witness.as_ref(), reply, Task::Proof(position)),
                    Err(_) => reply(found),
                };
                self.ask(Job::Ask(Box::new(find)), Box::new(prove));
            }
            Next::AskWitness(task) => ask_witness(self.witness.as_ref(), reply, task),
        }
    }

    fn next(&self, request: &tiny_http::Request, body: &[u8]) -> Result<Next, Problem> {
        let target = request.url();
        // The gate has judged the head, and asks for nothing that is not there.
        let route = route_of(request.method().as_str(), target).ok_or_else(no_such_resource)?;
        let directory = self.policy.approvals.as_ref().and_then(|policy| policy.directory.as_ref());
        let looks = directory.is_some() && matches!(route, Route::Execute | Route::Mcp);
        self.status.lock().taken = Some((Instant::now(), looks));
        let who = || self.who(request);
        let known = header(request, "If-None-Match").map(str::to_owned);
        Ok(match route {
            Route::Root => {
                said(&json!({"service": "OpenExec", "status": "running", "version": VERSION}))
            }
            Route::Health => self.health(),
            Route::Ready => self.ready(),
            Route::Version => {
                said(&json!({"timestamp": clock::now().to_string(), "version": VERSION}))
            }
            Route::Actions => Next::Answer(actions::answer(&self.policy, &who()?, target)?),
            Route::OpenApi => self.openapi(&who()?),
            Route::Metrics => self.metrics(),
            Route::Mcp => mcp::take(&|name| header(request, name), body, &who()?, &self.policy)
                .unwrap_or_else(Next::Answer),
            Route::Execute => {
                let key = header(request, IDEMPOTENCY_KEY);
                let mut proposal = prepare(body, key, who()?, &self.policy)?;
                proposal.wish.asynchronous = prefers_async(request);
                Next::Ask(Job::Execute(proposal))
            }
            Route::Receipt => {
                let (id, who) = (exec_id(target)?, who()?);
                Next::Ask(Job::Ask(Box::new(move |e| records::receipt_of(e, &id, &who))))
            }
            Route::Proposal => {
                let tag = move |shown| tagged(shown, known.as_deref());
                show(&self.policy, exec_id(target)?, who()?, tag)
            }
            Route::Withdraw => Next::Ask(Job::Withdraw(exec_id(target)?, signed::own(who()?))),
            Route::Approvals => signed::approve(body, &self.policy, who()?)?,
            Route::Rejections => signed::reject(body, &self.policy, who()?)?,
            Route::Proposals => {
                let (state, question) = listed(target, who()?)?;
                let policy = self.policy.clone();
                let list =
                    move |found| tagged(proposals::list(found, state, &policy), known.as_deref());
                Next::Then(Job::Ask(question), Box::new(list))
            }
            Route::VerifyReceipt => verify::next(body, who()?)?,
            Route::Checkpoint | Route::Consistency | Route::Proof => {
                self.evidence(route, target, who()?)?
            }
        })
    }

    /// Who asks, as the gate says where it is asked who calls. Only a fault of ours would not say it.
    fn who(&self, request: &tiny_http::Request) -> Result<Who, Problem> {
        let Some(callers) = &self.policy.callers else { return Ok(None) };
        let number = header(request, CALLER).and_then(|number| number.parse::<usize>().ok());
        let caller = number.and_then(|number| callers.get(number)).cloned();
        let unknown = || Problem::new(Code::Unauthenticated, "The gate names no caller");
        caller.map(Some).ok_or_else(unknown)
    }

    /// The same for all but those to whom not every action is listed.
    fn openapi(&self, who: &Who) -> Next {
        let is_limited = who.as_ref().is_some_and(|caller| caller.actions.is_some());
        let text = if is_limited { document(&self.policy, who) } else { self.openapi.clone() };
        Next::Answer(Answer::json(text))
    }

    /// Puts a job into the executor's queue.
    fn ask(&self, job: Job, reply: Reply) {
        // No refusal: whether this nonce was executed before a crash cannot be told yet.
        if let Some(absent) = self.status.absence() {
            let problem = match &job {
                Job::Execute(proposal) => absent.with("id", hex(&proposal.id)),
                _ => absent,
            };
            return reply(problem.into());
        }
        // Where nobody takes any more, the store has failed and the process is about to end. Not
        // `busy`, which says that nothing was spent: this may be asked again after an unknown outcome.
        enqueue(&self.queue, "executor", reply, job, |job| answer::after_poison(job).into());
    }

    fn health(&self) -> Next {
        let checks = self.policy.approvals.is_some();
        let mut health = json!({
            "status": "healthy",
            "exec_mode": self.policy.mode().name(),
            "signature_verification": if checks { "enabled" } else { "disabled" },
        });
        match &self.policy.allowed_actions {
            Some(names) => {
                health["restriction"] = "restricted".into();
                health["allow_list"] = names.as_slice().into();
            }
            None => {
                health["restriction"] = "open".into();
                health["warning"] = "No execution allow-list configured".into();
            }
        }
        if let Some(callers) = &self.policy.callers {
            health["callers"] = callers.len().into();
        }
        if runs_as_root() {
            health["root_warning"] = "OpenExec runs as root; give it a user of its own".into();
        }
        said(&health)
    }

    fn ready(&self) -> Next {
        match self.status.readiness() {
            Ok(false) => said(&json!({"ready": true})),
            Ok(true) => said(&json!({"ready": true, "frozen": true})),
            Err(reason) => {
                let body = canonical::to_string(&json!({"ready": false, "reason": reason}));
                Next::Answer(Answer { status: 503, ..Answer::json(body) })
            }
        }
    }

    fn metrics(&self) -> Next {
        let running = self.status.running().map(|(_, duration)| duration.as_secs());
        let metrics = &self.metrics;
        metrics.handler_running.set(running.is_some().into());
        metrics.handler_running_seconds.set(running.unwrap_or(0));
        metrics.callers.set(self.policy.callers.as_ref().map_or(0, Vec::len) as u64);
        metrics.log_lines_dropped.set(journal::dropped_lines());
        let mut text = String::new();
        metrics.render(&mut text);
        let reason = self.status.readiness().err().unwrap_or("");
        head(&mut text, "ready", "1 while /ready answers 200; else 0, and why.", "gauge");
        let is_ready = u8::from(reason.is_empty());
        text.push_str(&format!("openexec_ready{{reason=\"{reason}\"}} {is_ready}\n"));
        self.counters.render(&mut text);
        Next::Answer(Answer { content_type: "text/plain; version=0.0.4", ..Answer::json(text) })
    }
}

fn said(body: &Value) -> Next {
    Next::Answer(Answer::json(canonical::to_string(body)))
}

/// Hands on what is asked. The queues are short: what waits there holds a connection of the gate's,
/// and executions need those.
fn enqueue<T>(
    queue: &SyncSender<(Reply, T)>,
    whose: &str,
    reply: Reply,
    asked: T,
    after_end: impl FnOnce(&T) -> Answer,
) {
    match queue.try_send((reply, asked)) {
        Ok(()) => {}
        Err(TrySendError::Full((reply, _))) => {
            reply(Problem::new(Code::Busy, format!("The {whose}'s queue is full")).into());
        }
        Err(TrySendError::Disconnected((reply, asked))) => reply(after_end(&asked)),
    }
}

fn header<'a>(request: &'a tiny_http::Request, name: &'static str) -> Option<&'a str> {
    let found = request.headers().iter().find(|header| header.field.equiv(name));
    found.map(|header| header.value.as_str())
}

/// Which page of which list.
fn listed(target: &str, who: Who) -> Result<(&'static str, Question<Reply>), Problem> {
    let mut query = target.split_once('?').map_or("", |(_, query)| query).split('&');
    let states = || proposals::STATES.join(", ");
    let wrong = || format!("It takes ?state= and &after=CURSOR; state is one of {}", states());
    let wrong = || Problem::new(Code::InvalidRequest, wrong());
    let wanted = query.next().and_then(|first| first.strip_prefix("state="));
    let state = proposals::STATES.into_iter().find(|state| Some(*state) == wanted);
    let state = state.ok_or_else(wrong)?;
    let after = query.next().map(|after| after.strip_prefix("after=").unwrap_or_default());
    if query.next().is_some() {
        return Err(wrong());
    }
    let is_pending = state == proposals::PENDING;
    let from = after.map_or(Some(if is_pending { 0 } else { u32::MAX.into() }), |after| {
        after.parse().ok().filter(|after| is_pending || *after <= u32::MAX.into())
    });
    let from: u64 = from.ok_or_else(wrong)?;
    let question = move |e: &_| match is_pending {
        true => records::list(e, from, &who).into(),
        false => records::list_all(e, from as u32, &who).into(),
    };
    Ok((state, Box::new(question)))
}

/// What became of a call, from the records that the executor finds of it.
fn show(
    policy: &Arc<Policy>,
    id: Hash,
    who: Who,
    then: impl FnOnce(Answer) -> Answer + Send + 'static,
) -> Next {
    let (policy, find) = (policy.clone(), move |e: &_| records::records_of(e, &id, &who).into());
    let show = move |found| then(proposals::show(found, &policy));
    Next::Then(Job::Ask(Box::new(find)), Box::new(show))
}

/// With its hash as a tag; without a body for whoever has the same already (RFC 9110, section 13.1.2).
fn tagged(answer: Answer, known: Option<&str>) -> Answer {
    if answer.status != 200 {
        return answer;
    }
    let tag = format!("\"{}\"", &hex(&sha256(&[answer.body.as_bytes()]))[..32]);
    let same = |one: &str| one == "*" || one.trim_start_matches("W/") == tag;
    let is_known = known.is_some_and(|known| known.split(',').map(str::trim).any(same));
    let headers = vec![("ETag", tag.clone())];
    let (status, body) = if is_known { (304, String::new()) } else { (200, answer.body) };
    Answer { status, body, headers, ..Answer::json(String::new()) }
}

/// RFC 7240: preferences with commas, in any number of lines, each with parameters behind a semicolon.
fn prefers_async(request: &tiny_http::Request) -> bool {
    let lines = request.headers().iter().filter(|header| header.field.equiv("Prefer"));
    lines.flat_map(|header| header.value.as_str().split(',')).any(|preference| {
        let name = preference.split(';').next().unwrap_or_default().trim();
        name.eq_ignore_ascii_case("respond-async")
    })
}

fn exec_id(target: &str) -> Result<Hash, Problem> {
    let detail = "An exec_id is 64 lower-case hex digits";
    unhex(exec_id_of(target)).ok_or_else(|| Problem::new(Code::NotFound, detail))
}

/// Writes the answer in one piece, which wakes the gate once. The gate adds what every answer says.
fn respond(request: tiny_http::Request, answer: &Answer) {
    let Answer { status, content_type, body, replayed, headers, .. } = answer;
    let replayed = if *replayed { "Idempotent-Replayed: true\r\n" } else { "" };
    let more: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let mut text = Vec::with_capacity(body.len() + 256);
    let length = body.len();
    // Writing to a Vec cannot fail, and a gate that went away has nobody to tell.
    let _ = write!(
        text,
        "HTTP/1.1 {status} \r\nContent-Type: {content_type}\r\n{replayed}{more}Content-Length: {length}\r\n\r\n{body}"
    );
    let mut gate = request.into_writer();
    let _ = gate.write_all(&text).and_then(|()| gate.flush());
}
