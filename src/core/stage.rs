//! How far a proposal is: a pure function of how far it was and of what is recorded next (design section 17).
//!
//! Invariant: of claim, rejection and closing one is ever recorded, the first; what is over stays over.

use crate::core::line::words;
use crate::core::problem::Code;

/// How far. Of what needs no approval there is no proposal: it begins with its claim.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Stage {
    #[default]
    New,
    /// It lacks approvals. If asynchronous, it executes by itself once it has them.
    Pending {
        asynchronous: bool,
    },
    /// It is claimed, and owed its receipt.
    Executing,
    Executed,
    /// It was rejected or closed.
    Over,
}

words! {
    /// How a proposal was closed: it ended without a claim and without a rejection.
    How {
        Withdrawn = "withdrawn",
        Expired = "expired",
        /// It was approved, and by then something else refused it.
        Refused = "refused",
    }
}

impl How {
    /// What everybody gets from then on who asks for it.
    pub const fn code(self) -> Code {
        match self {
            How::Withdrawn => Code::Withdrawn,
            How::Expired => Code::Expired,
            How::Refused => Code::Refused,
        }
    }
}

/// What a record says of a proposal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Propose {
        asynchronous: bool,
    },
    BecomeAsynchronous,
    Approve,
    /// A rejection or a closing.
    End,
    Claim,
    Receipt,
}

impl Stage {
    /// How far it is after this.
    ///
    /// # Errors
    /// The sentence says why that may not stand there.
    pub fn after(self, step: Step) -> Result<Stage, &'static str> {
        use self::Stage::{Executed, Executing, New, Over, Pending};
        match (self, step) {
            (New, Step::Propose { asynchronous }) => Ok(Pending { asynchronous }),
            (Pending { asynchronous: false }, Step::BecomeAsynchronous) => {
                Ok(Pending { asynchronous: true })
            }
            (Pending { .. }, Step::Approve) => Ok(self),
            (Pending { .. }, Step::End) => Ok(Over),
            (New | Pending { .. }, Step::Claim) => Ok(Executing),
            (Executing, Step::Receipt) => Ok(Executed),
            (_, Step::Propose { .. }) => Err("a proposal repeats one"),
            (_, Step::BecomeAsynchronous) => {
                Err("no proposal is pending that could become asynchronous")
            }
            (_, Step::Approve | Step::End) => Err("no proposal with this id is pending"),
            (Over, Step::Claim) => Err("a claim of a proposal that was rejected or closed"),
            (_, Step::Claim) => Err("a claim repeats one"),
            (_, Step::Receipt) => Err("a receipt has no claim"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every stage by every step: what stands in no row is refused.
    #[test]
    fn of_every_stage_and_every_step_the_table_says_what_follows() {
        use Stage::{Executed, Executing, New, Over, Pending};
        let [waits, runs_itself] = [false, true].map(|asynchronous| Pending { asynchronous });
        let stages = [New, waits, runs_itself, Executing, Executed, Over];
        let steps = [
            Step::Propose { asynchronous: false },
            Step::Propose { asynchronous: true },
            Step::BecomeAsynchronous,
            Step::Approve,
            Step::End,
            Step::Claim,
            Step::Receipt,
        ];
        let (no, some) = (None::<Stage>, Some::<Stage>);
        #[rustfmt::skip]
        let table = [
            // propose,   at once asynchronous, become so,      approve,           end,        claim,           receipt
            [some(waits), some(runs_itself), no,                no,                no,         some(Executing), no], // new
            [no,          no,                some(runs_itself), some(waits),       some(Over), some(Executing), no], // waits
            [no,          no,                no,                some(runs_itself), some(Over), some(Executing), no], // runs itself
            [no,          no,                no,                no,                no,         no,              some(Executed)],
            [no,          no,                no,                no,                no,         no,              no], // executed
            [no,          no,                no,                no,                no,         no,              no], // over
        ];
        for (stage, row) in stages.iter().zip(table) {
            for (step, expected) in steps.iter().zip(row) {
                assert_eq!(stage.after(*step).ok(), expected, "{stage:?} {step:?}");
            }
        }
    }
}
