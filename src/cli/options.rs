//! The options of one command: `--name value` or `--name=value`, and free words.

use std::path::PathBuf;

use super::existing::{Existing, Find};
use super::{Command, refused, usage};
use crate::core::handler::Handler;
use crate::serve::config::{self, Config, Environment};
use crate::sys::exit::Failure;

pub struct Options {
    /// A flag's value is empty.
    named: Vec<(&'static str, String)>,
    words: Vec<String>,
    pub handlers: &'static [Handler],
    find: Find,
}

impl Options {
    /// Takes the options that the command has, each at most once, and its free words.
    pub fn read(
        arguments: &[String],
        command: &Command,
        handlers: &'static [Handler],
        find: Find,
    ) -> Result<Self, Failure> {
        let mut options = Options { named: Vec::new(), words: Vec::new(), handlers, find };
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
            let Some((name, takes, _)) = known else {
                return Err(usage(format!("there is no option {name} here")));
            };
            if options.has(name) && !takes.is_empty() && !takes.ends_with("...") {
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
        if let Some(word) = options.words.get(command.words()) {
            return Err(usage(format!("unexpected: {word}")));
        }
        Ok(options)
    }

    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub fn word(&self) -> Option<&str> {
        self.words.first().map(String::as_str)
    }

    pub fn second_word(&self) -> Option<&str> {
        self.words.get(1).map(String::as_str)
    }

    /// The environment's names of ours, and where these options say to listen.
    pub fn environment(&self) -> Result<Environment, Failure> {
        let mut environment = config::environment().map_err(refused)?;
        environment.extend(self.listen()?.map(|listen| ("OPENEXEC_LISTEN".to_owned(), listen)));
        Ok(environment)
    }

    fn listen(&self) -> Result<Option<String>, Failure> {
        Ok(match (self.get("--listen"), self.get("--host"), self.get("--port")) {
            (Some(_), Some(_), _) | (Some(_), _, Some(_)) => {
                return Err(usage("give --listen, or --host and --port, not both"));
            }
            (listen, None, None) => listen.map(str::to_owned),
            (None, None, Some(port)) => Some(format!("loopback:{port}")),
            (None, Some(host), port) => {
                let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
                Some(format!("{host}:{}", port.unwrap_or("5000")))
            }
        })
    }

    /// The directory of a store: the one that is named, or that of the configuration.
    pub fn store(&self, directory: Option<&str>) -> Result<PathBuf, Failure> {
        let configured = || config::store_path(&self.environment()?).map_err(refused);
        directory.map_or_else(configured, |path| Ok(PathBuf::from(path)))
    }

    /// The log that the command is about: that of the configuration, or in this directory.
    pub fn existing(&self, directory: Option<&str>) -> Result<Box<dyn Existing + '_>, Failure> {
        (self.find)(self, directory)
    }

    /// The whole configuration.
    pub fn config(&self) -> Result<Config, Failure> {
        config::read(&self.environment()?, self.handlers).map_err(refused)
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// The values of an option that may be given several times.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        let named = self.named.iter().filter(move |(known, _)| *known == name);
        named.map(|(_, value)| value.as_str())
    }
}
