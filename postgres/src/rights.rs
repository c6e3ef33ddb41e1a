//! What the three roles may do, and no more: a role that could set back what was executed makes every promise void.
//!
//! A role is judged with all that it may act as, inherited or set, and so is each login that may act as it.

use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use crate::link::{Fault, Link, malformed};

/// The roles that are granted something.
pub struct Roles {
    pub serve: String,
    pub operator: String,
    pub worker: Option<String>,
}

/// What whoever serves calls.
pub const SERVED: [&str; 6] = ["fence", "append", "find", "look", "remove_note", "reported"];
/// What an operator calls.
pub const OPERATED: [&str; 5] = ["freeze", "unfreeze", "release", "request", "take_back"];
/// What a worker calls, whose role reads nothing.
pub const WORKED: [&str; 2] = ["take", "complete"];
/// What is unique: table and columns. Once-ness rests on it.
pub const UNIQUE: [(&str, &str); 14] = [
    ("rec", "n"),
    ("batch", "size"),
    ("batch", "batch"),
    ("batch", "session,seq"),
    ("key", "k"),
    ("tree", "level,ix"),
    ("open_job", "n"),
    ("snapshot", "size"),
    ("node", "one"),
    ("mutex", "one"),
    ("note", "name"),
    ("job", "id"),
    ("job", "n"),
    ("report", "id"),
];

/// What is wrong with what roles may do, or with the tables: a sentence each.
///
/// # Errors
/// As of [`Link::ask`].
pub fn faults(link: &mut Link) -> Result<Vec<String>, Fault> {
    let mut faults = roles(link)?;
    faults.extend(tables(link)?);
    Ok(faults)
}

/// Of this session's role, of each that was granted a function of ours, and of each login that may act as one of those.
/// A membership that can only be granted on (PostgreSQL 16) makes nobody act as anybody: whoever makes a role has it. What
/// one of these is a member of counts whatever its options are: with that one alone it could grant itself the others.
fn roles(link: &mut Link) -> Result<Vec<String>, Fault> {
    let sql = "
        WITH RECURSIVE function AS (SELECT p.oid, p.proname::text AS name, p.proowner, p.proacl, CASE WHEN p.proname = ANY ($1) THEN 1
                WHEN p.proname = ANY ($2) THEN 2 ELSE 3 END AS kind
            FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
            WHERE n.nspname = 'openexec' AND p.proname = ANY ($1 || $2 || $3)),
        subject (role, kind) AS (SELECT r.oid, 1 FROM pg_roles r WHERE r.rolname = session_user
            UNION SELECT a.grantee, f.kind FROM function f, aclexplode(f.proacl) a WHERE a.grantee NOT IN (0, f.proowner)
            UNION SELECT m.member, s.kind FROM subject s JOIN pg_auth_members m ON m.roleid = s.role JOIN pg_roles r ON r.oid = m.member
                WHERE NOT r.rolsuper AND (coalesce((to_jsonb(m)->>'set_option')::boolean, true)
                    OR coalesce((to_jsonb(m)->>'inherit_option')::boolean, true))),
        own AS (SELECT s.role, s.kind, r.*, CASE WHEN s.role = r.oid THEN format('%I', r.rolname)
                ELSE format('%s, which may act as %I,', s.role::regrole, r.rolname) END AS who
            FROM subject s JOIN pg_roles r ON pg_has_role(s.role, r.oid, 'MEMBER')
            WHERE r.rolsuper OR NOT EXISTS (SELECT 1 FROM pg_roles o WHERE o.rolsuper AND pg_has_role(s.role, o.oid, 'MEMBER'))),
        class AS (SELECT c.oid, c.relname, c.relowner FROM pg_class c
            JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'openexec' AND c.relkind IN ('r', 'p', 'v', 'm', 'S')),
        said (rank, text) AS (
        SELECT 1, who || ' may do anything' FROM own WHERE rolsuper
        UNION SELECT 2, who || ' may make roles (CREATEROLE)' FROM own WHERE rolcreaterole AND NOT rolsuper
        UNION SELECT 2, who || ' may make databases (CREATEDB)' FROM own WHERE rolcreatedb AND NOT rolsuper
        UNION SELECT 2, who || ' may stand in for a standby (REPLICATION)' FROM own WHERE rolreplication AND NOT rolsuper
        UNION SELECT 3, who || ' may do more than it needs' FROM own WHERE rolname ~ '^pg_' AND rolname NOT IN
            ('pg_database_owner', 'pg_monitor', 'pg_read_all_settings', 'pg_read_all_stats', 'pg_stat_scan_tables')
        UNION SELECT 4, who || ' owns the database' FROM own JOIN pg_database d ON d.datdba = own.oid
            WHERE d.datname = current_database() AND NOT rolsuper
        UNION SELECT 4, who || ' owns the schema' FROM own JOIN pg_namespace n ON n.nspowner = own.oid
            WHERE n.nspname = 'openexec' AND NOT rolsuper
        UNION SELECT 5, format('%s owns openexec.%I', who, relname) FROM own JOIN class ON relowner = own.oid WHERE NOT rolsuper
        UNION SELECT 5, format('%s owns openexec.%s', who, name) FROM own JOIN function ON proowner = own.oid WHERE NOT rolsuper
        UNION SELECT 6, format('%I may not call openexec.%s', session_user, name) FROM function
            WHERE kind = 1 AND NOT has_function_privilege(session_user, oid, 'EXECUTE')
        UNION SELECT 7, format('%s may call openexec.%s, and one role is of one kind', who, name) FROM own JOIN function f
            ON f.kind <> own.kind WHERE NOT rolsuper AND has_function_privilege(own.oid, f.oid, 'EXECUTE')
        UNION SELECT 8, who || ' may create in the schema' FROM own
            WHERE NOT rolsuper AND has_schema_privilege(own.oid, 'openexec', 'CREATE')
        UNION SELECT 9, format('%s may change openexec.%I', who, relname) FROM own, class
            WHERE NOT rolsuper AND (has_table_privilege(own.oid, class.oid, 'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
                OR has_any_column_privilege(own.oid, class.oid, 'INSERT, UPDATE, REFERENCES'))
        UNION SELECT 9, format('%s may read openexec.%I, and is a worker''s role', who, relname) FROM own, class
            WHERE kind = 3 AND NOT rolsuper AND has_any_column_privilege(own.oid, class.oid, 'SELECT'))
        SELECT text FROM said ORDER BY rank, text LIMIT 16";
    let kinds = [SERVED.as_slice(), OPERATED.as_slice(), WORKED.as_slice()];
    said(link, sql, &kinds.each_ref().map(|kind| (kind as &(dyn ToSql + Sync), Type::TEXT_ARRAY)))
}

/// Of what only an owner could have done to the tables, and whom it let change them.
fn tables(link: &mut Link) -> Result<Vec<String>, Fault> {
    let sql = "
        WITH class AS (SELECT c.* FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE n.nspname = 'openexec' AND c.relkind IN ('r', 'p', 'v', 'm'))
        SELECT format('openexec.%s is not unique by (%s) any more', t, columns) FROM unnest($1, $2) u (t, columns)
            WHERE NOT EXISTS (SELECT 1 FROM class JOIN pg_index i ON i.indrelid = class.oid
                WHERE class.relname = t AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL
                AND columns = (SELECT string_agg(a.attname, ',' ORDER BY k.o) FROM unnest(i.indkey::int2[]) WITH ORDINALITY k (n, o)
                    JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.n))
        UNION ALL SELECT format('openexec.%I is unlogged: a crash empties it', relname) FROM class WHERE relpersistence <> 'p'
        UNION ALL SELECT format('openexec.%I has row security', relname) FROM class WHERE relrowsecurity OR relforcerowsecurity
        UNION ALL SELECT format('openexec.%I has the trigger %I', relname, tgname) FROM class JOIN pg_trigger ON tgrelid = class.oid
            WHERE NOT tgisinternal
        UNION ALL SELECT format('openexec.%I has the rule %I', relname, rulename) FROM class JOIN pg_rewrite ON ev_class = class.oid
        UNION ALL SELECT DISTINCT format('%s may change openexec.%I', CASE a.grantee WHEN 0 THEN 'anybody' ELSE a.grantee::regrole::text END,
            relname) FROM class, aclexplode(relacl) a WHERE a.grantee <> relowner AND a.privilege_type <> 'SELECT'
        LIMIT 16";
    let (tables, columns): (Vec<_>, Vec<_>) = UNIQUE.into_iter().unzip();
    said(link, sql, &[(&tables, Type::TEXT_ARRAY), (&columns, Type::TEXT_ARRAY)])
}

/// What a statement says, a sentence each.
fn said(
    link: &mut Link,
    sql: &str,
    parameters: &[(&(dyn ToSql + Sync), Type)],
) -> Result<Vec<String>, Fault> {
    let rows = link.ask(sql, parameters)?;
    let said = |row: &Row| row.try_get(0).map_err(malformed);
    rows.iter().map(said).collect()
}
