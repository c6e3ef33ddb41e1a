//! Randomness: of the kernel, and of nothing else.

use std::io::Read;

/// 16 bytes from the kernel's generator.
pub fn bytes() -> std::io::Result<[u8; 16]> {
    let mut bytes = [0; 16];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}
