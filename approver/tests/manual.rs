//! The manual page, `docs/openexec-approve.1`, is made from the table that `--help` prints.
//! `OPENEXEC_WRITE_MANUAL=1 cargo test --test manual` writes it anew.

use openexec_approve::options::COMMANDS;

const EXITS: &[(u8, &str)] = &[
    (0, "what was asked for is done"),
    (64, "an unknown command or option, or nobody to be asked"),
    (65, "the data is wrong, the answer was no, or the service refuses"),
    (70, "a bug"),
    (74, "input or output failed, or the service cannot be reached"),
    (78, "a key or a token is refused"),
];

/// Text of ours as roff takes it: no line begins a request, no hyphen becomes a dash.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq").replace('`', "")
}

fn page() -> String {
    let mut page = format!(
        ".TH OPENEXEC\\-APPROVE 1 \"\" \"openexec\\-approve {}\"\n.SH NAME\nopenexec\\-approve \\- see what is \
         proposed, and say yes or no\n.SH SYNOPSIS\n.B openexec\\-approve\nCOMMAND [OPTIONS]\n.SH DESCRIPTION\n\
         It shows what an agent proposes, asks, and signs a yes or a no with the approver\\(aqs own key.\n\
         It runs on the approver\\(aqs machine, never on the execution host.\n\
         What it signs is the hash of what it showed.\n.SH COMMANDS\n",
        env!("CARGO_PKG_VERSION")
    );
    for command in COMMANDS {
        let word = &command.usage[command.name().len()..];
        let usage = format!("{} [OPTIONS] {}", command.name(), word.trim());
        page.push_str(&format!(".SS {}\n", escaped(usage.trim_end())));
        page.push_str(&format!("{}.\n", escaped(command.summary)));
        for sentence in command.about.split_inclusive(". ") {
            page.push_str(&format!("{}\n", escaped(sentence.trim_end())));
        }
        for (name, value, meaning) in command.all_options() {
            let option = format!("{name} {value}");
            page.push_str(&format!(".TP\n.B {}\n", escaped(option.trim_end())));
            page.push_str(&format!("{}\n", escaped(meaning)));
        }
    }
    page.push_str(".SH EXIT STATUS\n");
    for (code, meaning) in EXITS {
        page.push_str(&format!(".TP\n.B {code}\n{}\n", escaped(meaning)));
    }
    page
}

#[test]
fn the_page_is_what_the_table_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openexec-approve.1");
    if std::env::var_os("OPENEXEC_WRITE_MANUAL").is_some() {
        std::fs::write(path, page()).expect("written");
    }
    let found = std::fs::read_to_string(path).expect("docs/openexec-approve.1");
    assert!(found == page(), "docs/openexec-approve.1 is not what the table says; write it anew");
}
