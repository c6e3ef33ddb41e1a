//! JSON in and out, against published vectors and independent writers.
#![allow(clippy::disallowed_methods, reason = "vectors are read from files")]

mod properties;
mod vectors;
