//! The manual page, `docs/openexec.1`, is made from the tables that `--help` prints.
//! `OPENEXEC_WRITE_MANUAL=1 cargo test --test manual` writes it anew.

use openexec::cli::COMMANDS;
use openexec::serve::config::SETTINGS;

const EXITS: &[(u8, &str)] = &[
    (0, "a command ended well; serve never ends with it"),
    (64, "an unknown command or option"),
    (
        65,
        "the data is wrong: a damaged store, a refused request; or a question was not answered with yes",
    ),
    (70, "a bug"),
    (74, "input or output failed"),
    (
        75,
        "another process uses the store or the address; abandon, complete and withdraw: the service has not done it in time, and goes on",
    ),
    (78, "the configuration is refused"),
];

/// Text of ours as roff takes it: no line begins a request, no hyphen becomes a dash.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq").replace('`', "")
}

fn page() -> String {
    let mut page = format!(
        ".TH OPENEXEC 1 \"\" \"openexec {}\"\n.SH NAME\nopenexec \\- execute what was approved, as \
         approved, once\n.SH SYNOPSIS\n.B openexec\n[COMMAND] [OPTIONS]\n.SH DESCRIPTION\n\
         OpenExec is the boundary between an agent that proposes and the infrastructure that acts.\n\
         It executes only what somebody with authority approved, exactly as approved, at most once,\n\
         and keeps a receipt of every attempt.\nWithout a command it serves.\n.SH COMMANDS\n",
        env!("CARGO_PKG_VERSION")
    );
    for command in COMMANDS {
        let options = if command.options.is_empty() { "" } else { "[OPTIONS] " };
        let word = &command.usage[command.name().len()..];
        let usage = format!("{} {options}{}", command.name(), word.trim());
        page.push_str(&format!(".SS {}\n", escaped(usage.trim_end())));
        page.push_str(&format!("{}.\n", escaped(command.summary)));
        for sentence in command.about.split_inclusive(". ") {
            page.push_str(&format!("{}\n", escaped(sentence.trim_end())));
        }
        for (name, value, meaning) in command.options {
            let option = format!("{name} {value}");
            page.push_str(&format!(".TP\n.B {}\n", escaped(option.trim_end())));
            page.push_str(&format!("{}\n", escaped(meaning)));
        }
    }
    page.push_str(".SH ENVIRONMENT\n");
    for setting in SETTINGS {
        page.push_str(&format!(".TP\n.B {}\n{}\n", setting.name, escaped(&setting.help())));
    }
    page.push_str(".SH EXIT STATUS\n");
    for (code, meaning) in EXITS {
        page.push_str(&format!(".TP\n.B {code}\n{}\n", escaped(meaning)));
    }
    page
}

#[test]
fn the_page_is_what_the_tables_say() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openexec.1");
    if std::env::var_os("OPENEXEC_WRITE_MANUAL").is_some() {
        std::fs::write(path, page()).expect("written");
    }
    let found = std::fs::read_to_string(path).expect("docs/openexec.1");
    assert!(found == page(), "docs/openexec.1 is not what the tables say; write it anew");
}

#[test]
fn it_names_every_exit_code_of_the_program() {
    use openexec::sys::exit;
    let codes: Vec<u8> = EXITS.iter().map(|(code, _)| *code).collect();
    let ours =
        [exit::USAGE, exit::DATA, exit::BUG, exit::INPUT_OUTPUT, exit::IN_USE, exit::CONFIGURATION];
    assert_eq!(codes[1..], ours);
}
