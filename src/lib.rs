//! OpenExec: the boundary between an AI agent that proposes and the infrastructure that acts.
//!
//! Dependencies between modules point one way, downwards: `cli` -> `server` -> `gate`, `front` ->
//! `executor` -> `approval`, `handlers`, `receipt`, `store` -> `json`, `limits`.

#![forbid(unsafe_code)]

pub mod gate;
pub mod hash;
pub mod http;
pub mod json;
pub mod limits;
pub mod log;
pub mod time;
