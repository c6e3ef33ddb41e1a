//! What both sides of the inner socket say: the routes.

pub mod route;
