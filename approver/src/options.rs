//! The commands: one table, from which the help, the manual page and what each command takes follow; and the options
//! of one command: `--name value` or `--name=value`, and a free word.

use openexec::sys::exit::Failure;

use crate::{offline, online, page, usage, waiting};

/// One command, as people are told of it and as its arguments are read.
pub struct Command {
    /// Its name, and the free word that it takes, as `approve [ID]`.
    pub usage: &'static str,
    pub(crate) run: fn(&Options) -> Result<(), Failure>,
    /// A line in the list of commands.
    pub summary: &'static str,
    /// What else to know before using it: whole sentences.
    pub about: &'static str,
    pub options: &'static [&'static [CommandOption]],
}

/// An option's name, the value that it takes (empty for a flag), and its meaning.
pub type CommandOption = (&'static str, &'static str, &'static str);

const SERVICE: &[CommandOption] = &[
    ("--url", "URL", "the service: https://HOST, http://127.0.0.1:PORT or unix:/SOCKET; required"),
    ("--token-file", "FILE", "your token, where the service has a callers file"),
];
const KEY: &[CommandOption] = &[(
    "--key",
    "KEY",
    "the approver's key: a PEM private key, an OpenSSH private key, or the OpenSSH public key of one that ssh-agent \
     or a security key holds; required",
)];
const ANSWER: &[CommandOption] = &[("--yes", "", "do not ask")];
const OUTSIDE: &[CommandOption] = &[
    ("--print-message", "", "print the bytes to be signed by a KMS or HSM, and sign nothing"),
    ("--message", "FILE", "what --print-message printed; with --signature"),
    ("--signature", "FILE", "its signature, made elsewhere; --key is then the PEM public key"),
];
const LIFE: &[CommandOption] =
    &[("--ttl", "SECONDS", "how long the approval holds; 900 unless given, at most 604800")];

pub const COMMANDS: &[Command] = &[
    Command {
        usage: "list",
        run: waiting::list,
        summary: "list what waits for an approval",
        about: "",
        options: &[SERVICE],
    },
    Command {
        usage: "show ID",
        run: online::show,
        summary: "show one proposal, whole",
        about: "ID is its exec_id, which `list` shows. It is hashed here: a proposal of another hash is refused.",
        options: &[SERVICE],
    },
    Command {
        usage: "approve [ID]",
        run: online::approve,
        summary: "show a proposal, ask, sign it and hand in the approval",
        about: "Without ID it goes through all that wait, one after another. One that fails is passed by, and the exit \
                code says so at the end. What is signed is the exec_id of what was shown, until the proposal expires \
                or --ttl is over.",
        options: &[
            SERVICE,
            KEY,
            &[
                ("--tenant", "T", "refuse a proposal of another tenant"),
                (
                    "--ttl",
                    "SECONDS",
                    "how long the approval holds; until the proposal expires unless given",
                ),
            ],
            OUTSIDE,
            ANSWER,
        ],
    },
    Command {
        usage: "reject ID",
        run: online::reject,
        summary: "show a proposal, ask, and hand in a signed no",
        about: "A rejection is final.",
        options: &[
            SERVICE,
            KEY,
            &[
                (
                    "--justification",
                    "TEXT",
                    "why, up to 500 characters; the caller is told; required",
                ),
                ("--tenant", "T", "refuse a proposal of another tenant"),
            ],
            OUTSIDE,
            ANSWER,
        ],
    },
    Command {
        usage: "page",
        run: page::page,
        summary: "show proposals on a page in this machine's browser, to approve or reject them there",
        about: "It prints the page's address, which is for you alone: whoever has it decides with your key. The page \
                ends with this command. A passphrase is asked for here, and so is a touch of a security key.",
        options: &[
            SERVICE,
            KEY,
            &[
                ("--tenant", "T", "refuse proposals of another tenant"),
                (
                    "--ttl",
                    "SECONDS",
                    "how long approvals hold; until the proposal expires unless given",
                ),
            ],
        ],
    },
    Command {
        usage: "sign [FILE]",
        run: offline::sign,
        summary: "show a request, ask, and print a signed approval of it; needs no network",
        about: "FILE holds a request, or a line of `openexec pending`; without it that comes on standard input. It \
                signs the hash of what it showed.",
        options: &[
            KEY,
            &[("--tenant", "T", "the service's CLAWSHIELD_TENANT_ID; required")],
            LIFE,
            &[("--bind-nonce", "", "approve it under this nonce alone")],
            OUTSIDE,
            ANSWER,
        ],
    },
];

impl Command {
    pub fn name(&self) -> &'static str {
        self.usage.split_once(' ').map_or(self.usage, |(name, _)| name)
    }

    pub fn all_options(&self) -> impl Iterator<Item = &'static CommandOption> {
        self.options.iter().flat_map(|options| options.iter())
    }
}

/// The command of this name.
///
/// # Errors
/// There is none: exit 64.
pub(crate) fn named(name: &str) -> Result<&'static Command, Failure> {
    let found = COMMANDS.iter().find(|command| command.name() == name);
    found.ok_or_else(|| usage(format!("there is no command {name:?}")))
}

pub(crate) const EXITS: &str = "exit: 0; 64 usage; 65 the data is wrong, or the service refuses; 70 a bug; 74 input/output; \
     78 a key or a token is refused";

/// `--help`, on one screen.
pub(crate) fn all() -> String {
    let mut text = "See what is proposed, and say yes or no with a key of your own.\n\n\
                    usage: openexec-approve COMMAND [OPTIONS]   (COMMAND --help says more)\n\n"
        .to_owned();
    for command in COMMANDS {
        text.push_str(&format!("  {:<13}{}\n", command.usage, command.summary));
    }
    text.push_str("  --help, -h   this text\n  --version    the version\n\n");
    text.push_str(&wrapped(EXITS, ""));
    text
}

/// `COMMAND --help`.
pub(crate) fn one(command: &Command) -> String {
    let (name, rest) = command.usage.split_at(command.name().len());
    let mut text =
        format!("usage: openexec-approve {name} [OPTIONS]{rest}\n\n{}\n", command.summary);
    if !command.about.is_empty() {
        text.push_str(&format!("\n{}", wrapped(command.about, "")));
    }
    text.push('\n');
    for (name, value, meaning) in command.all_options() {
        let head = format!("  {:<24}", format!("{name} {value}"));
        text.push_str(&wrapped(&format!("{head}{meaning}"), "                          "));
    }
    text
}

fn wrapped(text: &str, indent: &str) -> String {
    const COLUMNS: usize = 100;
    let (mut lines, mut line) = (String::new(), String::new());
    for word in text.split_inclusive(' ') {
        if line.len() + word.trim_end().len() > COLUMNS {
            lines.push_str(line.trim_end());
            lines.push('\n');
            line = indent.to_owned();
        }
        line.push_str(word);
    }
    lines + line.trim_end() + "\n"
}

pub struct Options {
    /// A flag's value is empty.
    named: Vec<(&'static str, String)>,
    word: Option<String>,
}

impl Options {
    /// Takes the options that the command has, each at most once, and its free word.
    pub(crate) fn read(arguments: &[String], command: &Command) -> Result<Self, Failure> {
        let mut options = Options { named: Vec::new(), word: None };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            if !argument.starts_with("--") {
                if options.word.is_some() || !command.usage.contains(' ') {
                    return Err(usage(format!("unexpected: {argument}")));
                }
                options.word = Some(argument.clone());
                continue;
            }
            let (name, value) = match argument.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (argument.as_str(), None),
            };
            let known = command.all_options().find(|(known, ..)| *known == name);
            let Some((name, takes, _)) = known else {
                return Err(usage(format!("there is no option {name} here")));
            };
            if options.has(name) && !takes.is_empty() {
                return Err(usage(format!("{name} is given twice")));
            }
            let value = match (takes.is_empty(), value) {
                (true, None) => Some(String::new()),
                (true, Some(_)) => return Err(usage(format!("{name} takes no value"))),
                (false, value) => value.or_else(|| rest.next().cloned()),
            };
            let value = value.ok_or_else(|| usage(format!("{name} needs a value")))?;
            options.named.push((name, value));
        }
        Ok(options)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub(crate) fn word(&self) -> Option<&str> {
        self.word.as_deref()
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.named.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn required(&self, name: &'static str) -> Result<&str, Failure> {
        self.get(name).ok_or_else(|| usage(format!("{name} is required")))
    }
}
