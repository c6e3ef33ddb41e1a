//! A log that is there, as commands see it beside its service: they read it without its lock, and leave word for who
//! writes it. Where it is kept is behind [`Existing`]: in files ([`super::files`]), or wherever another package has it.

use super::options::Options;
use crate::core::record::Record;
use crate::evidence::history::Readable;
use crate::serve::config::Config;
use crate::serve::opening::TORN;
use crate::store::open::Torn;
use crate::sys::exit::Failure;
use crate::sys::page::Page;

/// Finds the log that a command is about: that of the configuration, or of the directory that is named.
pub type Find = for<'a> fn(&'a Options, Option<&str>) -> Result<Box<dyn Existing + 'a>, Failure>;

pub trait Existing: Readable {
    /// The settings of its service, as whoever runs the command has them.
    ///
    /// # Errors
    /// They are refused.
    fn config(&self) -> Result<Config, Failure>;

    /// Has these records written, if they may be: who asked looks afterwards.
    ///
    /// # Errors
    /// Nobody could be asked, or nobody is there to do it.
    fn write(&self, lines: &[String]) -> Result<(), Failure>;

    /// Whether an operator has stopped executions.
    ///
    /// # Errors
    /// It cannot be told.
    fn is_frozen(&self) -> Result<bool, Failure>;

    /// Stops them, and gives what to say of it.
    ///
    /// # Errors
    /// They are not stopped, as far as is known.
    fn freeze(&self, reason: &str) -> Result<&'static str, Failure>;

    /// Lets them go on; whether they were stopped.
    ///
    /// # Errors
    /// They are still stopped, as far as is known.
    fn unfreeze(&self) -> Result<bool, Failure>;
}

impl dyn Existing + '_ {
    /// Gives every record to `take`, in their order.
    pub fn each_record(&self, take: &mut dyn FnMut(&Record, &str)) -> Result<(), Failure> {
        let (_, tail) = self.each(&mut |seen| {
            let (record, line) = seen.record()?;
            take(&record, line);
            Ok(())
        })?;
        tail.into_iter().for_each(say_tail);
        Ok(())
    }
}

/// What stands behind the last batch.
pub fn say_tail((name, byte): (String, u64)) {
    say(&format!(
        "what stands in {name} from byte {byte} on is no whole batch: it is being written, or was cut \
         short, and the next start tells"
    ));
}

/// What was removed by opening it for writing.
pub fn say_torn(torn: &Torn) {
    say(&format!("{TORN}; copy: {}", torn.copy.as_deref().unwrap_or("none could be made")));
}

/// To people, beside a list. Nobody listening changes nothing.
pub fn say(sentence: &str) {
    Page::new().line("openexec: ", sentence).say();
}
