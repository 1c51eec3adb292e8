//! `warren keygen`

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use serde::Serialize;
use warren_keys::SskKeypair;
use zeroize::Zeroizing;

use super::{Failure, terminal::Terminal};

#[derive(Serialize)]
struct Keys<'a> {
    insert: &'a str,
    request: String,
}

/// Prints a fresh key pair for signed documents. Needs no node and leaves no trace on disk.
///
/// # Errors
/// When the system has no randomness.
pub(super) fn keygen(terminal: Terminal) -> Result<(), Failure> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *seed)
        .map_err(|error| Failure::new(format!("the system has no randomness: {error}")))?;
    let keypair = SskKeypair::generate(&mut ChaCha20Rng::from_seed(*seed));
    let insert = keypair.expose();
    let request = keypair.publisher().to_string();
    let text = Zeroizing::new(format!(
        "Private, to publish with (keep it; whoever has it can publish as you):\n  {}\n\
         Public, to give to readers:\n  {request}\n\n\
         Put a document's name behind either, for example: warren put --key-file FILE notes.html\n\
         where FILE holds the private key followed by the name, as in …AQECAAE/notes.html",
        insert.as_str()
    ));
    terminal.result(
        &Keys {
            insert: &insert,
            request,
        },
        &text,
    );
    Ok(())
}
