//! Randomness from the operating system: the only source in this crate.

use std::io;

/// 32 fresh random bytes. Fails only where the operating system has no randomness to give.
pub(crate) fn bytes32() -> io::Result<[u8; 32]> {
    let mut out = [0; 32];
    getrandom::fill(&mut out).map_err(io::Error::other)?;
    Ok(out)
}
