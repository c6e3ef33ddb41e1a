//! Who may do what in the database, and what a service refuses to be started with.

mod common;

use common::{Cluster, Node};

fn refused(cluster: &Cluster, role: &str, says: &str) {
    // One that is not refused would serve.
    for command in ["check", "serve"] {
        let done = cluster.command(role, &[command]).output().expect("run");
        let text = String::from_utf8_lossy(&done.stderr).into_owned();
        assert_eq!(done.status.code(), Some(78), "{command}: {text}");
        assert!(text.contains(says), "{command}: {text}");
    }
}

fn is_fine(cluster: &Cluster) {
    let done = cluster.command("serve", &["check"]).output().expect("run");
    assert!(done.status.success(), "{done:?}");
}

#[test]
fn the_serving_role_changes_nothing_but_by_functions() {
    let cluster = Cluster::new();
    let tables = cluster.sql(
        "d",
        "postgres",
        "SELECT relname FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace \
                                               WHERE nspname = 'openexec' AND relkind = 'r'",
    );
    assert!(tables.lines().count() >= 8, "{tables}");
    for role in ["serve", "op", "work"] {
        for table in tables.lines() {
            for statement in [
                format!("INSERT INTO openexec.{table} SELECT * FROM openexec.{table}"),
                format!("DELETE FROM openexec.{table}"),
                format!("TRUNCATE openexec.{table}"),
                format!("ALTER TABLE openexec.{table} ADD x int"),
                format!("DROP TABLE openexec.{table}"),
                format!("SELECT 1 FROM openexec.{table} FOR UPDATE"),
            ] {
                assert!(
                    !cluster.try_sql("d", role, &statement).status.success(),
                    "{role}: {statement}"
                );
            }
        }
        for statement in [
            "UPDATE openexec.node SET session = 0",
            "UPDATE openexec.rec SET line = ''",
            "CREATE TABLE openexec.x ()",
            "CREATE FUNCTION openexec.x() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "ALTER FUNCTION openexec.look RESET ALL",
        ] {
            assert!(!cluster.try_sql("d", role, statement).status.success(), "{role}: {statement}");
        }
    }
    cluster.sql("postgres", "postgres", "CREATE ROLE stranger LOGIN");
    for (role, statement) in [
        ("serve", "SELECT openexec.freeze('x')"),
        ("serve", "SELECT openexec.unfreeze()"),
        ("op", "SELECT openexec.fence('\\x00', 0)"),
        (
            "op",
            "SELECT openexec.append(1, 1, 0, true, 1, '', '{}', '{}', '{}', '', '{}', '{}', NULL, '{}', '{}', '{}', '{}', '{}')",
        ),
        ("op", "SELECT openexec.remove_note(1, 'FROZEN', 0)"),
        ("op", "SELECT openexec.find('{}')"),
        ("op", "SELECT openexec.reported(1, '{}', '{}', '{}')"),
        ("op", "SELECT openexec.take('q')"),
        ("op", "SELECT openexec.complete('q', '', 'failed', '{}')"),
        ("serve", "SELECT openexec.take('q')"),
        ("serve", "SELECT openexec.complete('q', '', 'failed', '{}')"),
        ("serve", "SELECT openexec.release('')"),
        ("serve", "SELECT openexec.request('')"),
        ("serve", "SELECT openexec.take_back(0)"),
        ("work", "SELECT openexec.request('')"),
        ("work", "SELECT openexec.take_back(0)"),
        ("work", "SELECT openexec.release('')"),
        ("work", "SELECT openexec.freeze('x')"),
        ("work", "SELECT openexec.unfreeze()"),
        ("work", "SELECT openexec.look()"),
        ("work", "SELECT openexec.find('{}')"),
        ("work", "SELECT openexec.fence('\\x00', 0)"),
        ("work", "SELECT openexec.remove_note(1, 'FROZEN', 0)"),
        ("work", "SELECT openexec.reported(1, '{}', '{}', '{}')"),
        ("work", "SELECT line FROM openexec.rec"),
        ("work", "SELECT job FROM openexec.job"),
        ("work", "SELECT outcome FROM openexec.report"),
        ("work", "UPDATE openexec.job SET taken_at = NULL"),
        ("stranger", "SELECT openexec.request('')"),
        ("stranger", "SELECT openexec.take_back(0)"),
        ("stranger", "SELECT openexec.look()"),
        ("stranger", "SELECT line FROM openexec.rec"),
    ] {
        let done = cluster.try_sql("d", role, statement);
        let text = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(text.contains("permission denied"), "{role}: {statement}: {text}");
    }
}

/// A temporary table of the name of one of ours is not taken for it.
#[test]
fn a_function_reads_no_table_of_its_callers() {
    let cluster = Cluster::new();
    let node = Node::start_ready(&cluster, "a", &[]);
    node.insist("{\"action\":\"echo\",\"nonce\":\"n\",\"payload\":{}}");
    let sql = "CREATE TEMP TABLE node (one boolean, session bigint, holder bytea, veto bigint); \
               INSERT INTO pg_temp.node VALUES (true, 77, '', 0); SET search_path = pg_temp, openexec; \
               SELECT (openexec.append(77, 1, 0, true, size, root, ARRAY['x'], '{}', '{}', root, '{}', '{}', NULL, \
               '{}', '{}', '{}', '{}', '{}')).status \
               FROM openexec.batch ORDER BY size DESC LIMIT 1";
    assert_eq!(cluster.sql("d", "serve", sql), "fenced");
}

#[test]
fn a_service_is_not_started_with_more_than_it_needs() {
    let cluster = Cluster::new();
    is_fine(&cluster);
    // Monitoring changes nothing, and who may do anything anyway is nobody's fault.
    cluster.sql("d", "postgres", "GRANT pg_monitor TO serve; GRANT work, op TO postgres");
    is_fine(&cluster);
    refused(&cluster, "postgres", "postgres may do anything");
    refused(&cluster, "owner", "owner owns the schema");
    refused(&cluster, "op", "op may not call openexec.append");
    let meets = |change: &str, undo: &str, says: &str| {
        cluster.sql("d", "postgres", change);
        refused(&cluster, "serve", says);
        cluster.sql("d", "postgres", undo);
        is_fine(&cluster);
    };
    for (what, role, says) in [
        ("UPDATE ON openexec.node", "serve", "serve may change openexec.node"),
        ("UPDATE (session) ON openexec.node", "serve", "serve may change openexec.node"),
        ("DELETE ON openexec.rec", "PUBLIC", "serve may change openexec.rec"),
        ("owner", "serve", "serve, which may act as owner, owns the schema"),
        ("pg_write_all_data", "serve", "pg_write_all_data"),
        ("SELECT ON openexec.job", "work", "work may read openexec.job"),
        ("EXECUTE ON FUNCTION openexec.append", "work", "one role is of one kind"),
        ("op", "work", "one role is of one kind"),
        ("EXECUTE ON FUNCTION openexec.take", "serve", "one role is of one kind"),
        ("CREATE ON SCHEMA openexec", "serve", "may create in the schema"),
        ("EXECUTE ON FUNCTION openexec.release", "serve", "one role is of one kind"),
        ("op", "serve", "serve may call openexec.freeze"),
        ("pg_read_server_files", "serve", "which may act as pg_read_server_files"),
        ("pg_execute_server_program", "work", "which may act as pg_execute_server_program"),
        ("CREATE ON SCHEMA openexec", "work", "work may create in the schema"),
        ("UPDATE ON openexec.note", "op", "op may change openexec.note"),
        (
            "EXECUTE ON FUNCTION openexec.append",
            "PUBLIC",
            "openexec.append may be called by anybody",
        ),
    ] {
        meets(&format!("GRANT {what} TO {role}"), &format!("REVOKE {what} FROM {role}"), says);
    }
    for (role, may, says) in [
        ("serve", "CREATEROLE", "serve may make roles"),
        ("serve", "REPLICATION", "serve may stand in for a standby"),
        ("serve", "CREATEDB", "serve may make databases"),
        ("work", "CREATEROLE", "work may make roles"),
        ("op", "SUPERUSER", "op may do anything"),
    ] {
        meets(&format!("ALTER ROLE {role} {may}"), &format!("ALTER ROLE {role} NO{may}"), says);
    }
    for (change, undo, says) in [
        (
            "ALTER DATABASE d OWNER TO serve",
            "ALTER DATABASE d OWNER TO owner",
            "serve owns the database",
        ),
        (
            "ALTER DATABASE d OWNER TO work",
            "ALTER DATABASE d OWNER TO owner",
            "work owns the database",
        ),
        (
            "ALTER ROLE work NOINHERIT; GRANT owner TO work",
            "REVOKE owner FROM work; ALTER ROLE work INHERIT",
            "work, which may act as owner, owns the schema",
        ),
        (
            "ALTER ROLE op NOINHERIT; GRANT pg_write_all_data TO op",
            "REVOKE pg_write_all_data FROM op; ALTER ROLE op INHERIT",
            "which may act as pg_write_all_data",
        ),
        (
            "CREATE ROLE w2 LOGIN IN ROLE work; GRANT SELECT ON openexec.job TO w2",
            "REVOKE ALL ON openexec.job FROM w2; DROP ROLE w2",
            "w2 may read openexec.job",
        ),
        (
            "CREATE ROLE other LOGIN; GRANT DELETE ON openexec.key TO other",
            "REVOKE ALL ON openexec.key FROM other; DROP ROLE other",
            "other may change openexec.key",
        ),
        (
            "ALTER TABLE openexec.key OWNER TO work",
            "ALTER TABLE openexec.key OWNER TO owner",
            "work owns openexec.key",
        ),
        (
            "ALTER FUNCTION openexec.take OWNER TO op",
            "ALTER FUNCTION openexec.take OWNER TO owner",
            "op owns openexec.take",
        ),
        (
            "ALTER TABLE openexec.key DROP CONSTRAINT key_pkey, ADD PRIMARY KEY (k) DEFERRABLE",
            "ALTER TABLE openexec.key DROP CONSTRAINT key_pkey, ADD PRIMARY KEY (k)",
            "openexec.key is not unique by (k)",
        ),
        (
            "ALTER TABLE openexec.key DROP CONSTRAINT key_pkey; CREATE UNIQUE INDEX x ON openexec.key (k) WHERE n > 9",
            "DROP INDEX openexec.x; ALTER TABLE openexec.key ADD PRIMARY KEY (k)",
            "openexec.key is not unique by (k)",
        ),
        (
            "ALTER TABLE openexec.report FORCE ROW LEVEL SECURITY",
            "ALTER TABLE openexec.report NO FORCE ROW LEVEL SECURITY",
            "openexec.report has row security",
        ),
        (
            "CREATE FUNCTION public.t() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; CREATE TRIGGER x BEFORE INSERT ON openexec.key FOR EACH ROW EXECUTE FUNCTION public.t()",
            "DROP TRIGGER x ON openexec.key; DROP FUNCTION public.t()",
            "openexec.key has the trigger x",
        ),
        (
            "CREATE RULE x AS ON INSERT TO openexec.key DO INSTEAD NOTHING",
            "DROP RULE x ON openexec.key",
            "openexec.key has the rule x",
        ),
        (
            "ALTER TABLE openexec.key DROP CONSTRAINT key_pkey",
            "ALTER TABLE openexec.key ADD PRIMARY KEY (k)",
            "openexec.key is not unique by (k)",
        ),
        (
            "ALTER TABLE openexec.key SET UNLOGGED",
            "ALTER TABLE openexec.key SET LOGGED",
            "openexec.key is unlogged",
        ),
        (
            "ALTER TABLE openexec.report ENABLE ROW LEVEL SECURITY",
            "ALTER TABLE openexec.report DISABLE ROW LEVEL SECURITY",
            "openexec.report has row security",
        ),
        (
            "ALTER FUNCTION openexec.append SET synchronous_commit = off",
            "ALTER FUNCTION openexec.append RESET synchronous_commit",
            "openexec.append is not set as this release has it",
        ),
        (
            "ALTER FUNCTION openexec.take RESET jit",
            "ALTER FUNCTION openexec.take SET jit = off",
            "openexec.take is not set as this release has it",
        ),
        (
            "ALTER FUNCTION openexec.find SET search_path = openexec, pg_catalog",
            "ALTER FUNCTION openexec.find SET search_path = pg_catalog, openexec, pg_temp",
            "openexec.find is not set as this release has it",
        ),
        (
            "CREATE FUNCTION openexec.more() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "DROP FUNCTION openexec.more",
            "openexec.more is no function of this release",
        ),
        (
            "ALTER FUNCTION openexec.unfreeze RENAME TO thaw",
            "ALTER FUNCTION openexec.thaw RENAME TO unfreeze",
            "openexec.unfreeze is missing",
        ),
    ] {
        meets(change, undo, says);
    }
    cluster.sql(
        "d",
        "postgres",
        "CREATE OR REPLACE FUNCTION openexec.fence(p_holder bytea, p_over bigint, OUT session bigint) LANGUAGE plpgsql \
         SECURITY DEFINER SET search_path = pg_catalog, openexec, pg_temp AS $$ BEGIN session := 1; END $$",
    );
    refused(&cluster, "serve", "openexec.fence is not as this release has it");
}

#[test]
fn what_would_forget_is_refused_at_start() {
    let cluster = Cluster::new();
    let check = |settings: &[(&str, &str)]| {
        let mut command = cluster.command("serve", &["check"]);
        command.env_remove("OPENEXEC_ACCEPT_LOST_COMMITS").envs(settings.iter().copied());
        let done = command.output().expect("run");
        (done.status.code(), String::from_utf8_lossy(&done.stderr).into_owned())
    };
    let accepts = ("OPENEXEC_ACCEPT_LOST_COMMITS", "yes");
    // Nobody need be there: what is named is what counts.
    for (names, code) in [("", 78), ("*", 78), ("ANY 1 (*)", 78), ("FIRST 1 (s1, s2)", 0)] {
        cluster.set_standbys(names);
        let (found, text) = check(&[]);
        assert_eq!(found, Some(code), "{names}: {text}");
        assert_eq!(check(&[accepts]).0, Some(0), "{names}");
    }
    // Nobody answers for those names: until it is over, no commit ends.
    cluster.set_standbys("");
    let url = |url: &str| check(&[accepts, ("OPENEXEC_DB_URL", url)]);
    for wrong in ["file:/x", "postgresql://serve:secret@/d?host=/x", "postgresql://serve@db/d", ""]
    {
        let (code, text) = url(wrong);
        assert_eq!(code, Some(78), "{wrong}: {text}");
        assert!(!text.contains("secret"), "{text}");
    }
    assert_eq!(check(&[("OPENEXEC_ACCEPT_LOST_COMMITS", "no")]).0, Some(78));
    let socket = cluster.dir.display();
    let (code, text) = url(&format!("postgresql://serve@/postgres?host={socket}"));
    assert!(code == Some(78) && text.contains("init"), "{text}");
    let (code, text) = url(&format!("postgresql://serve@/absent?host={socket}"));
    assert_eq!(code, Some(78), "{text}");
    assert_eq!(url("postgresql://serve@/d?host=/nowhere").0, Some(74));
    cluster.sql("d", "postgres", "ALTER DATABASE d SET default_transaction_read_only = on");
    let (code, text) = check(&[accepts]);
    assert!(code == Some(74) && text.contains("takes no writes"), "{text}");
    cluster.sql("postgres", "postgres", "ALTER DATABASE d RESET default_transaction_read_only");
    cluster.sql("d", "postgres", "ALTER SYSTEM SET fsync = off");
    cluster.sql("d", "postgres", "SELECT pg_reload_conf()");
    common::until("it is set", || cluster.sql("d", "postgres", "SHOW fsync") == "off");
    let (code, text) = check(&[accepts]);
    assert!(code == Some(78) && text.contains("fsync=off"), "{text}");
}
