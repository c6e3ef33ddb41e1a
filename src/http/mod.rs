//! What both sides of the inner socket say: the routes and the problem bodies.

pub mod problem;
pub mod route;
