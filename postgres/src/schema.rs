//! The schema: made by its owner, and held to what is written here by `check` and at each start.
//!
//! Invariant: whoever serves may read and call functions. With any other right a bug, or whoever has broken in, could
//! set back what was executed.

use openexec::core::hash::hex;
use openexec::core::record::Identity;
use openexec::core::tree::{Head, Tree, leaf_hash};
use tokio_postgres::types::Type;

use crate::link::{Fault, Link, malformed};
use crate::rights::Roles;
use crate::rights::{self, OPERATED, SERVED, WORKED};

const SCHEMA: &str = include_str!("schema.sql");
/// What only the others call.
#[cfg(test)]
const INNER: [&str; 2] = ["begins", "ended"];
/// PostgreSQL 14 is the first with `idle_session_timeout`.
pub const VERSION_LEAST: i32 = 140_000;

/// The statements that make it, with its first record, for these roles: for one transaction.
///
/// # Errors
/// A role has no name.
pub fn statements(identity: &Identity, roles: &Roles) -> Result<String, String> {
    let line = identity.line();
    let mut tree = Tree::default();
    tree.push(leaf_hash(line.as_bytes()));
    let Head { root, .. } = tree.head();
    let root = hex(&root);
    let (serve, operator) = (identifier(&roles.serve)?, identifier(&roles.operator)?);
    let worker = roles.worker.as_deref().map(identifier).transpose()?;
    let mut text = format!("{SCHEMA}\n");
    // The line is canonical JSON of ours: it has no quote and no backslash.
    text.push_str(&format!(
        "INSERT INTO openexec.rec VALUES (0, '{line}');\n\
         INSERT INTO openexec.batch (size, batch, root, frontier, session, seq)\n\
         VALUES (1, 1, '\\x{root}', ARRAY['\\x{root}'::bytea], 0, 0);\n\
         GRANT USAGE ON SCHEMA openexec TO {serve}, {operator};\n\
         GRANT SELECT ON ALL TABLES IN SCHEMA openexec TO {serve}, {operator};\n"
    ));
    if let Some(worker) = &worker {
        text.push_str(&format!("GRANT USAGE ON SCHEMA openexec TO {worker};\n"));
    }
    let granted = [(Some(&serve), &SERVED[..]), (Some(&operator), &OPERATED[..])];
    for (role, functions) in granted.into_iter().chain([(worker.as_ref(), &WORKED[..])]) {
        let Some(role) = role else { continue };
        for function in functions {
            text.push_str(&format!("GRANT EXECUTE ON FUNCTION openexec.{function} TO {role};\n"));
        }
    }
    Ok(text)
}

fn identifier(name: &str) -> Result<String, String> {
    if name.is_empty() || name.len() > 63 || name.chars().any(char::is_control) {
        return Err(format!("{name:?} is no name of a role"));
    }
    Ok(format!("\"{}\"", name.replace('"', "\"\"")))
}

/// Whether the schema is there.
///
/// # Errors
/// As of [`Link::ask`].
pub fn is_there(link: &mut Link) -> Result<bool, Fault> {
    link.value("SELECT to_regnamespace('openexec') IS NOT NULL", &[])
}

/// Of a database that refuses some letters: whoever asks with one would hold up all others.
pub const NOT_UTF8: &str = "this database keeps text otherwise than as UTF-8; make another";

/// What is wrong with what this connection's role may do, with the functions, or with the database: a sentence each.
///
/// # Errors
/// As of [`Link::ask`].
pub fn faults(link: &mut Link) -> Result<Vec<String>, Fault> {
    let mut faults = rights::faults(link)?;
    faults.extend(functions(link)?);
    if !is_utf8(link)? {
        // A dump was restored there.
        faults.push(NOT_UTF8.to_owned());
    }
    Ok(faults)
}

/// Each function is ours, and nobody may call it who was not granted it.
fn functions(link: &mut Link) -> Result<Vec<String>, Fault> {
    let sql = "
        SELECT p.proname::text, p.prosrc, coalesce(p.proconfig, '{}'), p.prosecdef,
            coalesce(EXISTS (SELECT 1 FROM aclexplode(p.proacl) WHERE grantee = 0), true) OR p.proacl IS NULL,
            p.proowner = n.nspowner
        FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = 'openexec'";
    let rows = link.ask(sql, &[])?;
    let mut faults = Vec::new();
    let mut known = written();
    for row in rows {
        let name: String = row.try_get(0).map_err(malformed)?;
        let body: String = row.try_get(1).map_err(malformed)?;
        let mut settings: Vec<String> = row.try_get(2).map_err(malformed)?;
        settings.sort_unstable();
        let is_definer: bool = row.try_get(3).map_err(malformed)?;
        let is_public: bool = row.try_get(4).map_err(malformed)?;
        let is_owned: bool = row.try_get(5).map_err(malformed)?;
        let Some(at) = known.iter().position(|(known, ..)| *known == name) else {
            faults.push(format!("openexec.{name} is no function of this release"));
            continue;
        };
        let (_, ours, set) = known.swap_remove(at);
        if body != ours {
            faults.push(format!("openexec.{name} is not as this release has it"));
        }
        if !is_definer || !is_owned || settings != set {
            faults.push(format!("openexec.{name} is not set as this release has it"));
        }
        if is_public {
            faults.push(format!("openexec.{name} may be called by anybody"));
        }
    }
    faults.extend(known.iter().map(|(name, ..)| format!("openexec.{name} is missing")));
    Ok(faults)
}

/// The functions of the schema's text: names, bodies, and what they are set to, as PostgreSQL writes it.
fn written() -> Vec<(&'static str, &'static str, Vec<String>)> {
    let functions = SCHEMA.split("CREATE FUNCTION openexec.").skip(1);
    functions
        .filter_map(|text| {
            let (name, (head, rest)) = (text.split('(').next()?, text.split_once(" AS $$")?);
            let set = head.split("SET ").skip(1).map(|set| set.trim().replace(" = ", "="));
            let mut set: Vec<String> = set.collect();
            set.sort_unstable();
            Some((name, rest.split("$$").next()?, set))
        })
        .collect()
}

/// Whether the database keeps text as UTF-8.
///
/// # Errors
/// As of [`Link::ask`].
pub fn is_utf8(link: &mut Link) -> Result<bool, Fault> {
    link.value("SELECT current_setting('server_encoding') = $1", &[(&"UTF8", Type::TEXT)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_function_is_set_alike_and_granted_to_somebody() {
        let written = written();
        assert_eq!(written.len(), SCHEMA.matches("CREATE FUNCTION").count());
        assert_eq!(
            SCHEMA
                .matches("SECURITY DEFINER SET search_path = pg_catalog, openexec, pg_temp")
                .count(),
            written.len()
        );
        for (name, body, set) in written {
            let path = "search_path=pg_catalog, openexec, pg_temp";
            assert!(set.iter().any(|setting| setting == path), "{name}: {set:?}");
            let granted = [&SERVED[..], &OPERATED, &WORKED, &INNER]
                .iter()
                .filter(|names| names.contains(&name))
                .count();
            assert_eq!(granted, 1, "{name}");
            assert!(body.trim_end().ends_with("END"), "{name}");
        }
    }

    #[test]
    fn what_is_unique_is_looked_for() {
        let written = ["PRIMARY KEY", "UNIQUE"].map(|word| SCHEMA.matches(word).count());
        assert_eq!(written.iter().sum::<usize>(), rights::UNIQUE.len());
    }

    #[test]
    fn a_role_is_a_name_and_no_statement() {
        assert_eq!(identifier("a\";drop"), Ok("\"a\"\";drop\"".to_owned()));
        for wrong in ["", "a\nb", &"x".repeat(64)] {
            assert!(identifier(wrong).is_err(), "{wrong}");
        }
    }
}
