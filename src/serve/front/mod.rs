//! The front: the `tiny_http` loop behind the gate.
//!
//! It answers what needs no store from a snapshot, so that a handler that hangs does not look like
//! a dead process, and makes of everything else a job for the executor. It reads every body whole
//! before it answers: `tiny_http` can deadlock on one it has not read.

mod actions;
mod dropped;
mod evidence;
mod mcp;
mod openapi;
mod prepare;
pub mod request;

use std::io::{Cursor, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};

use tiny_http::{Header, Response, Server, StatusCode};

use crate::core::answer::{Answer, Reply};
use crate::core::hash::{hex, unhex};
use crate::core::json::{Value, canonical, strict};
use crate::core::limits::{BODY_BYTES_MAX, RECORD_DEPTH_MAX, RETRY_AFTER_SECONDS};
use crate::core::problem::{Code, Problem};
use crate::core::proposal::{Job, Policy, Proposal};
use crate::core::receipt::receipt;
use crate::core::time::Time;
use crate::evidence::service::Task;
use crate::executor::answer;
use crate::executor::answer::after_poison;
use crate::executor::service::Request;
use crate::executor::status::{Readiness, Status};
use crate::serve::config::runs_as_root;
use crate::serve::http::route::{Head, Route, admit, allow_of};
use crate::sys::metrics::Metrics;

pub use evidence::ask as ask_witness;
pub use openapi::document;
pub use prepare::prepare;

/// What the front answers from.
pub struct Front {
    pub policy: Arc<Policy>,
    /// `GET /openapi.json`: [`document`] of the policy.
    pub openapi: String,
    pub allowed_hosts: Vec<String>,
    pub status: Arc<Status>,
    pub metrics: Arc<Metrics>,
    pub queue: SyncSender<Request>,
    /// Where the witness takes its tasks; `None` without a log key.
    pub witness: Option<SyncSender<(Reply, Task)>>,
    /// Appends the gate's own metrics.
    pub gate_metrics: Box<dyn Fn(&mut String) + Send>,
}

/// What to do with a request: answer it here, or have the executor (for an MCP call in an envelope)
/// or the witness answer it.
enum Next {
    Answer(Answer),
    Ask(Job),
    Call(Box<mcp::Call>, Box<Proposal>),
    AskWitness(Task),
}

impl Front {
    /// Takes requests until `tiny_http` gives none any more, which it does not by itself.
    pub fn serve(&self, server: &Server) {
        for request in server.incoming_requests() {
            // A panic here (a handler's `check`, a dependency) costs the one request: dropping it
            // makes tiny_http answer 500.
            let _ = catch_unwind(AssertUnwindSafe(|| self.take(request)));
            self.status.set_looking(false);
        }
    }

    fn take(&self, mut request: tiny_http::Request) {
        let mut body = Vec::new();
        let limit = BODY_BYTES_MAX as u64 + 1;
        if request.as_reader().take(limit).read_to_end(&mut body).is_err() {
            return;
        }
        let next = match self.route(&request) {
            Ok(route) => {
                self.status.set_looking(self.looks_for_approvals(&route));
                self.next(route, &request, &body)
            }
            Err(problem) => Next::Answer(problem.into()),
        };
        drop(body);
        match next {
            Next::Answer(answer) => respond(request, &answer),
            Next::Ask(job) => self.ask(job, Box::new(move |answer| respond(request, &answer))),
            Next::AskWitness(task) => {
                let reply = Box::new(move |answer| respond(request, &answer));
                evidence::ask(self.witness.as_ref(), reply, task);
            }
            Next::Call(call, proposal) => {
                let reply: Reply = Box::new(move |answer| respond(request, &call.answer(&answer)));
                match self.propose(proposal) {
                    Ok(job) => self.ask(job, reply),
                    Err(answer) => reply(answer),
                }
            }
        }
    }

    fn looks_for_approvals(&self, route: &Route) -> bool {
        let directory = self.policy.approvals.as_ref().and_then(|policy| policy.directory.as_ref());
        directory.is_some() && matches!(route, Route::Execute | Route::Mcp)
    }

    fn ask(&self, job: Job, reply: Reply) {
        match self.queue.try_send((reply, job)) {
            Ok(()) => {}
            Err(TrySendError::Full((reply, _))) => {
                reply(Problem::new(Code::Busy, "The executor's queue is full").into());
            }
            // The store has failed and the process is about to end. Not `busy`, which says that
            // nothing was spent: this may be asked again after an unknown outcome.
            Err(TrySendError::Disconnected((reply, job))) => reply(after_poison(&job)),
        }
    }

    /// An attempt for the executor, or what it is answered while there is no store to decide it. No
    /// refusal: whether this nonce was executed before a crash cannot be told yet.
    fn propose(&self, proposal: Box<Proposal>) -> Result<Job, Answer> {
        if self.status.is_open() {
            Ok(Job::Execute(proposal))
        } else {
            Err(opening().with("id", hex(&proposal.id)).into())
        }
    }

    fn route(&self, request: &tiny_http::Request) -> Result<Route, Problem> {
        let header = |name| header(request, name);
        let method = request.method().to_string();
        let head = Head {
            method: &method,
            target: request.url(),
            host: header("Host"),
            has_origin: header("Origin").is_some(),
            content_type: header("Content-Type"),
        };
        admit(&head, &self.allowed_hosts)
    }

    fn next(&self, route: Route, request: &tiny_http::Request, body: &[u8]) -> Next {
        Next::Answer(match route {
            Route::Root => Answer::json(format!(
                "{{\"service\":\"OpenExec\",\"status\":\"running\",\"version\":\"{}\"}}",
                env!("CARGO_PKG_VERSION")
            )),
            Route::Health => self.health(),
            Route::Ready => self.ready(),
            Route::Version => Answer::json(format!(
                "{{\"timestamp\":\"{}\",\"version\":\"{}\"}}",
                Time::now(),
                env!("CARGO_PKG_VERSION")
            )),
            Route::Actions => match actions::answer(&self.policy, request.url()) {
                Ok(answer) => answer,
                Err(problem) => problem.into(),
            },
            Route::OpenApi => Answer::json(self.openapi.clone()),
            Route::Mcp => {
                let headers = mcp::Headers {
                    version: header(request, "MCP-Protocol-Version"),
                    method: header(request, "Mcp-Method"),
                    name: header(request, "Mcp-Name"),
                };
                return match mcp::take(&headers, body, &self.policy) {
                    mcp::Next::Answer(answer) => Next::Answer(answer),
                    mcp::Next::Call(call, proposal) => Next::Call(call, proposal),
                };
            }
            Route::Metrics => self.metrics(),
            Route::Checkpoint | Route::Consistency | Route::Proof(_) => {
                match self.evidence(&route, request.url()) {
                    Ok(next) => return next,
                    Err(problem) => problem.into(),
                }
            }
            Route::Execute => match prepare(body, &self.policy) {
                Ok(proposal) => match self.propose(proposal) {
                    Ok(job) => return Next::Ask(job),
                    Err(answer) => answer,
                },
                Err(problem) => problem.into(),
            },
            Route::Receipt(id) => match unhex(&id) {
                Some(_) if !self.status.is_open() => opening().into(),
                Some(id) => return Next::Ask(Job::Receipt(id)),
                None => no_exec_id().into(),
            },
            Route::VerifyReceipt => match verify(body) {
                Ok(Some(_)) if !self.status.is_open() => opening().into(),
                Ok(Some(job)) => return Next::Ask(job),
                Ok(None) => Answer::json("{\"recorded\":false,\"valid\":false}".to_owned()),
                Err(problem) => problem.into(),
            },
        })
    }

    fn health(&self) -> Answer {
        let checks = self.policy.approvals.is_some();
        let mut health = serde_json::json!({
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
        if runs_as_root() {
            health["root_warning"] = "OpenExec runs as root; give it a user of its own".into();
        }
        Answer::json(canonical::to_string(&health))
    }

    fn ready(&self) -> Answer {
        match self.status.readiness() {
            Readiness::Ready { frozen: false } => Answer::json("{\"ready\":true}".to_owned()),
            Readiness::Ready { frozen: true } => {
                Answer::json("{\"frozen\":true,\"ready\":true}".to_owned())
            }
            Readiness::NotReady { reason } => {
                let body = format!("{{\"ready\":false,\"reason\":\"{reason}\"}}");
                Answer { status: 503, ..Answer::json(body) }
            }
        }
    }

    fn metrics(&self) -> Answer {
        let mut text = String::new();
        self.metrics.render(&mut text);
        let (running, for_seconds) = match self.status.running() {
            Some((_, duration)) => (1, duration.as_secs()),
            None => (0, 0),
        };
        crate::sys::metrics::gauge(
            &mut text,
            "handler_running",
            "1 while a handler runs.",
            running,
        );
        let help = "For how long the handler that runs now has run.";
        crate::sys::metrics::gauge(&mut text, "handler_running_seconds", help, for_seconds);
        (self.gate_metrics)(&mut text);
        Answer { content_type: "text/plain; version=0.0.4", ..Answer::json(text) }
    }
}

fn header<'a>(request: &'a tiny_http::Request, name: &'static str) -> Option<&'a str> {
    let found = request.headers().iter().find(|header| header.field.equiv(name));
    found.map(|header| header.value.as_str())
}

fn no_exec_id() -> Problem {
    Problem::new(Code::NotFound, "An exec_id is 64 lower-case hex digits")
}

fn opening() -> Problem {
    answer::unavailable("The store is being opened")
}

/// `POST /receipts/verify`: the job that tells whether a valid receipt is recorded; `None` when its
/// hash does not hold.
fn verify(body: &[u8]) -> Result<Option<Job>, Problem> {
    let invalid = |detail: &str| Problem::new(Code::InvalidRequest, detail);
    let body = match strict::read(body, RECORD_DEPTH_MAX) {
        Ok(Value::Object(body)) => body,
        Ok(_) => return Err(invalid("The body must be a JSON object")),
        Err(error) => return Err(request::json_problem(&error)),
    };
    let text = |name: &str| match body.get(name) {
        Some(Value::String(text)) => Ok(text.as_str()),
        _ => Err(invalid(&format!("{name} must be a string"))),
    };
    let (id, given) = (text("exec_id")?, text("receipt")?);
    let result = match body.get("result") {
        Some(Value::String(text)) => match strict::read(text.as_bytes(), RECORD_DEPTH_MAX) {
            Ok(value) => Some(canonical::to_string(&value)),
            Err(_) => None,
        },
        Some(object @ Value::Object(_)) => Some(canonical::to_string(object)),
        _ => return Err(invalid("result must be an object or a string of JSON text")),
    };
    if let Some(name) =
        body.keys().find(|n| !["exec_id", "receipt", "result"].contains(&n.as_str()))
    {
        let detail = format!("Unknown field: {}", request::shown(name));
        return Err(Problem::new(Code::UnknownField, detail));
    }
    let Some(result) = result else { return Ok(None) };
    let expected = receipt(id, &result);
    if hex(&expected) != given {
        return Ok(None);
    }
    // An id that is no hash can have a valid receipt, but never a recorded one.
    let id = unhex(id).unwrap_or_default();
    Ok(Some(Job::IsRecorded { id, receipt: expected }))
}

/// Hands the answer to `tiny_http`, whole and never chunked.
fn respond(request: tiny_http::Request, answer: &Answer) {
    let allow = allow_of(request.url()).filter(|_| answer.status == 405);
    let retry_after = RETRY_AFTER_SECONDS.to_string();
    let mut headers = vec![("Content-Type", answer.content_type), ("Server", "openexec")];
    headers.extend(allow.map(|allow| ("Allow", allow)));
    if answer.status == 503 {
        headers.push(("Retry-After", &retry_after));
    }
    if answer.replayed {
        headers.push(("Idempotent-Replayed", "true"));
    }
    let headers = headers
        .into_iter()
        .filter_map(|(name, value)| Header::from_bytes(name.as_bytes(), value.as_bytes()).ok())
        .collect();
    let body = answer.body.as_bytes();
    let response = Response::new(
        StatusCode(answer.status),
        headers,
        Cursor::new(body),
        Some(body.len()),
        None,
    );
    // A gate that went away has nobody to tell.
    let _ = request.respond(response.with_chunked_threshold(usize::MAX));
}
