//! The command line: what is only for a database here; the rest is the library's, over [`Log`].

use std::collections::{HashMap, HashSet};
use std::process::ExitCode;
use std::sync::Arc;

use openexec::cli::program;
use openexec::core::hash::{hex, unhex};
use openexec::core::record::Identity;
use openexec::core::tree::{Tree, leaf_hash};
use openexec::evidence::guard::Guard;
use openexec::evidence::log::Log as _;
use openexec::handlers::Handler;
use openexec::serve::status::Obstacle;
use openexec::serve::{opening, server};
use openexec::store::Store;
use openexec::sys::exit::{self, Failure, usage};
use openexec::sys::page::Page;
use openexec::sys::{clock, random};
use tokio_postgres::types::Type;

use crate::desk::Desk;
use crate::link::Fault;
use crate::operator::Log;
use crate::rights::Roles;
use crate::settings::{Own, configured, connected};
use crate::source::{Database, fit};
use crate::store::Postgres;
use crate::{backup, import, load, outbox, place, schema};

const HELP: &str = "\
openexec-postgres: OpenExec over PostgreSQL (docs/deploy/postgres.md)

openexec-postgres [serve]    stand by, and serve once this node is the active one
openexec-postgres init --serve-role ROLE --operator-role ROLE [--worker-role ROLE]
                             as the schema's owner: make the log in this database, once
openexec-postgres import DIRECTORY --serve-role ROLE --operator-role ROLE [--worker-role ROLE]
                             the same, with the log of a store in files, which is frozen by it
openexec-postgres check      what serve would find
openexec-postgres freeze [--reason TEXT]
                             as an operator: stop all executions
openexec-postgres unfreeze [--yes]
                             as an operator: show what would go on, ask, and let it
openexec-postgres pending    what waits for an approval, and what is owed a receipt
openexec-postgres history [--since TIME] [--until TIME] [--action NAME] [--caller NAME] [--key KEY]
                          [--state STATES] [--json]
                             what happened: executions, proposals, refusals
openexec-postgres abandon EXEC_ID [--yes]
                             as an operator: end a claim that is owed a receipt, as indeterminate
openexec-postgres withdraw EXEC_ID|--all [--yes]
                             as an operator: end a proposal that is pending, or all of them
openexec-postgres complete EXEC_ID --outcome executed|failed --note TEXT [--yes]
                             as an operator: record, on your word, what became of a job
openexec-postgres jobs       as an operator: jobs that were taken, and of which nobody has said what became
openexec-postgres release EXEC_ID
                             as an operator: give a job back to its queue whose worker is gone
openexec-postgres backup DIRECTORY
                             the log as a store in files, for `openexec verify`
openexec-postgres checkpoint --create
                             on a node, with its settings: make the checkpoint file that it has not
openexec-postgres healthcheck
                             on a node's host: ask the node for /health
openexec-postgres --version

OPENEXEC_DB_URL              postgresql://USER@HOST[,HOST][:PORT]/DATABASE?sslrootcert=/path/of/ca.pem
                             or postgresql://USER@/DATABASE?host=/directory/of/the/socket
OPENEXEC_DB_PASSWORD_FILE    a file with the password alone; or PGPASSFILE, as of libpq
OPENEXEC_ACCEPT_LOST_COMMITS yes: serve though a failover may lose what was executed
All other settings are those of `openexec --help`. `openexec COMMAND --help` says more of a command that is there too;
over a database abandon, withdraw, complete and unfreeze need an active node.";

/// The commands of the library that are the same over any log.
const OVER: [&str; 7] =
    ["freeze", "unfreeze", "pending", "history", "abandon", "withdraw", "complete"];

/// Runs one command with the process's arguments and environment.
pub fn main(handlers: &'static [Handler]) -> ExitCode {
    program("openexec-postgres", || run(handlers))
}

fn run(handlers: &'static [Handler]) -> Result<(), Failure> {
    let arguments: Result<Vec<String>, _> =
        std::env::args_os().skip(1).map(|a| a.into_string()).collect();
    let arguments = arguments.map_err(|_| usage("an argument is not UTF-8"))?;
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] | ["serve"] => serve(handlers),
        ["init", named @ ..] => init(handlers, &roles(named)?),
        ["import", directory, named @ ..] if !directory.starts_with('-') => {
            import(handlers, directory, &roles(named)?)
        }
        ["check"] => check(handlers),
        [name, ..] if OVER.contains(name) => {
            openexec::cli::over(name, &arguments[1..], handlers, Log::find)
        }
        ["checkpoint", "--create"] => checkpoint(handlers),
        ["healthcheck"] => openexec::cli::healthcheck(&place::held()?),
        ["jobs"] => jobs(),
        ["release", id] if unhex(id).is_some() => release(id),
        ["backup", directory] if !directory.starts_with('-') => backup(directory),
        ["--help" | "-h"] => Page::new().own(HELP).print(),
        ["--version" | "-V"] => {
            Page::new().own(concat!("openexec-postgres ", env!("CARGO_PKG_VERSION"))).print()
        }
        _ => Err(usage("there is no such command, or it takes other words")),
    }
}

/// `--serve-role S --operator-role O`, and `--worker-role W` where there are workers, in any order.
fn roles(words: &[&str]) -> Result<Roles, Failure> {
    let mut named = HashMap::new();
    for pair in words.chunks(2) {
        match pair {
            [name @ ("--serve-role" | "--operator-role" | "--worker-role"), role]
                if named.insert(*name, (*role).to_owned()).is_none() => {}
            _ => return Err(usage("it takes --serve-role, --operator-role and --worker-role")),
        }
    }
    match (named.remove("--serve-role"), named.remove("--operator-role")) {
        (Some(serve), Some(operator)) => {
            let worker = named.remove("--worker-role");
            let all = [Some(&serve), Some(&operator), worker.as_ref()];
            let all: Vec<_> = all.into_iter().flatten().collect();
            if all.iter().collect::<HashSet<_>>().len() < all.len() {
                return Err(usage("each role must be another"));
            }
            Ok(Roles { serve, operator, worker })
        }
        _ => Err(usage("--serve-role and --operator-role are needed")),
    }
}

fn serve(handlers: &'static [Handler]) -> Result<(), Failure> {
    let (own, config) = configured(handlers)?;
    let (link, mode) = (Some(own.link()?), config.policy.mode());
    let leave_jobs = outbox::actions(config.policy.handlers);
    let (name, opened, may_lose) = (own.name(), outbox::Opened::default(), own.may_lose);
    let source = Database { name, link, may_lose, mode, leave_jobs, opened };
    server::serve(config, Box::new(source))
}

fn failed(doing: &'static str) -> impl FnOnce(Fault) -> Failure {
    move |fault| Failure::new(exit::INPUT_OUTPUT, format!("{doing}: {}", fault.text()))
}

/// A connection to a database in which there is no log yet.
fn empty(own: &Own) -> Result<Desk, Failure> {
    let mut desk = connected(own)?;
    if schema::is_there(&mut desk.link).map_err(failed("looking for the schema"))? {
        return Err(exit::configuration(
            "this database has a schema openexec already; it was left as it is",
        ));
    }
    if !schema::is_utf8(&mut desk.link).map_err(failed("reading the encoding"))? {
        return Err(exit::configuration(schema::NOT_UTF8));
    }
    Ok(desk)
}

fn import(handlers: &'static [Handler], directory: &str, roles: &Roles) -> Result<(), Failure> {
    let (own, config) = configured(handlers)?;
    let head = import::read(empty(&own)?, &config, directory.as_ref(), roles)?;
    let (size, root) = (head.size, hex(&head.root));
    Page::new().line("imported: ", format_args!("{size} records, root {root}")).print()
}

fn init(handlers: &'static [Handler], roles: &Roles) -> Result<(), Failure> {
    let (own, config) = configured(handlers)?;
    let guard = config.guard.as_ref();
    guard.map_or(Ok(()), Guard::must_be_absent)?;
    let mut desk = empty(&own)?;
    let store = hex(&random::bytes().map_err(Failure::while_doing("/dev/urandom"))?);
    let identity = Identity { store, mode: config.policy.mode(), created: clock::now() };
    let statements = schema::statements(&identity, roles).map_err(usage)?;
    let statements = format!("BEGIN; {statements} COMMIT");
    desk.link.run(&statements).map_err(failed("making the schema"))?;
    let mut tree = Tree::default();
    tree.push(leaf_hash(identity.line().as_bytes()));
    guard.map_or(Ok(()), |guard| guard.create(&identity, tree.head()))?;
    let (id, mode) = (&identity.store, identity.mode.name());
    Page::new().line("made: ", format_args!("{} ({id}, {mode} mode)", own.name())).print()
}

fn check(handlers: &'static [Handler]) -> Result<(), Failure> {
    let (own, config) = configured(handlers)?;
    openexec::cli::configuration(&config)?;
    let mut say = |label, text| Page::new().line(label, text).print();
    opening::warn(&config, &mut say)?;
    opening::try_handlers(&config, opening::Purpose::Check, &mut say)?;
    let text = config.guard.as_ref().map(Guard::read).transpose()?;
    let holder = random::bytes().map_err(Failure::while_doing("/dev/urandom"))?;
    let mut desk = Desk::new(own.link()?, holder, own.may_lose);
    fit(&mut desk)?;
    desk.only_reads().map_err(failed("reading the log"))?;
    let store = Postgres::open(desk, Arc::default(), Vec::new()).map_err(backup::unopened)?;
    let (identity, log) = (store.identity(), store.log());
    opening::mode_must_match(own.name().as_ref(), identity, config.policy.mode())?;
    let (created, records) = (identity.created, log.head().size);
    let text_of =
        format_args!("{} ({}, made {created}), {records} records", own.name(), identity.store);
    Page::new().line("store: ", text_of).print()?;
    Page::new().own("role: may read and call, and change nothing otherwise").print()?;
    let seen = &store.state().clock;
    let obstacle = Obstacle::to_approvals(&config.policy, created, seen, clock::now());
    if let Some(Obstacle { reason, advice }) = obstacle {
        say("warning: ", format!("nothing can be executed ({reason}): {advice}"))?;
    }
    if let Some((guard, text)) = config.guard.as_ref().zip(text) {
        let saved = guard.hold(text, identity, &log)?;
        let shown = guard.path.display();
        say("checkpoint file: ", format!("{shown}, {} records, extended", saved.head.size))?;
    }
    let tried = config.listen.iter().map(|one| opening::try_listen_at(one, config.may_be_exposed));
    drop(tried.collect::<Result<Vec<_>, _>>()?);
    Page::new().own("address: free").print()
}

/// Makes the checkpoint file of a node that has none, of a log that is there.
fn checkpoint(handlers: &'static [Handler]) -> Result<(), Failure> {
    let (own, config) = configured(handlers)?;
    let unset = "OPENEXEC_CHECKPOINT_FILE is not set; set it as the service has it";
    let guard = config.guard.as_ref().ok_or_else(|| exit::configuration(unset))?;
    guard.must_be_absent()?;
    let mut desk = Desk::new(own.link()?, [0; 16], own.may_lose);
    fit(&mut desk)?;
    let (identity, _) = load::identity(&mut desk).map_err(backup::unopened)?;
    opening::mode_must_match(own.name().as_ref(), &identity, config.policy.mode())?;
    let head = desk.newest().ok_or_else(|| exit::data("there is no batch in this database"))?;
    // What is seen may be lost in a failover; once a later commit has its standby, what was seen before has it too.
    let sql =
        "SELECT openexec.remove_note(0, '', 0) FROM set_config('synchronous_commit', 'on', true)";
    desk.link.value::<bool>(sql, &[]).map_err(failed("waiting for the standby"))?;
    guard.create(&identity, head)?;
    let (path, size) = (guard.path.display(), head.size);
    Page::new().line("made ", format_args!("{path}: {size} records")).print()
}

/// Jobs that workers have taken.
fn jobs() -> Result<(), Failure> {
    const ROWS: i64 = 1000;
    let (own, _) = Own::read()?;
    let link = &mut connected(&own)?.link;
    let mut after = -1_i64;
    loop {
        let sql = "SELECT job.n, id, job.queue, taken_at::text, taken_by::text, coalesce(ignored, '') \
            FROM openexec.job JOIN openexec.open_job USING (n) LEFT JOIN openexec.report USING (id) \
            WHERE job.n > $1 AND taken_at IS NOT NULL ORDER BY job.n LIMIT $2";
        let rows = link.ask(sql, &[(&after, Type::INT8), (&ROWS, Type::INT8)]);
        let rows = rows.map_err(failed("reading the jobs"))?;
        for row in &rows {
            let read = || -> Result<(i64, [String; 5]), tokio_postgres::Error> {
                let text = |at| row.try_get::<_, String>(at);
                Ok((row.try_get(0)?, [text(1)?, text(2)?, text(3)?, text(4)?, text(5)?]))
            };
            let (n, [id, queue, at, by, ignored]) =
                read().map_err(|error| Failure::new(exit::INPUT_OUTPUT, error.to_string()))?;
            after = n;
            let ignored = if ignored.is_empty() {
                ignored
            } else {
                format!("; its report was ignored: {ignored}")
            };
            Page::new()
                .line("", format_args!("{id} {queue}, taken {at} by {by}{ignored}"))
                .print()?;
        }
        if rows.len() < ROWS as usize {
            return Ok(());
        }
    }
}

fn release(id: &str) -> Result<(), Failure> {
    let (own, _) = Own::read()?;
    let status: String = connected(&own)?
        .link
        .value("SELECT openexec.release($1)", &[(&id, Type::TEXT)])
        .map_err(failed("releasing"))?;
    let refused = match status.as_str() {
        "released" => return Page::new().own("released: it waits in its queue again").print(),
        "waits" => "it waits in its queue: nobody has taken it",
        "reported" => "not released: its worker has reported what became of it",
        "completed" => "not released: what became of it is recorded",
        _ => "no job has this exec_id",
    };
    Err(exit::data(refused))
}

fn backup(directory: &str) -> Result<(), Failure> {
    let (own, _) = Own::read()?;
    let head = backup::write(&mut connected(&own)?, directory.as_ref())?;
    let (size, root) = (head.size, hex(&head.root));
    Page::new().line("written: ", format_args!("{size} records, root {root}")).print()
}

#[cfg(test)]
mod tests {
    use super::{HELP, OVER};

    #[test]
    fn every_option_of_a_command_of_the_library_is_told() {
        for name in OVER {
            let command = openexec::cli::COMMANDS.iter().find(|command| command.name() == name);
            let told = HELP.split(&format!("openexec-postgres {name}")).nth(1);
            let told = told.and_then(|rest| rest.split("openexec-postgres").next());
            for (option, ..) in command.expect("a command").options {
                assert!(told.is_some_and(|told| told.contains(option)), "{name} {option}");
            }
        }
    }
}
