//! Who may ask the page's process, and what: judged by the head of a request alone.
//!
//! A browser on this machine also shows pages of others, and other programs and people may be on it. So a request counts only
//! with the token, which is in the address and nowhere else, for the `Host` that was printed (a name that somebody
//! points at 127.0.0.1 is another), and from no other page: a change needs the `Origin` that browsers send with one, and it
//! must be ours. Anything else is [`None`], and all of that is answered alike.

use openexec::core::hash::{Hash, unhex};

/// What of a request's head is looked at.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Head {
    pub method: String,
    /// Path and query, as they came.
    pub target: String,
    pub host: Option<String>,
    pub origin: Option<String>,
    /// `Sec-Fetch-Site`: which kind of page asks, as browsers say.
    pub site: Option<String>,
    pub content_type: Option<String>,
    /// Of the body, in bytes.
    pub length: usize,
}

/// What may be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// The address as it was printed, without the slash that the page's own names need.
    Enter,
    /// A file of the page.
    File(&'static File),
    /// Which proposals wait.
    List,
    /// One proposal, to be looked at.
    Show(Hash),
    /// Whether it is still as it was shown.
    Watch(Hash),
    /// What was decided here, and what became of it.
    Decided,
    Csv,
    Approve,
    Reject,
}

#[derive(Debug, PartialEq, Eq)]
pub struct File {
    name: &'static str,
    pub kind: &'static str,
    pub text: &'static str,
}

const FILES: [File; 4] = [
    File { name: "", kind: "text/html; charset=utf-8", text: include_str!("browser/page.html") },
    File {
        name: "page.css",
        kind: "text/css; charset=utf-8",
        text: include_str!("browser/page.css"),
    },
    File {
        name: "page.js",
        kind: "text/javascript; charset=utf-8",
        text: include_str!("browser/page.js"),
    },
    File { name: "icon.svg", kind: "image/svg+xml", text: include_str!("browser/icon.svg") },
];

pub struct Door {
    /// `127.0.0.1:PORT`.
    host: String,
    /// `http://127.0.0.1:PORT`.
    origin: String,
    token: String,
}

impl Door {
    pub fn new(host: String, token: String) -> Self {
        Door { origin: format!("http://{host}"), host, token }
    }

    /// What the person opens.
    pub fn address(&self) -> String {
        format!("{}/{}", self.origin, self.token)
    }

    /// Where the page's own names begin.
    pub fn inside(&self) -> String {
        format!("/{}/", self.token)
    }

    /// What is asked; `None` where it is nothing, or not for whoever asks.
    #[must_use]
    pub fn judge(&self, head: &Head) -> Option<Ask> {
        let path = head.target.strip_prefix('/')?;
        let (token, path) = path.split_once('/').map_or((path, None), |(t, p)| (t, Some(p)));
        if !is_same(token, &self.token) || head.host.as_ref() != Some(&self.host) {
            return None;
        }
        let is_ours = head.origin.as_ref() == Some(&self.origin);
        let asked = match (head.method.as_str(), path) {
            ("GET", None) => Ask::Enter,
            ("GET", Some(path)) => reading(path)?,
            ("POST", Some("approve")) => Ask::Approve,
            ("POST", Some("reject")) => Ask::Reject,
            _ => return None,
        };
        let is_change = matches!(asked, Ask::Approve | Ask::Reject);
        // Somebody who opens the address comes from wherever they clicked on it.
        let is_entry = matches!(asked, Ask::Enter | Ask::File(FILE) if head.origin.is_none());
        let is_from_here = match head.site.as_deref() {
            None | Some("same-origin") => true,
            Some("none") => !is_change,
            Some(_) => is_entry,
        };
        let is_json = head.content_type.as_deref() == Some("application/json");
        let counts = match is_change {
            true => is_ours && is_json,
            false => (is_ours || head.origin.is_none()) && head.length == 0,
        };
        (counts && is_from_here).then_some(asked)
    }
}

/// The page itself.
const FILE: &File = &FILES[0];

fn reading(path: &str) -> Option<Ask> {
    if let Some(file) = FILES.iter().find(|file| file.name == path) {
        return Some(Ask::File(file));
    }
    Some(match path.split_once('/') {
        None if path == "list" => Ask::List,
        None if path == "decided" => Ask::Decided,
        None if path == "decided.csv" => Ask::Csv,
        Some(("proposal", id)) => Ask::Show(unhex(id)?),
        Some(("watch", id)) => Ask::Watch(unhex(id)?),
        _ => return None,
    })
}

/// Takes as long wherever they differ.
fn is_same(given: &str, token: &str) -> bool {
    let differ = |(a, b): (u8, u8)| a ^ b;
    let bits = given.bytes().zip(token.bytes()).map(differ).fold(0, |all, bits| all | bits);
    given.len() == token.len() && std::hint::black_box(bits) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "127.0.0.1:4711";

    fn door() -> Door {
        Door::new(HOST.to_owned(), "7".repeat(64))
    }

    fn get(path: &str) -> Head {
        let target = format!("/{}/{path}", "7".repeat(64));
        Head { method: "GET".to_owned(), target, host: Some(HOST.to_owned()), ..Head::default() }
    }

    fn post(path: &str) -> Head {
        Head {
            method: "POST".to_owned(),
            origin: Some(format!("http://{HOST}")),
            content_type: Some("application/json".to_owned()),
            length: 2,
            ..get(path)
        }
    }

    #[test]
    fn what_the_page_itself_asks_is_answered() {
        let id = "ab".repeat(32);
        for (path, asked) in [
            ("", Ask::File(FILE)),
            ("page.js", Ask::File(&FILES[2])),
            ("list", Ask::List),
            ("decided", Ask::Decided),
            ("decided.csv", Ask::Csv),
            (&format!("proposal/{id}"), Ask::Show([0xab; 32])),
            (&format!("watch/{id}"), Ask::Watch([0xab; 32])),
        ] {
            assert_eq!(door().judge(&get(path)), Some(asked), "{path}");
            let site = Some("same-origin".to_owned());
            assert_eq!(door().judge(&Head { site, ..get(path) }), Some(asked), "{path}");
        }
        assert_eq!(door().judge(&post("approve")), Some(Ask::Approve));
        assert_eq!(door().judge(&post("reject")), Some(Ask::Reject));
        let target = format!("/{}", "7".repeat(64));
        for site in ["none", "cross-site"] {
            let site = Some(site.to_owned());
            let entered = Head { target: target.clone(), site, ..get("") };
            assert_eq!(door().judge(&entered), Some(Ask::Enter));
        }
    }

    #[test]
    fn what_differs_in_anything_is_answered_as_if_nothing_were_there() {
        let text = |text: &str| Some(text.to_owned());
        let some_host = |host: &str| Head { host: text(host), ..post("approve") };
        let some_origin = |origin: &str| Head { origin: text(origin), ..post("approve") };
        let path = |target: &str| Head { target: target.to_owned(), ..get("") };
        let token = "7".repeat(64);
        let mut wrong = vec![
            Head { host: None, ..get("") },
            Head { origin: None, ..post("approve") },
            Head { content_type: None, ..post("approve") },
            Head { content_type: text("text/plain"), ..post("approve") },
            Head { content_type: text("application/json; charset=utf-8"), ..post("approve") },
            Head { length: 1, ..get("list") },
            Head { origin: text("http://evil.example"), ..get("list") },
            Head { origin: text("null"), ..get("list") },
            Head { origin: text("http://evil.example"), ..get("") },
            Head { site: text("cross-site"), ..get("list") },
            Head { site: text("same-site"), ..get("page.js") },
            Head { site: text("cross-site"), ..post("approve") },
            Head { site: text("none"), ..post("approve") },
            Head { method: "PUT".to_owned(), ..post("approve") },
            Head { method: "GET".to_owned(), ..post("approve") },
            Head { method: "get".to_owned(), ..get("") },
            Head { method: "HEAD".to_owned(), ..get("") },
            Head { method: "OPTIONS".to_owned(), ..post("approve") },
            Head { method: "POST".to_owned(), ..post("list") },
            post(""),
            post("approve/"),
            path("/"),
            path(""),
            path("*"),
            path("/favicon.ico"),
            path("//"),
            path(&format!("//{token}/")),
            path(&format!("/{}/", "7".repeat(63))),
            path(&format!("/{}/", "7".repeat(65))),
            path(&format!("/{}8/", "7".repeat(63))),
            path(&format!("/8{}/", "7".repeat(63))),
            path(&format!("/{token}?x")),
            path(&format!("/{token}/?x")),
            path(&format!("/{token}/..")),
            path(&format!("/{token}/list/")),
            path(&format!("/{token}/%6cist")),
            path(&format!("http://{HOST}/{token}/")),
            get("proposal"),
            get("proposal/"),
            get(&format!("proposal/{}", "a".repeat(63))),
            get(&format!("proposal/{}", "A".repeat(64))),
            get(&format!("proposal/{}/", "a".repeat(64))),
        ];
        for host in [
            "",
            "127.0.0.1",
            "127.0.0.1:4712",
            "127.0.0.1:04711",
            "127.1:4711",
            "localhost:4711",
            "evil.example:4711",
            "127.0.0.1:4711.",
            "127.0.0.1:4711, 127.0.0.1:4711",
            "[::1]:4711",
        ] {
            wrong.push(some_host(host));
        }
        for origin in [
            "",
            "null",
            "http://127.0.0.1",
            "http://127.0.0.1:4712",
            "https://127.0.0.1:4711",
            "http://localhost:4711",
            "http://127.0.0.1:4711/",
            "http://127.0.0.1:4711.evil.example",
            "http://evil.example",
            "HTTP://127.0.0.1:4711",
        ] {
            wrong.push(some_origin(origin));
        }
        for head in wrong {
            assert_eq!(door().judge(&head), None, "{head:?}");
        }
    }
}
