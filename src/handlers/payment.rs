//! `charge_card`: a charge as a job of the queue `charge_card`.
//!
//! Invariant: an amount is a whole number of the currency's minor units; there is no rounding here
//! or in whoever reads the job.

use super::fields::{line, only, refuse, required, text};
use super::outbox::{QUEUED_BYTES_MAX, QUEUED_SCHEMA, offered, place, put, ready};
use super::{Effect, Handler, Payload, PayloadError};

/// Twelve digits, as in field 4 of ISO 8583.
const AMOUNT_MAX: f64 = 999_999_999_999.0;
const CUSTOMER_CHARS_MAX: usize = 255;
const DESCRIPTION_CHARS_MAX: usize = 1000;

/// ISO 4217, list one, as of 2026: what is money in some country. Not its codes for funds, metals,
/// units of account, tests and "no currency".
macro_rules! currencies {
    () => {
        r#""AED","AFN","ALL","AMD","AOA","ARS","AUD","AWG","AZN","BAM","BBD","BDT","BHD","BIF",
           "BMD","BND","BOB","BRL","BSD","BTN","BWP","BYN","BZD","CAD","CDF","CHF","CLP","CNY",
           "COP","CRC","CUP","CVE","CZK","DJF","DKK","DOP","DZD","EGP","ERN","ETB","EUR","FJD",
           "FKP","GBP","GEL","GHS","GIP","GMD","GNF","GTQ","GYD","HKD","HNL","HTG","HUF","IDR",
           "ILS","INR","IQD","IRR","ISK","JMD","JOD","JPY","KES","KGS","KHR","KMF","KPW","KRW",
           "KWD","KYD","KZT","LAK","LBP","LKR","LRD","LSL","LYD","MAD","MDL","MGA","MKD","MMK",
           "MNT","MOP","MRU","MUR","MVR","MWK","MXN","MYR","MZN","NAD","NGN","NIO","NOK","NPR",
           "NZD","OMR","PAB","PEN","PGK","PHP","PKR","PLN","PYG","QAR","RON","RSD","RUB","RWF",
           "SAR","SBD","SCR","SDG","SEK","SGD","SHP","SLE","SOS","SRD","SSP","STN","SVC","SYP",
           "SZL","THB","TJS","TMT","TND","TOP","TRY","TTD","TWD","TZS","UAH","UGX","USD","UYU",
           "UZS","VED","VES","VND","VUV","WST","XAF","XCD","XCG","XOF","XPF","YER","ZAR","ZMW",
           "ZWG""#
    };
}

pub const CHARGE_CARD: Handler = Handler {
    action: "charge_card",
    summary: "Queues a charge for the operator's payment worker.",
    effect: Effect::Idempotent,
    payload_schema: concat!(
        r#"{
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {
            "amount": {"type": "integer", "minimum": 1, "maximum": 999999999999,
                "description": "In the currency's minor unit: 1999 is 19.99 USD, or 1999 JPY."},
            "currency": {"enum": ["#,
        currencies!(),
        r#"], "description": "ISO 4217."},
            "customer": {"type": "string", "minLength": 1, "maxLength": 255,
                "pattern": "^[^\\x00-\\x1f\\x7f-\\x9f]*$",
                "description": "As the payment worker knows the customer."},
            "description": {"type": "string", "maxLength": 1000,
                "pattern": "^[^\\x00-\\x1f\\x7f-\\x9f]*$"}
        },
        "required": ["amount", "currency", "customer"],
        "additionalProperties": false
    }"#
    ),
    result_schema: QUEUED_SCHEMA,
    result_bytes_max: QUEUED_BYTES_MAX,
    offered,
    ready,
    check: |payload, _| check(payload),
    place,
    run: |call, settings| {
        check(call.payload).map_err(|error| call.failure(error.0))?;
        put(call, settings, "charge_card")
    },
};

fn check(payload: &Payload) -> Result<(), PayloadError> {
    only(payload, &["amount", "currency", "customer", "description"])?;
    let amount = required(payload.get("amount"), "amount")?.as_f64();
    if !amount.is_some_and(|amount| amount.fract() == 0.0 && (1.0..=AMOUNT_MAX).contains(&amount)) {
        return refuse(format!(
            "amount must be a whole number of minor units, from 1 to {AMOUNT_MAX}"
        ));
    }
    let currency = required(text(payload, "currency")?, "currency")?;
    let mut known = currencies!().split(',').map(|code| code.trim().trim_matches('"'));
    if !known.any(|known| known == currency) {
        return refuse("currency must be the ISO 4217 code of a currency in use, as USD");
    }
    required(line(payload, "customer", 1..=CUSTOMER_CHARS_MAX)?, "customer")?;
    line(payload, "description", 0..=DESCRIPTION_CHARS_MAX).map(drop)
}
