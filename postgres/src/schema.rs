//! The schema: made by its owner, and held to what is written here by `check` and at each start.
//!
//! Invariant: whoever serves may read and call functions. With any other right a bug, or whoever has broken in, could
//! set back what was executed.

use openexec::core::hash::hex;
use openexec::core::record::Identity;
use openexec::core::tree::{Head, Tree, leaf_hash};
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use crate::cli::Roles;
use crate::link::{Fault, Link};

const SCHEMA: &str = include_str!("schema.sql");
/// What every function of ours is set to look names up in, in this order.
const SEARCH_PATH: &str = "search_path=pg_catalog, openexec, pg_temp";
/// What whoever serves calls.
const SERVED: [&str; 6] = ["fence", "append", "find", "look", "remove_note", "reported"];
/// What an operator calls.
const OPERATED: [&str; 5] = ["freeze", "unfreeze", "release", "request", "take_back"];
/// What a worker calls.
const WORKED: [&str; 2] = ["take", "complete"];
/// What only the others call.
#[cfg(test)]
const INNER: [&str; 1] = ["begins"];
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

/// What is wrong with what this connection's role may do, or with the functions: a sentence each.
///
/// # Errors
/// As of [`Link::ask`].
pub fn faults(link: &mut Link) -> Result<Vec<String>, Fault> {
    let mut faults = rights(link)?;
    faults.extend(others(link)?);
    faults.extend(functions(link)?);
    Ok(faults)
}

/// Of any role that this one may become.
fn rights(link: &mut Link) -> Result<Vec<String>, Fault> {
    let sql = "
        WITH own AS (SELECT * FROM pg_roles WHERE pg_has_role(session_user, oid, 'MEMBER')),
        class AS (SELECT c.oid, c.relname, c.relowner FROM pg_class c
            JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'openexec' AND c.relkind IN ('r', 'p', 'v', 'm', 'S'))
        SELECT format('it may act as %I, which may do anything', rolname) FROM own WHERE rolsuper
        UNION ALL SELECT format('it may act as %I, which makes roles', rolname) FROM own WHERE rolcreaterole AND NOT rolsuper
        UNION ALL SELECT format('it may act as %I, which reads or writes files of the server', rolname) FROM own
            WHERE rolname IN ('pg_write_server_files', 'pg_execute_server_program', 'pg_write_all_data')
        UNION ALL SELECT format('it may act as %I, the owner of openexec.%I', own.rolname, class.relname)
            FROM own JOIN class ON class.relowner = own.oid
        UNION ALL SELECT format('it may act as %I, the owner of the schema', own.rolname)
            FROM own JOIN pg_namespace n ON n.nspowner = own.oid WHERE n.nspname = 'openexec'
        UNION ALL SELECT format('as %I it may change openexec.%I', own.rolname, class.relname) FROM own, class
            WHERE NOT own.rolsuper AND (has_table_privilege(own.oid, class.oid, 'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
                OR has_any_column_privilege(own.oid, class.oid, 'INSERT, UPDATE, REFERENCES'))
        UNION ALL SELECT format('it may not call openexec.%I', proname) FROM pg_proc p
            JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = 'openexec' AND proname = ANY ($1)
            AND NOT has_function_privilege(session_user, p.oid, 'EXECUTE')
        UNION ALL SELECT format('as %I it may create in the schema', own.rolname) FROM own
            WHERE NOT own.rolsuper AND has_schema_privilege(own.oid, 'openexec', 'CREATE')
        LIMIT 16";
    said(link, sql, &[(&SERVED.as_slice(), Type::TEXT_ARRAY)])
}

/// Of those that were granted what workers and operators call: each is of one kind, and a worker's role reads nothing.
fn others(link: &mut Link) -> Result<Vec<String>, Fault> {
    let sql = "
        WITH granted AS (SELECT a.grantee, p.proname::text AS name,
                CASE WHEN p.proname = ANY ($1) THEN 1 WHEN p.proname = ANY ($2) THEN 2 ELSE 3 END AS kind
            FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace, aclexplode(p.proacl) a
            WHERE n.nspname = 'openexec' AND a.grantee NOT IN (0, p.proowner) AND p.proname = ANY ($1 || $2 || $3)),
        worker AS (SELECT DISTINCT grantee FROM granted WHERE kind = 3)
        SELECT format('%s may call openexec.%s and openexec.%s: one role is of one kind', a.grantee::regrole, a.name, b.name)
            FROM granted a JOIN granted b ON (b.grantee = a.grantee OR pg_has_role(a.grantee, b.grantee, 'MEMBER')) AND a.kind = 3 AND b.kind <> 3
        UNION ALL SELECT format('%s may read or change openexec.%I, and is a worker''s role', worker.grantee::regrole, c.relname)
            FROM worker, pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE n.nspname = 'openexec' AND c.relkind IN ('r', 'p', 'v', 'm', 'S') AND (
                has_table_privilege(worker.grantee, c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
                OR has_any_column_privilege(worker.grantee, c.oid, 'SELECT, INSERT, UPDATE, REFERENCES'))
        LIMIT 8";
    let kinds = [SERVED.as_slice(), OPERATED.as_slice(), WORKED.as_slice()];
    let [served, operated, worked] = &kinds;
    said(
        link,
        sql,
        &[(served, Type::TEXT_ARRAY), (operated, Type::TEXT_ARRAY), (worked, Type::TEXT_ARRAY)],
    )
}

/// What a statement says, a sentence each.
fn said(
    link: &mut Link,
    sql: &str,
    parameters: &[(&(dyn ToSql + Sync), Type)],
) -> Result<Vec<String>, Fault> {
    let rows = link.ask(sql, parameters)?;
    let said = |row: &Row| row.try_get(0).map_err(|error| Fault::Broken(error.to_string()));
    rows.iter().map(said).collect()
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
    let malformed = |error: tokio_postgres::Error| Fault::Broken(error.to_string());
    for row in rows {
        let name: String = row.try_get(0).map_err(malformed)?;
        let body: String = row.try_get(1).map_err(malformed)?;
        let settings: Vec<String> = row.try_get(2).map_err(malformed)?;
        let is_definer: bool = row.try_get(3).map_err(malformed)?;
        let is_public: bool = row.try_get(4).map_err(malformed)?;
        let is_owned: bool = row.try_get(5).map_err(malformed)?;
        let Some(at) = known.iter().position(|(known, _)| *known == name) else {
            faults.push(format!("openexec.{name} is no function of this release"));
            continue;
        };
        let (_, ours) = known.swap_remove(at);
        if body != ours {
            faults.push(format!("openexec.{name} is not as this release has it"));
        }
        if !is_definer || !is_owned || !settings.iter().any(|setting| setting == SEARCH_PATH) {
            faults.push(format!("openexec.{name} is not set as this release has it"));
        }
        if is_public {
            faults.push(format!("openexec.{name} may be called by anybody"));
        }
    }
    faults.extend(known.iter().map(|(name, _)| format!("openexec.{name} is missing")));
    Ok(faults)
}

/// The functions of the schema's text: names and bodies.
fn written() -> Vec<(&'static str, &'static str)> {
    let functions = SCHEMA.split("CREATE FUNCTION openexec.").skip(1);
    functions
        .filter_map(|text| {
            let name = text.split('(').next()?;
            Some((name, text.split("$$").nth(1)?))
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
        for (name, body) in written {
            let granted = [&SERVED[..], &OPERATED, &WORKED, &INNER]
                .iter()
                .filter(|names| names.contains(&name))
                .count();
            assert_eq!(granted, 1, "{name}");
            assert!(body.trim_end().ends_with("END"), "{name}");
        }
    }

    #[test]
    fn a_role_is_a_name_and_no_statement() {
        assert_eq!(identifier("a\";drop"), Ok("\"a\"\";drop\"".to_owned()));
        for wrong in ["", "a\nb", &"x".repeat(64)] {
            assert!(identifier(wrong).is_err(), "{wrong}");
        }
    }
}
