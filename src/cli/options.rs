//! The options of one command: `--name value` or `--name=value`, and free words.

use super::usage;
use crate::exit::Failure;

#[derive(Default)]
pub struct Options {
    named: Vec<(String, String)>,
    flags: Vec<String>,
    pub words: Vec<String>,
}

impl Options {
    /// For a command that takes nothing.
    pub fn none(arguments: &[String]) -> Result<Self, Failure> {
        Self::read(arguments, &[], 0)
    }

    /// Takes the options named in `known`, each at most once, and at most `words_max` free words.
    pub fn read(arguments: &[String], known: &[&str], words_max: usize) -> Result<Self, Failure> {
        Self::read_with_flags(arguments, known, &[], words_max)
    }

    /// As [`Options::read`], and `flags`, which take no value.
    pub fn read_with_flags(
        arguments: &[String],
        known: &[&str],
        flags: &[&str],
        words_max: usize,
    ) -> Result<Self, Failure> {
        let mut options = Options::default();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            if !argument.starts_with("--") {
                options.words.push(argument.clone());
                continue;
            }
            if flags.contains(&argument.as_str()) {
                options.flags.push(argument.clone());
                continue;
            }
            let (name, value) = match argument.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (argument.as_str(), None),
            };
            if !known.contains(&name) {
                return Err(usage(&format!("there is no option {name} here")));
            }
            if options.get(name).is_some() {
                return Err(usage(&format!("{name} is given twice")));
            }
            let Some(value) = value.or_else(|| rest.next().cloned()) else {
                return Err(usage(&format!("{name} needs a value")));
            };
            options.named.push((name.to_owned(), value));
        }
        if options.words.len() > words_max {
            return Err(usage(&format!("unexpected: {}", options.words[words_max])));
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
