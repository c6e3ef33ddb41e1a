//! The routes, and whether a request's head may reach one.
//!
//! The gate asks [`admit`] before it reads a body; only what it admits reaches the front. Order: `Host`,
//! `Origin`, path, method, token, right, media type.

use crate::core::caller::{APPROVE, PROPOSE, READ};
use crate::core::problem::{Code, Problem};
use crate::serve::callers::Tokens;
use crate::sys::visible;

/// A host's name has at most 253 characters (RFC 1035, section 2.3.4); a port comes behind it.
const HOST_SHOWN_CHARACTERS_MAX: usize = 260;

/// What answers an admitted request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    Root,
    Health,
    Ready,
    Version,
    Execute,
    Approvals,
    Rejections,
    VerifyReceipt,
    Receipt,
    Proposal,
    Withdraw,
    Proposals,
    Proof,
    Checkpoint,
    Consistency,
    Actions,
    OpenApi,
    Mcp,
    Metrics,
}

/// A path and a method that it takes. 404, 405 and `Allow` follow.
pub struct Row {
    pub path: &'static str,
    /// `GET` takes HEAD as well.
    pub method: &'static str,
    route: Route,
    /// Where it is asked who calls: one of these rights, or with none listed any token; `None` for everybody. What of the
    /// store a caller may see is judged where it is found.
    pub needs: Option<&'static [&'static str]>,
    /// It is there only where it is asked who calls.
    pub is_of_callers: bool,
}

const fn row(
    path: &'static str,
    method: &'static str,
    route: Route,
    needs: Option<&'static [&'static str]>,
) -> Row {
    Row { path, method, route, needs, is_of_callers: false }
}

const fn of_callers(row: Row) -> Row {
    Row { is_of_callers: true, ..row }
}

const NOBODY: Option<&[&str]> = None;
const ANYBODY: Option<&[&str]> = Some(&[]);
const PROPOSER: Option<&[&str]> = Some(&[PROPOSE]);
const APPROVER: Option<&[&str]> = Some(&[APPROVE]);

const SEES_ALL: Option<&[&str]> = Some(&[APPROVE, READ]);

/// By which the gate tells the front who calls: a number among the callers. The gate writes every head anew, so that no
/// client's own goes through.
pub const CALLER: &str = "OpenExec-Caller";

/// What stands for a part of a path that is not empty; [`exec_id_of`] gives it, unchecked.
const EXEC_ID: &str = "{exec_id}";

/// The first path that fits is the one.
pub const ROUTES: [Row; 19] = [
    row("/", "GET", Route::Root, NOBODY),
    row("/health", "GET", Route::Health, NOBODY),
    row("/ready", "GET", Route::Ready, NOBODY),
    row("/version", "GET", Route::Version, NOBODY),
    row("/execute", "POST", Route::Execute, PROPOSER),
    row("/approvals", "POST", Route::Approvals, APPROVER),
    row("/rejections", "POST", Route::Rejections, APPROVER),
    row("/receipts/verify", "POST", Route::VerifyReceipt, ANYBODY),
    row("/receipts/{exec_id}", "GET", Route::Receipt, ANYBODY),
    of_callers(row("/proposals", "GET", Route::Proposals, SEES_ALL)),
    row("/proposals/{exec_id}", "GET", Route::Proposal, ANYBODY),
    of_callers(row("/proposals/{exec_id}", "DELETE", Route::Withdraw, PROPOSER)),
    row("/receipts/{exec_id}/proof", "GET", Route::Proof, ANYBODY),
    row("/log/checkpoint", "GET", Route::Checkpoint, ANYBODY),
    row("/log/consistency", "GET", Route::Consistency, ANYBODY),
    row("/actions", "GET", Route::Actions, ANYBODY),
    row("/openapi.json", "GET", Route::OpenApi, ANYBODY),
    row("/mcp", "POST", Route::Mcp, PROPOSER),
    row("/metrics", "GET", Route::Metrics, ANYBODY),
];

impl Row {
    /// Part for part, so that a slash is never inside one.
    fn fits(&self, path: &str) -> bool {
        let fits = |(row, given): (&str, &str)| row == given || row == EXEC_ID && !given.is_empty();
        self.path.split('/').zip(path.split('/')).all(fits)
            && self.path.split('/').count() == path.split('/').count()
    }

    fn allow(&self) -> &'static str {
        if self.method == "GET" { "GET, HEAD" } else { self.method }
    }
}

impl Route {
    /// Whether the front answers it by itself, at once: it never waits for the executor or the disk.
    pub fn is_answered_at_once(self) -> bool {
        use Route::{Actions, Health, Metrics, OpenApi, Ready, Root, Version};
        matches!(self, Root | Health | Ready | Version | Actions | OpenApi | Metrics)
    }
}

/// What of a request's head decides about it. `host` is `None` only where HTTP/1.0 omits it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Head<'a> {
    pub method: &'a str,
    /// The origin-form target, with its query.
    pub target: &'a str,
    pub host: Option<&'a str>,
    pub has_origin: bool,
    pub content_type: Option<&'a str>,
    pub authorization: Option<&'a str>,
}

/// Which route the head may reach, and the number of the caller that its token names; otherwise the problem to answer.
/// For 405 the `Allow` value is [`allow_of`] the target. Without `tokens` nobody is asked who calls.
pub fn admit(
    head: &Head,
    allowed_hosts: &[String],
    tokens: Option<&Tokens>,
) -> Result<(Route, Option<usize>), Problem> {
    if let Some(host) = head.host
        && !host_is_allowed(host, allowed_hosts)
    {
        let seen: String = host.chars().take(HOST_SHOWN_CHARACTERS_MAX).collect();
        let detail = format!(
            "Host {} is not localhost, an IP literal or a name in OPENEXEC_ALLOWED_HOSTS",
            visible::quoted(&seen)
        );
        return Err(Problem::new(Code::HostNotAllowed, detail));
    }
    if head.has_origin {
        return Err(Problem::new(
            Code::BrowserOrigin,
            "Requests with an Origin header are refused: browsers must not reach this service",
        ));
    }
    let method = if head.method == "HEAD" { "GET" } else { head.method };
    let mut rows = rows(head.target, tokens.is_some());
    let Some(row) = rows.find(|row| row.method == method) else {
        let others = |allow| Problem::new(Code::MethodNotAllowed, format!("Allowed here: {allow}"));
        return Err(allow_of(head.target, tokens.is_some()).map_or_else(no_such_resource, others));
    };
    let caller = tokens.zip(row.needs).map(|(tokens, needs)| authenticate(head, tokens, needs));
    let caller = caller.transpose()?;
    if method == "POST" && !head.content_type.is_some_and(is_json) {
        return Err(Problem::new(
            Code::UnsupportedMediaType,
            "POST needs Content-Type: application/json",
        ));
    }
    Ok((row.route, caller))
}

fn authenticate(head: &Head, tokens: &Tokens, needs: &[&str]) -> Result<usize, Problem> {
    let Some(authorization) = head.authorization else {
        let detail = "This needs a caller's token: Authorization: Bearer TOKEN";
        return Err(Problem::new(Code::Unauthenticated, detail));
    };
    let Some((number, caller)) = tokens.find(authorization) else {
        let detail = "Authorization has no bearer token of a caller of this service";
        return Err(Problem::new(Code::Unauthenticated, detail));
    };
    if needs.is_empty() || needs.iter().any(|right| caller.may.contains(*right)) {
        return Ok(*number);
    }
    let detail =
        format!("This needs the right {}, which this caller does not have", needs.join(" or "));
    Err(Problem::new(Code::CallerNotAllowed, detail))
}

pub fn no_such_resource() -> Problem {
    Problem::new(Code::NotFound, "No such resource")
}

/// What answers a head that [`admit`] let pass.
pub fn route_of(method: &str, target: &str) -> Option<Route> {
    rows(target, true).find(|row| row.method == method).map(|row| row.route)
}

/// The `Allow` header of a known path.
pub fn allow_of(target: &str, asks_who_calls: bool) -> Option<String> {
    let methods: Vec<_> = rows(target, asks_who_calls).map(Row::allow).collect();
    (!methods.is_empty()).then(|| methods.join(", "))
}

/// What a target has in the place of `{exec_id}`.
pub fn exec_id_of(target: &str) -> &str {
    path_of(target).split('/').nth(2).unwrap_or_default()
}

/// The target without its query.
pub fn path_of(target: &str) -> &str {
    target.split('?').next().unwrap_or(target)
}

/// One for each method of the path.
fn rows(target: &str, asks_who_calls: bool) -> impl Iterator<Item = &'static Row> {
    // As clients write it that take the address for a directory.
    let path = path_of(target);
    let path = if path == "/mcp/" { "/mcp" } else { path };
    let path = ROUTES.iter().find(|row| row.fits(path)).map(|row| row.path);
    let is_there = move |row: &&Row| asks_who_calls || !row.is_of_callers;
    ROUTES.iter().filter(move |row| Some(row.path) == path).filter(is_there)
}

/// `application/json`, parameters ignored (RFC 9110, section 8.3.1: case-insensitive).
fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or("");
    essence.trim_matches([' ', '\t']).eq_ignore_ascii_case("application/json")
}

/// `localhost`, an IP literal, or an allowed name; with or without a port (RFC 9110, section 7.2).
fn host_is_allowed(host: &str, allowed_hosts: &[String]) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !host.ends_with(']') => (name, Some(port)),
        _ => (host, None),
    };
    if !port.is_none_or(is_port) {
        return false;
    }
    if let Some(ip6) = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return ip6.parse::<std::net::Ipv6Addr>().is_ok();
    }
    // RFC 1034, section 3.1: the dot is the root, and the name the same without it.
    fn rooted(name: &str) -> &str {
        name.strip_suffix('.').unwrap_or(name)
    }
    let name = rooted(name);
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<std::net::Ipv4Addr>().is_ok()
        || allowed_hosts.iter().any(|allowed| rooted(allowed).eq_ignore_ascii_case(name))
}

fn is_port(text: &str) -> bool {
    !text.is_empty() && text.len() <= 5 && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head<'a>(method: &'a str, target: &'a str) -> Head<'a> {
        Head {
            method,
            target,
            host: Some("localhost"),
            has_origin: false,
            content_type: None,
            authorization: None,
        }
    }

    fn code(result: Result<(Route, Option<usize>), Problem>) -> &'static str {
        result.err().map_or("admitted", |problem| problem.code.name())
    }

    #[test]
    fn the_checks_come_in_their_order() {
        let all_wrong = Head { host: Some("evil.example"), has_origin: true, ..head("PUT", "/x") };
        assert_eq!(code(admit(&all_wrong, &[], None)), "host_not_allowed");
        let named = ["evil.example".to_owned()];
        assert_eq!(code(admit(&all_wrong, &named, None)), "browser_origin");
        assert_eq!(code(admit(&head("PUT", "/x"), &[], None)), "not_found");
        assert_eq!(code(admit(&head("PUT", "/execute"), &[], None)), "method_not_allowed");
        assert_eq!(code(admit(&head("POST", "/execute"), &[], None)), "unsupported_media_type");
        let json = Head {
            content_type: Some("Application/JSON; charset=utf-8"),
            ..head("POST", "/execute")
        };
        assert_eq!(admit(&json, &[], None), Ok((Route::Execute, None)));
    }

    #[test]
    fn a_host_that_is_refused_is_named_and_cannot_write_on_a_terminal() {
        let detail = |host: &str| {
            let head = Head { host: Some(host), ..head("GET", "/") };
            admit(&head, &[], None).map_err(|problem| problem.detail).expect_err("refused")
        };
        let rest = "is not localhost, an IP literal or a name in OPENEXEC_ALLOWED_HOSTS";
        assert_eq!(detail("evil.example:80"), format!("Host \"evil.example:80\" {rest}"));
        assert_eq!(detail("a\"b\tc\\"), format!("Host \"a\\\"b\\tc\\\\\" {rest}"));
        assert_eq!(detail(""), format!("Host \"\" {rest}"));
        assert!(detail(&"x".repeat(16_000)).len() < 400);
    }

    #[test]
    fn head_works_wherever_get_does() {
        assert_eq!(admit(&head("HEAD", "/health?x=1"), &[], None), Ok((Route::Health, None)));
        assert_eq!(admit(&head("GET", "/receipts/ab"), &[], None), Ok((Route::Receipt, None)));
        assert_eq!(code(admit(&head("HEAD", "/execute"), &[], None)), "method_not_allowed");
        assert_eq!(code(admit(&head("GET", "/receipts/verify"), &[], None)), "method_not_allowed");
        let json = Head { content_type: Some("application/json"), ..head("POST", "/mcp/?x") };
        assert_eq!(admit(&json, &[], None), Ok((Route::Mcp, None)));
        for none in ["/mcp//", "//mcp", "/mcp/x", "/MCP", "/health/", "/execute/"] {
            assert_eq!(code(admit(&head("GET", none), &[], None)), "not_found", "{none}");
        }
        assert_eq!(code(admit(&head("GET", "/receipts/"), &[], None)), "not_found");
        assert_eq!(code(admit(&head("GET", "/receipts/a/b"), &[], None)), "not_found");
        assert_eq!(
            admit(&head("HEAD", "/receipts/ab/proof?"), &[], None),
            Ok((Route::Proof, None))
        );
        assert_eq!(
            code(admit(&head("POST", "/receipts/ab/proof"), &[], None)),
            "method_not_allowed"
        );
        for none in ["/receipts//proof", "/receipts/a/b/proof", "/receipts/ab/proof/", "/log"] {
            assert_eq!(code(admit(&head("GET", none), &[], None)), "not_found", "{none}");
        }
    }

    #[test]
    fn a_host_is_a_literal_or_a_known_name() {
        let allowed = ["openexec.internal".to_owned(), "Other.internal.".to_owned()];
        for good in [
            "localhost",
            "LOCALHOST:1",
            "127.0.0.1:5000",
            "10.1.2.3",
            "[::1]",
            "[::1]:80",
            "OpenExec.internal:65535",
            "localhost.",
            "localhost.:5000",
            "127.0.0.1.",
            "openexec.internal.",
            "other.internal",
            "other.internal.:1",
        ] {
            assert!(host_is_allowed(good, &allowed), "{good}");
        }
        for bad in [
            "",
            ":",
            ":80",
            "localhost:",
            "localhost:x",
            "localhost:123456",
            "localhost.evil.example",
            "evil.example",
            "127.0.0.1.evil.example",
            "[::1",
            "[::1]x",
            "[localhost]",
            "::1",
            "127.1",
            "0x7f.0.0.1",
            "localhost@evil.example",
            "localhost ",
            ".",
            ".:80",
            "localhost..",
            ".localhost",
            "openexec.internal..",
            "evil.example.",
            "127.0.0.1..",
            "[::1].",
        ] {
            assert!(!host_is_allowed(bad, &allowed), "{bad}");
        }
    }
}
