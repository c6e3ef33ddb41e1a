//! The envelope of a message that the strict reader refused: which request it was, so that the
//! refusal finds its way back to it. An older client takes an answer without the id for the end of
//! its session, for one call with a number that is too large.
//!
//! Nothing that is read here executes anything. It is read only where it can have one meaning: one
//! object, brackets and quotes in pairs, `id` and `method` each once and spelt without escapes.
//! Neither recursion nor values: one pass over the bytes.

use super::message;
use crate::core::json::{Value, strict};
use crate::sys::limits::MCP_ID_BYTES_MAX;

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    /// As it is repeated in the answer.
    pub id: Option<String>,
    pub method: Option<String>,
}

/// `None` where it cannot be told for sure.
pub fn read(body: &[u8]) -> Option<Envelope> {
    let (mut id, mut method) = (None, None);
    for (name, value) in members(body)? {
        let place = match name.strip_prefix(b"\"")?.strip_suffix(b"\"")? {
            b"id" => &mut id,
            b"method" => &mut method,
            // It may be either of the two.
            other if other.contains(&b'\\') => return None,
            _ => continue,
        };
        if place.replace(value).is_some() {
            return None;
        }
    }
    let method = method.and_then(|method| match strict::read(method, 1) {
        Ok(Value::String(method)) => Some(method),
        _ => None,
    });
    Some(Envelope { id: id.map_or(Some(None), of_id)?, method })
}

/// An id of null is none. An integer beyond what the strict reader takes is repeated as it is spelt;
/// what is no id is `None`.
fn of_id(text: &[u8]) -> Option<Option<String>> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    if digits.len() > 1 && digits[0] != b'0' && digits.iter().all(u8::is_ascii_digit) {
        let text = std::str::from_utf8(text).ok().filter(|id| id.len() <= MCP_ID_BYTES_MAX)?;
        return Some(Some(text.to_owned()));
    }
    match strict::read(text, 1).ok()? {
        Value::Null => Some(None),
        id => message::id(&id).ok().map(Some),
    }
}

/// The members of the one object that the body is, name and value as they are spelt.
fn members(body: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let body = body.trim_ascii();
    let mut members = Vec::new();
    // The brackets that close what is open; where the member began, and its first colon.
    let (mut open, mut start, mut colon) = (Vec::new(), 1, None);
    let (mut in_string, mut is_escaped) = (false, false);
    for (at, byte) in body.iter().enumerate() {
        if in_string {
            in_string = is_escaped || *byte != b'"';
            is_escaped = !is_escaped && *byte == b'\\';
            continue;
        }
        let is_member = open.len() == 1;
        match byte {
            b'"' => in_string = true,
            b'{' => open.push(b'}'),
            b'[' => open.push(b']'),
            b'}' | b']' if open.pop() != Some(*byte) => return None,
            b':' if is_member && colon.is_none() => colon = Some(at),
            _ => {}
        }
        if open.is_empty() || is_member && *byte == b',' {
            let colon = colon.take()?;
            members.push((body[start..colon].trim_ascii(), body[colon + 1..at].trim_ascii()));
            start = at + 1;
        }
        if open.is_empty() {
            return (body[0] == b'{' && start == body.len()).then_some(members);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever a message has become: where an independent reader takes it as well, it finds
        /// the same id and method.
        #[test]
        fn an_independent_reader_finds_the_same(
            changes in prop::collection::vec(
                (any::<prop::sample::Index>(), 0_u8..3, prop::sample::select(&b"{}[]:,\"\\ 017-e.\xffid"[..])),
                0..4,
            ),
        ) {
            let message = "{\"id\":17,\"method\":\"m\",\"p\":{\"id\":\"}\\\"\",\"a\":[1.0,{}]},\"q\":\"x\"}";
            let mut body = message.as_bytes().to_vec();
            for (place, way, byte) in changes {
                let at = place.index(body.len());
                match way {
                    0 => body.insert(at, byte),
                    1 => drop(body.remove(at)),
                    _ => body[at] = byte,
                }
            }
            let Some(ours) = read(&body) else { return Ok(()) };
            if let Ok(theirs) = serde_json::from_slice::<Value>(&body) {
                let id = theirs.get("id").filter(|id| !id.is_null());
                prop_assert_eq!(ours.id, id.and_then(|id| message::id(id).ok()));
                prop_assert_eq!(ours.method.as_deref(), theirs.get("method").and_then(Value::as_str));
            }
        }
    }

    fn envelope(body: &str) -> Option<(Option<String>, Option<String>)> {
        read(body.as_bytes()).map(|envelope| (envelope.id, envelope.method))
    }

    #[test]
    fn what_can_be_read_is_read() {
        for (body, id, method) in [
            (r#"{"id":1,"method":"m"}"#, Some("1"), Some("m")),
            (" {\t\"method\" : \"m\" ,\n\"id\" : \"a\\u00e9\" } \r", Some("\"aé\""), Some("m")),
            (r#"{"id":1,"method":"m","params":{"a":1,"a":2}}"#, Some("1"), Some("m")),
            (r#"{"params":{"id":2,"method":"n"},"id":1,"method":"m"}"#, Some("1"), Some("m")),
            (r#"{"params":"}\",\"id\":3,","id":1,"method":"m"}"#, Some("1"), Some("m")),
            (r#"{"params":[NaN,{"x":[]},"\ud800"],"id":1}"#, Some("1"), None),
            (r#"{"params":1,"params":2,"id":1}"#, Some("1"), None),
            (
                r#"{"id":18446744073709551616,"method":"m"}"#,
                Some("18446744073709551616"),
                Some("m"),
            ),
            (r#"{"id":-9007199254740993}"#, Some("-9007199254740993"), None),
            (r#"{"id":1.0}"#, Some("1"), None),
            (r#"{"id":0}"#, Some("0"), None),
            (r#"{"ID":1,"method":"m"}"#, None, Some("m")),
            (r#"{"id":null,"method":"m","a":1e999}"#, None, Some("m")),
            (r#"{"id":1,"method":7}"#, Some("1"), None),
            (r#"{"id":1,"method":"\ud800"}"#, Some("1"), None),
        ] {
            let expected = (id.map(str::to_owned), method.map(str::to_owned));
            assert_eq!(envelope(body), Some(expected), "{body}");
        }
        // Not UTF-8, and nested deeper than any reader goes.
        let bytes = b"{\"id\":1,\"params\":\"\xff\"}";
        assert_eq!(read(bytes).and_then(|envelope| envelope.id).as_deref(), Some("1"));
        let deep =
            format!("{{\"params\":{}{},\"id\":1}}", "[".repeat(400_000), "]".repeat(400_000));
        assert_eq!(envelope(&deep), Some((Some("1".into()), None)));
    }

    #[test]
    fn what_could_be_two_things_is_none() {
        let long = format!("{{\"id\":{}}}", "9".repeat(257));
        for body in [
            // Two of one, in whatever spelling.
            r#"{"id":1,"id":1}"#,
            r#"{"id":1,"method":"m","id":2}"#,
            r#"{"method":"m","id":1,"method":"n"}"#,
            r#"{"id":1,"\u0069d":2}"#,
            r#"{"id":1,"i\u0064":2}"#,
            r#"{"id":1,"\"":2}"#,
            // No ids.
            r#"{"id":true}"#,
            r#"{"id":[1]}"#,
            r#"{"id":{}}"#,
            r#"{"id":1.5}"#,
            r#"{"id":1e400}"#,
            r#"{"id":01}"#,
            r#"{"id":-}"#,
            r#"{"id":}"#,
            r#"{"id":1 2}"#,
            r#"{"id":"\ud800"}"#,
            r#"{"id":"a""b"}"#,
            &long,
            // Not one whole object.
            "",
            "{",
            "{}",
            r#"{"id":1"#,
            r#"{"id":1,}"#,
            r#"{"id":1}x"#,
            r#"{"id":1}{"id":1}"#,
            r#"[{"id":1}]"#,
            r#"{"id":1]"#,
            r#"{"id":1,"a":[}]}"#,
            r#"{"id":1,"a":"}"#,
            r#"{"id":1,"a":"\"}"#,
            r#"{"id":1,"a" 1}"#,
            r#"{"id":1,a:1}"#,
            r#"{id:1}"#,
            "\u{feff}{\"id\":1}",
        ] {
            assert_eq!(envelope(body), None, "{body}");
        }
    }
}
