//! URIs of every kind, public and private.

use warren_keys::{InsertUri, MAX_URI_LEN, Path, Publisher, SskKeypair, Uri, UriError};

use crate::{Seed, fixtures};

/// Parses text as everything that a URI can be.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let public = Uri::parse(text);
    let private = InsertUri::parse(text);
    if let Ok(uri) = &public {
        let printed = uri.to_string();
        assert!(Uri::parse(&printed).as_ref() == Ok(uri), "printed {printed}");
        assert!(printed.is_ascii() && printed.len() <= MAX_URI_LEN);
        let encoded = printed
            .replace('%', "%25")
            .replace('@', "%40")
            .replace('/', "%2F");
        if encoded.len() <= MAX_URI_LEN && encoded.contains("%2F") {
            assert!(Uri::parse(&encoded).as_ref() == Ok(uri), "encoded {encoded}");
        }
        assert!(Path::new(uri.path().segments()).as_ref() == Ok(uri.path()));
        let bare = uri.clone().with_path(Path::none()).to_string();
        assert!(printed.starts_with(&bare));
    }
    if let Ok(uri) = &private {
        let exposed = uri.expose();
        let again = InsertUri::parse(&exposed).map(|again| again.expose());
        assert!(again.as_ref() == Ok(&exposed));
        let to_fetch = uri.to_uri();
        assert!(Uri::parse(&to_fetch.to_string()) == Ok(to_fetch));
    }
    if let (Ok(public), Ok(_)) = (&public, &private) {
        assert!(
            matches!(public, Uri::Ksk(_)),
            "only words are both public and private"
        );
    }
    if let Ok(publisher) = text.parse::<Publisher>() {
        assert!(publisher.to_string().parse() == Ok(publisher));
    }
    if let Ok(keypair) = SskKeypair::parse(text) {
        let exposed = keypair.expose();
        assert!(SskKeypair::parse(&exposed).is_ok_and(|again| again.expose() == exposed));
    }
    for error in [public.err(), private.err()].into_iter().flatten() {
        check_error(text, &error);
    }
}

/// What is wrong is told without telling a key: texts may be private.
fn check_error(text: &str, error: &UriError) {
    let message = error.to_string();
    // The message's own words, which a fuzzer that has read them puts into its texts, have spaces between them.
    let parts = text.split([',', '@', '/']);
    let parts = parts.filter(|part| part.len() >= 43 && !part.contains(' '));
    parts.for_each(|part| assert!(!message.contains(part), "the error quotes the key"));
}

/// The test vectors, and what else has its own path through the parser.
#[must_use]
pub fn seeds() -> Vec<Seed> {
    let vectors = fixtures::json(fixtures::URIS);
    let texts = |kind: &str| {
        let list = vectors[kind].as_array().cloned().unwrap_or_default();
        // The longest ones test one bound and would slow down all others.
        let texts: Vec<Vec<u8>> = list
            .iter()
            .filter_map(|vector| vector["text"].as_str())
            .map(|text| text.as_bytes().to_vec())
            .collect();
        texts.into_iter().filter(|text| text.len() < 400)
    };
    let reference = fixtures::json(fixtures::REFERENCE);
    let private = [&reference["ssk"][0]["private"], &reference["ksk"]["private"]];
    let private = private
        .into_iter()
        .filter_map(|text| Some(text.as_str()?.as_bytes().to_vec()));
    let keypairs = private.clone().filter_map(|text| {
        let slash = text.iter().position(|byte| *byte == b'/')?;
        Some(text[..slash].to_vec())
    });
    crate::seed::numbered("valid", texts("valid"))
        .chain(crate::seed::numbered("invalid", texts("invalid")))
        .chain(crate::seed::numbered("private", private))
        .chain(crate::seed::numbered("keypair", keypairs))
        .collect()
}
