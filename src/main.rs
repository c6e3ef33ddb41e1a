//! The prebuilt binary: the library with the built-in handlers.

fn main() {}
