//! The options of one command: `--name value` or `--name=value`, and free words.

use super::{Command, usage};
use crate::sys::exit::Failure;

#[derive(Default)]
pub struct Options {
    named: Vec<(String, String)>,
    flags: Vec<String>,
    pub words: Vec<String>,
}

impl Options {
    /// Takes the options that the command has, each at most once, and its free word.
    pub fn read(arguments: &[String], command: &Command) -> Result<Self, Failure> {
        let mut options = Options::default();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            if !argument.starts_with("--") {
                options.words.push(argument.clone());
                continue;
            }
            let (name, value) = match argument.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (argument.as_str(), None),
            };
            let known = command.options.iter().find(|(known, ..)| *known == name);
            let Some((_, takes, _)) = known else {
                return Err(usage(&format!("there is no option {name} here")));
            };
            if takes.is_empty() {
                if value.is_some() {
                    return Err(usage(&format!("{name} takes no value")));
                }
                options.flags.push(argument.clone());
                continue;
            }
            if options.get(name).is_some() {
                return Err(usage(&format!("{name} is given twice")));
            }
            let Some(value) = value.or_else(|| rest.next().cloned()) else {
                return Err(usage(&format!("{name} needs a value")));
            };
            options.named.push((name.to_owned(), value));
        }
        let words_max = usize::from(!command.word.is_empty());
        if let Some(word) = options.words.get(words_max) {
            return Err(usage(&format!("unexpected: {word}")));
        }
        Ok(options)
    }

    pub fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|known| known == flag)
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.named.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}
