//! `charge_card`: a charge as a job of the queue `charge_card`.
//!
//! Invariant: an amount is a whole number of the currency's minor units; there is no rounding here
//! or in whoever reads the job.

use super::outbox::{ENQUEUE, put};
use super::schema::Schema;
use super::{Handler, subset};

static SCHEMA: Schema = Schema::of(CHARGE_CARD.payload_schema, &subset::DISPLAY);

/// An amount has twelve digits, as in field 4 of ISO 8583. The currencies are ISO 4217, list one, as of 2026: what is money in some country. Not its codes for funds, metals,
/// units of account, tests and "no currency". How many digits are behind the point is of the same list.
pub const CHARGE_CARD: Handler = Handler {
    action: "charge_card",
    summary: "Queues a charge for the operator's payment worker.",
    payload_schema: include_str!("schemas/charge_card.json"),
    check: &|payload, _| SCHEMA.check(payload),
    run: &|call, settings| put(call, settings, SCHEMA.check(call.payload).map(|()| "charge_card")),
    ..ENQUEUE
};
