//! Whose turn it is: which process is the active one, as the server's own list of sessions shows it.
//!
//! A session of ours has the name of its process (`openexec 5f0c…`), and the row `openexec.node` says which process took
//! over last. While the server shows a session with that name, of a role that may serve, whose state changed within
//! [`SILENCE_S`], that process is active, and nobody else tries. No lock says this: the session of a process that was
//! stopped in the middle of a statement keeps its locks for as long as the server waits for the rest, and any role that
//! may connect can take an advisory lock. The name of a process is no secret, but a role that may serve is another's.
//!
//! It is no promise; that is the fence. A node takes over from the session that it saw, so that one of two wins, and the
//! winner is shown from then on: nodes do not overtake each other in turns.

use openexec::core::hash::hex;
use tokio_postgres::types::Type;

use crate::link::{Fault, Link, malformed};

/// A process of which the server heard nothing for longer is not active any more. One that is asks twice a second, gives
/// a call up after 4 s ([`crate::link::DEADLINE`]), and then connects anew.
const SILENCE_S: f64 = 6.0;
/// Of a session whose process is not to be taken for the active one.
const NOBODY: &str = "openexec";

/// The name of this process's sessions.
pub fn name(holder: &[u8]) -> String {
    format!("{NOBODY} {}", hex(holder))
}

/// What whoever takes over has seen.
pub struct Seat {
    /// The newest session.
    pub session: i64,
    pub is_free: bool,
}

/// Whether the process that took over last is still active.
///
/// # Errors
/// As of [`Link::call`].
pub fn look(link: &mut Link, own: &str) -> Result<Seat, Fault> {
    // When the state of another role's session changed, the server shows to nobody else: that one counts until it ends.
    let sql = "
        WITH seat AS (SELECT session, 'openexec ' || encode(holder, 'hex') AS name FROM openexec.node WHERE one)
        SELECT session, coalesce(name = $1, true) OR NOT EXISTS (SELECT 1 FROM pg_stat_activity a
            WHERE a.application_name = name AND a.datname = current_database()
            AND has_function_privilege(a.usesysid, 'openexec.fence(bytea, bigint)', 'EXECUTE')
            AND (a.state_change IS NULL OR abs(extract(epoch FROM clock_timestamp() - a.state_change)) < $2))
        FROM seat";
    let rows = link.ask(sql, &[(&own, Type::TEXT), (&SILENCE_S, Type::FLOAT8)])?;
    let row = rows.first().ok_or_else(|| Fault::Broken("nobody has ever taken over".to_owned()))?;
    let seat = || Ok(Seat { session: row.try_get(0)?, is_free: row.try_get(1)? });
    seat().map_err(malformed)
}

/// Ends the sessions of nodes that are silent and wait for their client: of one that has sent a statement without its end,
/// the server keeps the rows locked, and the fence would wait for ever. One that commits, or waits for its standby, waits
/// for no client and is left alone. Should one go on just now, the fence waits for what it leaves, as for every other.
///
/// # Errors
/// As of [`Link::call`].
pub fn clear(link: &mut Link) -> Result<(), Fault> {
    let sql = "SELECT count(pg_terminate_backend(a.pid)) FROM pg_stat_activity a
        WHERE a.application_name LIKE 'openexec%' AND a.datname = current_database() AND a.usename = session_user
        AND a.pid <> pg_backend_pid() AND a.wait_event_type = 'Client'
        AND abs(extract(epoch FROM clock_timestamp() - a.state_change)) >= $1";
    link.ask(sql, &[(&SILENCE_S, Type::FLOAT8)]).map(drop)
}

/// Shows this session with the name of its process, or without: then another may take over.
///
/// # Errors
/// As of [`Link::call`].
pub fn show(link: &mut Link, own: Option<&str>) -> Result<(), Fault> {
    let sql = "SELECT set_config('application_name', $1, false)";
    link.ask(sql, &[(&own.unwrap_or(NOBODY), Type::TEXT)]).map(drop)
}
