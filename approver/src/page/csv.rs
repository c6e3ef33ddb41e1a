//! What was decided, as a table for spreadsheets (RFC 4180), in which nothing that was received is a formula.
//!
//! Spreadsheets take a field for a formula by its first character, in quotes too; and one that expects semicolons begins a
//! field behind each. So a field that begins with such a character gets an apostrophe before it, and there are
//! no semicolons and no control characters.

use openexec::sys::visible::escaped;

pub fn of<const N: usize>(head: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut csv = row(&head.map(str::to_owned));
    rows.into_iter().for_each(|fields| csv.push_str(&row(&fields)));
    csv
}

fn row(fields: &[String]) -> String {
    let fields: Vec<String> = fields.iter().map(|text| field(text)).collect();
    fields.join(",") + "\r\n"
}

fn field(text: &str) -> String {
    let mut text = escaped(text).replace('"', "\"\"").replace(';', "\\u003b");
    let first = text.chars().find(|char| !matches!(char, ' ' | '"' | '\''));
    if first.is_some_and(|char| "=+-@|%".contains(char)) {
        text.insert(0, '\'');
    }
    format!("\"{text}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_field_is_a_formula_in_any_spreadsheet() {
        for (text, shown) in [
            ("refund", "refund"),
            ("=1+1", "'=1+1"),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("|calc", "'|calc"),
            (" =1", "' =1"),
            ("\"=1", "'\"\"=1"),
            ("'=1", "''=1"),
            ("\t=1", "\\u0009=1"),
            ("\r=1", "\\u000d=1"),
            ("\n=1", "\\u000a=1"),
            ("x;=1", "x\\u003b=1"),
            ("x\",=1", "x\"\",=1"),
            ("\u{ff1d}1", "\\uff1d1"),
            ("a\"b", "a\"\"b"),
            ("\u{202e}x", "\\u202ex"),
            ("", ""),
        ] {
            assert_eq!(of(["a"], [[text.to_owned()]]), format!("\"a\"\r\n\"{shown}\"\r\n"));
        }
    }
}
