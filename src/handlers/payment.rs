//! `charge_card`: a charge as a job of the queue `charge_card`.
//!
//! Invariant: an amount is a whole number of the currency's minor units; there is no rounding here
//! or in whoever reads the job.

use super::Handler;
use super::outbox::{ENQUEUE, put};
use super::schema::Schema;

static SCHEMA: Schema = Schema::of(CHARGE_CARD.payload_schema, &[]);

/// An amount has twelve digits, as in field 4 of ISO 8583. The currencies are ISO 4217, list one, as of 2026: what is money in some country. Not its codes for funds, metals,
/// units of account, tests and "no currency".
pub const CHARGE_CARD: Handler = Handler {
    action: "charge_card",
    summary: "Queues a charge for the operator's payment worker.",
    payload_schema: r#"{
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {
            "amount": {"type": "integer", "minimum": 1, "maximum": 999999999999,
                "description": "In the currency's minor unit: 1999 is 19.99 USD, or 1999 JPY."},
            "currency": {"enum": ["AED","AFN","ALL","AMD","AOA","ARS","AUD","AWG","AZN","BAM","BBD","BDT","BHD","BIF",
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
           "ZWG"], "description": "ISO 4217."},
            "customer": {"type": "string", "minLength": 1, "maxLength": 255,
                "pattern": "^[^\\x00-\\x1f\\x7f-\\x9f]*$",
                "description": "As the payment worker knows the customer."},
            "description": {"type": "string", "maxLength": 1000,
                "pattern": "^[^\\x00-\\x1f\\x7f-\\x9f]*$"}
        },
        "required": ["amount", "currency", "customer"],
        "additionalProperties": false
    }"#,
    check: |payload, _| SCHEMA.check(payload),
    run: |call, settings| put(call, settings, SCHEMA.check(call.payload).map(|()| "charge_card")),
    ..ENQUEUE
};
