use super::*;
use crate::{Base64Error, Seed};
use proptest::prelude::*;

fn keypair(seed: u8) -> SskKeypair {
    SskKeypair::new(
        &Seed::from_bytes([seed; 32]),
        CryptoKey::from_bytes([seed.wrapping_add(1); 32]),
    )
}

fn chk() -> String {
    let (routing, crypto) = (RoutingKey::from_bytes([1; 32]), CryptoKey::from_bytes([2; 32]));
    ChkUri {
        routing,
        crypto,
        path: Path::none(),
    }
    .to_string()
}

fn error(text: &str) -> UriError {
    Uri::parse(text).expect_err(text)
}

fn part(part: Part, error: Base64Error) -> UriError {
    UriError::BadPart { part, error }
}

/// Letters that are percent-encoded in print: what is short enough as written may not be as printed.
#[test]
fn what_would_be_printed_too_long_to_read_again_is_refused() {
    let keypair = keypair(7);
    let (private, public) = (keypair.expose(), keypair.publisher().to_string());
    // One of these letters is 2 bytes as written and 6 in print.
    let long = "ä".repeat(700);
    let short = "ä".repeat(600);
    for (plain, accepted) in [(&short, true), (&long, false)] {
        for text in [
            format!("KSK@{plain}"),
            format!("KSK@words/{plain}"),
            format!("{}name/{plain}", *private),
            format!("{}site/3/{plain}", private.replacen("SSK", "USK", 1)),
        ] {
            assert!(text.len() <= MAX_URI_LEN);
            match InsertUri::parse(&text) {
                Ok(uri) => assert!(accepted && InsertUri::parse(&uri.expose()).is_ok()),
                Err(UriError::TooLong { found, .. }) => assert!(!accepted && found > MAX_URI_LEN),
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!(Uri::parse(&format!("{public}name/{plain}")).is_ok(), accepted);
    }
}

#[test]
fn forms() {
    let chk = chk();
    assert!(chk.ends_with(",ABAC--8"), "{chk}");
    assert_eq!(Uri::parse(&chk).unwrap().to_string(), chk);
    let ssk = keypair(1).publisher().to_string();
    assert!(ssk.starts_with("SSK@") && ssk.ends_with(",AQACAAE/"), "{ssk}");
    assert_eq!(ssk.parse::<Publisher>().unwrap(), keypair(1).publisher());
    assert_eq!(
        ssk.trim_end_matches('/').parse::<Publisher>().unwrap(),
        keypair(1).publisher()
    );
    for text in ["/doc", "/doc/", "/doc//a/b", "/doc/%20/%2F%25"] {
        let text = format!("{}{text}", ssk.trim_end_matches('/'));
        assert_eq!(Uri::parse(&text).unwrap().to_string(), text);
    }
    let usk = ssk.replacen("SSK", "USK", 1);
    for text in [
        "site/0",
        "site/12/",
        "site/-3/a.html",
        "site/9223372036854775807/x",
    ] {
        let text = format!("{usk}{text}");
        assert_eq!(Uri::parse(&text).unwrap().to_string(), text);
    }
    for text in ["KSK@gpl.txt", "KSK@a@b,c", "KSK@a%2Fb/c", "KSK@%D0%B6"] {
        assert_eq!(Uri::parse(text).unwrap().to_string(), text);
    }
}

#[test]
fn prefixes_encodings_and_case() {
    let bare = format!("{}/na%20me", chk());
    let expected = Uri::parse(&bare).unwrap();
    let encoded = bare.replacen('@', "%40", 1).replace(',', "%2C");
    let whole = bare.replace('%', "%25").replace('/', "%2f").replace('@', "%40");
    for text in [
        format!("freenet:{bare}"),
        format!("warren:{bare}"),
        format!("FreeNet:{bare}"),
        bare.replacen("CHK", "chk", 1),
        bare.replace("%20", " "),
        encoded.clone(),
        format!("freenet:{encoded}"),
        format!("freenet%3A{encoded}"),
        whole.clone(),
        format!("freenet%3a{whole}"),
    ] {
        assert_eq!(Uri::parse(&text).unwrap(), expected, "{text}");
        assert_eq!(Uri::parse(&text).unwrap().to_string(), bare);
    }
    let Uri::Ksk(ksk) = Uri::parse("KSK%40100%25").unwrap() else {
        panic!("a KSK")
    };
    assert_eq!(ksk.words.as_str(), "100%");
}

#[test]
fn every_fault_is_named() {
    use Base64Error::{Character, Length, TrailingBits};
    let chk = chk();
    assert_eq!(error(""), UriError::Empty);
    assert_eq!(
        error(&"x".repeat(5000)),
        UriError::TooLong {
            found: 5000,
            max: 4096
        }
    );
    assert_eq!(error("CHK"), UriError::NoType);
    assert_eq!(error("foo/CHK@"), UriError::NoType);
    assert_eq!(error("CHJ@a,b,c"), UriError::UnknownType);
    assert_eq!(error("http:CHK@a,b,c"), UriError::UnknownType);
    assert_eq!(error("CHK@"), UriError::MissingPart(Part::Crypto));
    assert_eq!(error("CHK@abc,def"), UriError::MissingPart(Part::Extra));
    assert_eq!(error("CHK@,def,ABAC--8"), UriError::MissingPart(Part::Routing));
    assert_eq!(error(&format!("{chk},x")), UriError::ExcessParts(4));
    assert_eq!(
        error(&chk.replacen("CHK@A", "CHK@", 1)),
        part(
            Part::Routing,
            Length {
                expected: 43,
                found: 42
            }
        )
    );
    assert_eq!(
        error(&chk.replacen(",A", ",", 1)),
        part(
            Part::Crypto,
            Length {
                expected: 43,
                found: 42
            }
        )
    );
    assert_eq!(
        error(&chk.replacen(",AB", ",", 1)),
        error(&chk.replacen(",AB", ",", 1))
    );
    assert_eq!(
        error(&chk.replacen("CHK@AQ", "CHK@A+", 1)),
        part(
            Part::Routing,
            Character {
                found: '+',
                position: 2
            }
        )
    );
    assert_eq!(
        error("CHK@a,b,ABAC--"),
        part(
            Part::Extra,
            Length {
                expected: 7,
                found: 6
            }
        )
    );
    assert_eq!(error("CHK@a,b,ABAC--9"), part(Part::Extra, TrailingBits));
    assert_eq!(error("CHK@a,b,AAMC--8"), UriError::FreenetChk(3));
    assert_eq!(error("CHK@a,b,AAIA--8"), UriError::FreenetChk(2));
    assert_eq!(error("CHK@a,b,AQACAAE"), UriError::UnknownExtra([1, 0, 2, 0, 1]));
    let stray = chk
        .replacen(',', "#,", 1)
        .replacen("B#,", "C,", 1)
        .replacen("E#,", "F,", 1);
    assert_eq!(error(&stray), part(Part::Routing, TrailingBits), "{stray}");

    let ssk = keypair(1).publisher().to_string();
    assert_eq!(error(&ssk), UriError::MissingName);
    assert_eq!(error(ssk.trim_end_matches('/')), UriError::MissingName);
    assert_eq!(error(&format!("{ssk}/path")), UriError::MissingName);
    assert_eq!(
        error(&format!("{ssk}a%2")),
        UriError::BadPercent {
            position: ssk.len() + 2
        }
    );
    assert_eq!(
        error(&format!("{ssk}a/b/c%zz")),
        UriError::BadPercent {
            position: ssk.len() + 6
        }
    );
    assert_eq!(
        error(&format!("{ssk}a%FF")),
        UriError::NotUtf8 {
            position: ssk.len() + 1
        }
    );
    assert_eq!(error(&format!("{ssk}a%0Ab")), UriError::ControlCharacter(10));
    assert_eq!(error(&format!("{ssk}a/../b")), UriError::DotName);
    assert_eq!(error(&format!("{ssk}%2e%2E")), UriError::DotName);
    let zero = base64::encode(&[0; 32]);
    assert_eq!(
        error(&format!("SSK@{zero},{zero},AQACAAE/doc")),
        UriError::InvalidPublicKey
    );
    assert_eq!(
        error(&format!("SSK@{zero},{zero},AQBCAAE/doc")),
        UriError::UnknownExtra([1, 0, 66, 0, 1])
    );

    let usk = ssk.replacen("SSK", "USK", 1);
    assert_eq!(error(&usk), UriError::MissingSite);
    assert_eq!(error(&format!("{usk}site")), UriError::MissingEdition);
    assert_eq!(error(&format!("{usk}site/")), UriError::MissingEdition);
    for edition in ["x", "01", "+1", "-0", "1.0", "9223372036854775808", "1%20"] {
        assert_eq!(
            error(&format!("{usk}site/{edition}/")),
            UriError::BadEdition,
            "{edition}"
        );
    }
    assert_eq!(error("KSK@"), UriError::MissingName);
    assert_eq!(error("KSK@/x"), UriError::MissingName);
    assert_eq!(error("KSK@a\u{7f}"), UriError::ControlCharacter(127));
    assert_eq!(
        format!("{ssk}doc").parse::<Publisher>(),
        Err(UriError::ExcessName)
    );
}

#[test]
fn errors_read_well() {
    assert_eq!(
        error("CHK@abc").to_string(),
        "the crypto key (second part) is missing: three parts with commas between them are expected after the '@'"
    );
    assert_eq!(
        error("CHK@abc,d,ABAC--8").to_string(),
        "the routing key (first part) has 3 characters, 43 expected"
    );
}

#[test]
fn private_and_public_do_not_mix() {
    let insert: InsertUri = keypair(1).document(Name::new("doc").unwrap()).into();
    let text = insert.expose();
    assert!(text.contains(",AQECAAE/doc"));
    assert_eq!(error(&text), UriError::Private);
    assert_eq!(*InsertUri::parse(&text).unwrap().expose(), *text);
    let public = insert.to_uri().to_string();
    assert!(public.contains(",AQACAAE/doc"));
    assert_eq!(InsertUri::parse(&public).unwrap_err(), UriError::Public);
    assert_eq!(InsertUri::parse(&chk()).unwrap_err(), UriError::NotInsertable);
    assert_eq!(Uri::parse(&public).unwrap(), insert.to_uri());

    let usk: InsertUri = keypair(1).site(Name::new("my site").unwrap(), 7).into();
    assert_eq!(*InsertUri::parse(&usk.expose()).unwrap().expose(), *usk.expose());
    assert!(usk.expose().ends_with("/my%20site/7"));
    let Uri::Usk(public) = usk.to_uri() else {
        panic!("a USK")
    };
    assert_eq!(public.to_ssk().name.as_str(), "my site-7");

    let base = keypair(1).expose();
    assert!(base.ends_with(",AQECAAE/"));
    assert_eq!(
        SskKeypair::parse(&base).unwrap().publisher(),
        keypair(1).publisher()
    );
    assert_eq!(SskKeypair::parse(&text).unwrap_err(), UriError::ExcessName);
}

#[test]
fn debug_is_redacted() {
    let insert: InsertUri = keypair(1).document(Name::new("doc").unwrap()).into();
    assert_eq!(
        format!("{insert:?} {:?}", insert.to_uri()),
        "private SSK@.. SSK@.."
    );
    assert_eq!(
        format!(
            "{:?} {:?}",
            Name::new("secret").unwrap(),
            Path::new(["a", "b"]).unwrap()
        ),
        "Name(..) Path(2 segments)"
    );
}

fn text() -> impl Strategy<Value = String> {
    proptest::string::string_regex("[^\\p{Cc}]{1,12}")
        .unwrap()
        .prop_filter("no dots", |text| text != "." && text != "..")
}

fn path() -> impl Strategy<Value = Path> {
    proptest::collection::vec(prop_oneof![text(), Just(String::new())], 0..4)
        .prop_map(|segments| Path::new(segments).unwrap())
}

fn uri() -> impl Strategy<Value = Uri> {
    prop_oneof![
        (any::<[u8; 32]>(), any::<[u8; 32]>(), path()).prop_map(|(routing, crypto, path)| ChkUri {
            routing: RoutingKey::from_bytes(routing),
            crypto: CryptoKey::from_bytes(crypto),
            path
        }
        .into()),
        (any::<u8>(), text(), path()).prop_map(|(seed, name, path)| SskUri {
            publisher: keypair(seed).publisher(),
            name: Name::new(name).unwrap(),
            path
        }
        .into()),
        (any::<u8>(), text(), any::<i64>(), path()).prop_map(|(seed, site, edition, path)| {
            UskUri {
                publisher: keypair(seed).publisher(),
                site: Name::new(site).unwrap(),
                edition,
                path,
            }
            .into()
        }),
        (text(), path()).prop_map(|(words, path)| KskUri {
            words: Name::new(words).unwrap(),
            path
        }
        .into()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn round_trip_of_every_valid_uri(uri in uri()) {
        let text = uri.to_string();
        prop_assert!(text.is_ascii());
        prop_assert_eq!(Uri::parse(&text).unwrap(), uri.clone());
        prop_assert_eq!(Uri::parse(&format!("freenet:{text}")).unwrap(), uri.clone());
        // A program that encodes the whole URI as one component.
        if text.contains('/') {
            let whole: String = text.bytes().map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02x}") }).collect();
            prop_assert_eq!(Uri::parse(&whole).unwrap(), uri);
        }
    }

    #[test]
    fn mutated_uris_never_panic(uri in uri(), index: proptest::sample::Index, replacement: char, cut in 0usize..2) {
        let mut chars: Vec<char> = uri.to_string().chars().collect();
        let at = index.index(chars.len());
        if cut == 0 { chars[at] = replacement } else { chars.truncate(at) }
        let mutated: String = chars.into_iter().collect();
        match Uri::parse(&mutated) {
            // What parses has one printed form.
            Ok(parsed) => prop_assert_eq!(Uri::parse(&parsed.to_string()).unwrap(), parsed),
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
        let _ = InsertUri::parse(&mutated);
    }

    #[test]
    fn any_text_never_panics(text in ".{0,80}") {
        let _ = (Uri::parse(&text), InsertUri::parse(&text), SskKeypair::parse(&text), text.parse::<Publisher>());
    }

    #[test]
    fn insert_uris_round_trip(seed: u8, name in text(), edition: i64, path in path()) {
        let name = Name::new(name).unwrap();
        let ssk = InsertUri::from(SskInsert { keypair: keypair(seed), name: name.clone(), path: path.clone() });
        let usk = InsertUri::from(UskInsert { keypair: keypair(seed), site: name, edition, path });
        for insert in [ssk, usk] {
            let parsed = InsertUri::parse(&insert.expose()).unwrap();
            prop_assert_eq!(&*parsed.expose(), &*insert.expose());
            prop_assert_eq!(parsed.to_uri(), insert.to_uri());
        }
    }
}
