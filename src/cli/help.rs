//! The commands: one table, from which the help, the manual page and the options that each command takes follow.

use super::options::Options;
use super::{
    actions, backup, check, checkpoint, evidence, freeze, hash, healthcheck, history, init, own,
    pending, requests, serve, token, usage, verify,
};
use crate::serve::config::SETTINGS;
use crate::sys::exit::Failure;

/// One command, as people are told of it and as its arguments are read.
pub struct Command {
    /// Its name, and the free words that it takes, as `hash [FILE]`.
    pub usage: &'static str,
    pub(super) run: fn(&Options) -> Result<(), Failure>,
    /// A line in the list of commands.
    pub summary: &'static str,
    /// What else to know before using it: whole sentences.
    pub about: &'static str,
    pub options: &'static [CommandOption],
}

/// An option's name, the value that it takes (empty for a flag), and its meaning.
pub type CommandOption = (&'static str, &'static str, &'static str);

pub const COMMANDS: &[Command] = &[
    command("serve", serve, "run the service (also without a command)")
        .about(
            "It runs until something ends it; SIGKILL is the tested way to stop it. Settings come \
             from the environment.",
        )
        .options(&[
            ("--listen", "ADDRESS", "where to listen, instead of OPENEXEC_LISTEN"),
            ("--host", "IP", "the address alone; the port stays 5000 unless --port says otherwise"),
            (
                "--port",
                "PORT",
                "the port alone; both loopback addresses are served unless --host says otherwise",
            ),
        ]),
    command("init", init::run, "make a store for the configured mode").about(
        "It refuses a directory that holds a store. In clawshield mode `serve` never makes a \
             store by itself.",
    ),
    command("check", check::run, "test configuration, keys, clock, store and space, as nginx -t")
        .about(
            "It prints a line for each thing that is in order, and ends with the code that \
             `serve` would end with. It leaves nothing behind.",
        ),
    command("token NAME", token, "make a token for a caller, and its line of the callers file")
        .about(
            "The first line is the token, for the caller alone. The second goes into the file that \
             OPENEXEC_CALLERS_FILE names, in the array \"callers\"; it has the token's hash. Nothing is \
             kept and nothing is changed.",
        ),
    command("hash [FILE]", hash::run, "print the hashes of a request, from FILE or standard input")
        .about(
            "The hashes are what an approval names: action_hash, exec_id (null without a nonce) \
             and legacy_action_hash.",
        ),
    command("pending", pending, "list what waits for an approval, and what is owed a receipt")
        .about(
            "On a terminal it prints a text; otherwise one JSON object a line, oldest first, \
             which `openexec-approve sign` takes as its request. Claims that are owed a receipt come \
             first and have \"owed\":true.",
        ),
    command("freeze", freeze::freeze, "stop new executions, now and after restarts")
        .about("What runs now finishes. Replays and reads go on. `openexec unfreeze` ends it.")
        .options(&[(
            "--reason",
            "TEXT",
            "one line of at most 400 bytes, which callers are told; the log keeps its first 100 characters",
        )]),
    command("unfreeze", freeze::unfreeze, "let executions go on")
        .about(
            "It lists the claims that it will complete and the asynchronous proposals that execute now if they are \
             approved, and asks. Where there are any, it needs a terminal or `--yes`; otherwise it ends with 64 and \
             changes nothing.",
        )
        .options(&[("--yes", "", "do not ask")]),
    command("abandon ID", requests::abandon, "end a claim that is owed a receipt, as indeterminate")
        .about(
            "ID is the exec_id that `openexec pending` shows. It shows the claim and asks; \
             without a terminal and without `--yes` it ends with 64 and changes nothing. The claim is never run \
             again, but a job that it left in an outbox directory is for the worker still: move that to done/. The service does it within 5 s, frozen or not. Without a service this command \
             does it, and needs the settings of the service.",
        )
        .options(&[("--yes", "", "do not ask")]),
    command("withdraw [ID]", requests::withdraw, "end a proposal that is pending, or all of them")
        .about(
            "ID is the exec_id that `openexec pending` shows. It shows what is pending and asks; \
             without a terminal and without `--yes` it ends with 64 and changes nothing. If it is asked for again, the answer is \
             `withdrawn`, with any approval. The service does it within 5 s, frozen or not. Without a \
             service this command does it, and needs the settings of the service.",
        )
        .options(&[
            ("--all", "", "every proposal that is pending, instead of ID"),
            ("--yes", "", "do not ask"),
        ]),
    command("complete ID", requests::complete, "record, on your word, what became of a job")
        .about(
            "ID is the exec_id. It is for a job that no worker will report, and for an execution that \
             is indeterminate: it stands beside the receipt and changes nothing in it. It shows the \
             claim and asks; without a terminal and without `--yes` it ends with 64 and changes nothing. The service \
             records it within 5 s, frozen or not. Without a service this command does it, and needs \
             the settings of the service.",
        )
        .options(&[
            ("--outcome", "OUTCOME", "executed or failed; required"),
            ("--note", "TEXT", "how it is known: one line of at most 400 bytes; required"),
            ("--yes", "", "do not ask"),
        ]),
    command("history [DIR]", history::run, "list what happened: executions, proposals, refusals")
        .about(
            "It reads the store in DIR, beside a live service too, and changes nothing. A row has \
             the time of its state, the id's first digits, the state, milliseconds, action, caller, the keys that said \
             yes, and a reason; what has not ended stands last. It holds the log to its roots, and checks no \
             signature: `openexec verify` does. A damaged store ends with 65 before any row.",
        )
        .options(&[
            ("--since", "TIME", "something of it happened then or later: a date or RFC 3339, UTC"),
            ("--until", "TIME", "something of it happened before that"),
            ("--action", "NAME", "of this action"),
            ("--caller", "NAME", "of this caller"),
            ("--key", "KEY", "this key or person said yes or no: a name, a fingerprint or a public key"),
            (
                "--state",
                "STATE",
                "one or several with commas: pending, executing, executed, failed, indeterminate, rejected, \
                 withdrawn, expired, refused; open (a job nobody reported), completed (somebody did), stuck (all that wait for somebody)",
            ),
            ("--json", "", "one JSON object a line, with every record of it"),
        ]),
    command("evidence ID [DIR]", evidence::run, "print all that the log has of one id, with proofs")
        .about(
            "ID is the exec_id, or the first eight digits of it or more. It reads the store in DIR, beside a \
             live service too, and changes nothing. The JSON goes to standard output, for `openexec verify \
             --evidence` and docs/verify_evidence.py. Its checkpoint is the one in OPENEXEC_CHECKPOINT_FILE, \
             where that is signed and covers all; otherwise nobody signed it, and less is shown.",
        )
        .options(&[(
            "--checkpoint",
            "FILE",
            "the newest checkpoint, instead of OPENEXEC_CHECKPOINT_FILE and beside DIR",
        )]),
    command("verify [DIR]", verify::run, "audit a whole store, or check a proof or evidence")
        .about(
            "It reads every record of the store in DIR, beside a live service too, and changes \
             nothing. With --proof and --evidence it needs no store. Of evidence it says for each statement \
             whether it is proven, attested by the log's key, or not shown.",
        )
        .options(&[
            (
                "--keys",
                "FILE",
                "the keys that counted must be among these: a keys file or public keys, every key ever used",
            ),
            ("--checkpoint", "FILE", "the store must extend this checkpoint"),
            ("--log-key", "VKEY", "the log's public key, for --checkpoint, --proof and --evidence"),
            ("--evidence", "FILE", "say what this file shows; goes with --log-key, --keys, --json"),
            ("--proof", "FILE", "check this proof of a receipt, offline; needs --log-key alone"),
            ("--witness", "VKEY...", "a witness's public key, as often as there are witnesses, for --checkpoint"),
            ("--quorum", "N", "how many of them must have cosigned the checkpoint; without it all"),
            ("--json", "", "print one JSON object"),
        ]),
    command("checkpoint [DIR]", checkpoint::run, "print how far the log has come")
        .about("Without DIR it prints the checkpoint file, once the store is found to extend it.")
        .options(&[
            ("--create", "", "make the checkpoint file of a store that has none"),
            ("--vkey", "", "print the log's public key"),
            ("--add-checkpoint", "SIZE", "print what to send to a witness that has seen SIZE records, 0 at first"),
            ("--cosignatures", "FILE", "keep what witnesses answered: FILE is what was sent, and behind it their lines"),
            ("--witness", "VKEY...", "a witness's public key, for --cosignatures, as often as there are witnesses"),
            ("--quorum", "N", "how many of them must have answered; without it all"),
        ]),
    command("backup DIR", backup::run, "copy a store beside its service, into DIR or, with -, as a tar")
        .about(
            "DIR must not exist, or be empty; it has its name only once the copy is whole. With - a tar \
             goes to standard output. The copy has all that was committed when the command began. The copy is \
             frozen, since it does not know what was executed after it: docs/runbook.md, \"Restored backup\".",
        ),
    command("healthcheck", healthcheck::run, "ask the running service for /health")
        .about("It finds the address in the file LOCK of the store."),
    command("actions", actions, "list the registered handlers"),
];

/// A name and its word, what runs, and the line in the list.
const fn command(
    usage: &'static str,
    run: fn(&Options) -> Result<(), Failure>,
    summary: &'static str,
) -> Command {
    Command { usage, run, summary, about: "", options: &[] }
}

impl Command {
    const fn about(self, about: &'static str) -> Self {
        Command { about, ..self }
    }

    const fn options(self, options: &'static [CommandOption]) -> Self {
        Command { options, ..self }
    }

    pub fn name(&self) -> &'static str {
        self.usage.split_once(' ').map_or(self.usage, |(name, _)| name)
    }

    /// How many free words it takes.
    pub fn words(&self) -> usize {
        self.usage.matches(' ').count()
    }
}

/// The command of this name.
///
/// # Errors
/// There is none: exit 64.
pub fn named(name: &str) -> Result<&'static Command, Failure> {
    let found = COMMANDS.iter().find(|command| command.name() == name);
    found.ok_or_else(|| match name {
        "approve" => usage("this program can approve nothing; `openexec-approve sign` does"),
        _ => usage(format!("there is no command {name:?}")),
    })
}

/// `openexec --help`, on one screen.
pub fn all() -> Result<(), Failure> {
    let mut text = "OpenExec executes what was approved, as approved, once.\n\
                    usage: openexec [COMMAND] [OPTIONS] | --version   (openexec COMMAND --help says more)\n\n"
        .to_owned();
    for command in COMMANDS {
        text.push_str(&format!("  {:<13}{}\n", command.name(), command.summary));
    }
    text.push_str("\nsettings, from the environment:\n");
    for setting in SETTINGS {
        text.push_str(&format!("  {:<34}{}\n", setting.name, setting.help()));
    }
    text.push_str(&format!("\n{EXIT_CODES}"));
    own(text.trim_end())
}

const EXIT_CODES: &str = "exit: 0; 64 usage; 65 wrong data; 70 a bug; 74 input/output; 75 store or address in use; 78 configuration\n";

/// `openexec COMMAND --help`.
pub fn one(command: &Command) -> Result<(), Failure> {
    let summary = command.summary;
    let (name, rest) = command.usage.split_at(command.name().len());
    let options = if command.options.is_empty() { "" } else { " [OPTIONS]" };
    let mut text = format!("usage: openexec {name}{options}{rest}\n\n{summary}\n");
    if !command.about.is_empty() {
        text.push_str(&format!("\n{}\n", command.about.replace(". ", ".\n")));
    }
    if !command.options.is_empty() {
        text.push('\n');
    }
    for (name, value, meaning) in command.options {
        text.push_str(&format!("  {:<22}{meaning}\n", format!("{name} {value}")));
    }
    own(text.trim_end())
}
