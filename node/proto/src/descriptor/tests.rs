use proptest::prelude::*;

use super::fixtures::{descriptor, key, network};
use super::*;

fn bytes(descriptor: &Descriptor) -> BytesMut {
    let mut out = BytesMut::new();
    descriptor.encode_into(&mut out);
    out
}

#[test]
fn round_trip() {
    for addresses in 0..=MAX_ADDRESSES {
        let one = descriptor(5, addresses);
        let bytes = bytes(&one);
        assert_eq!(one.addresses.len(), addresses);
        assert_eq!(Descriptor::decode(&bytes, &network()).unwrap(), one);
        assert!((MIN_DESCRIPTOR_LEN..=MAX_DESCRIPTOR_LEN).contains(&bytes.len()));
    }
    assert_eq!(descriptor(1, 0).location(), key(1).id().location());
}

#[test]
fn every_changed_byte_is_refused() {
    let bytes = bytes(&descriptor(1, 2));
    for place in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[place] ^= 1 << (place % 8);
        assert!(Descriptor::decode(&changed, &network()).is_err(), "byte {place}");
    }
    for len in 0..bytes.len() {
        assert!(
            Descriptor::decode(&bytes[..len], &network()).is_err(),
            "cut to {len}"
        );
    }
    let longer = [&bytes[..], &[0]].concat();
    assert_eq!(
        Descriptor::decode(&longer, &network()).err(),
        Some(WireError::Trailing(1))
    );
}

#[test]
fn another_network_refuses_it() {
    let bytes = bytes(&descriptor(1, 1));
    let refused = Descriptor::decode(&bytes, &"other".parse().unwrap()).err();
    assert_eq!(refused, Some(DescriptorError::Signature.into()));
}

#[test]
fn faults_are_named() {
    // Where version, services and the number of addresses stand.
    for (place, value, fault) in [
        (0, 2, DescriptorError::Version(2)),
        (97, 8, DescriptorError::Services(8)),
        (106, 5, DescriptorError::TooManyAddresses(5)),
        (107, 5, DescriptorError::Family(5)),
    ] {
        let mut bytes = bytes(&descriptor(1, 4));
        bytes[place] = value;
        assert_eq!(Descriptor::decode(&bytes, &network()).err(), Some(fault.into()));
    }
}

#[test]
fn only_dialable_addresses_are_signed_and_read() {
    let undialable = [
        "0.0.0.0:1",
        "127.0.0.1:0",
        "[::]:1",
        "224.0.0.1:1",
        "[ff02::1]:1",
        "[::ffff:192.0.2.1]:1",
    ];
    let addresses: Vec<SocketAddr> = undialable.iter().map(|text| text.parse().unwrap()).collect();
    let statement = Statement {
        addresses,
        ..(*descriptor(1, 0)).clone()
    };
    assert!(
        Descriptor::sign(&key(1), statement.clone(), &network())
            .addresses
            .is_empty()
    );
    // Signed nevertheless, as a faulty node could.
    for address in &statement.addresses {
        let statement = Statement {
            addresses: vec![*address],
            ..statement.clone()
        };
        let mut bytes = statement.encode();
        let signature = key(1).sign(labels::DESCRIPTOR, &signed_bytes(&network(), &bytes));
        bytes.put_slice(&signature);
        let refused = Descriptor::decode(&bytes, &network()).err();
        assert_eq!(refused, Some(DescriptorError::Address.into()), "{address}");
    }
}

#[test]
fn signing_takes_the_key_and_drops_what_does_not_fit() {
    let addresses = (1..=9)
        .map(|port| SocketAddr::from(([192, 0, 2, 1], port)))
        .collect();
    let statement = Statement {
        addresses,
        ..(*descriptor(1, 0)).clone()
    };
    let signed = Descriptor::sign(&key(2), statement, &network());
    assert_eq!(
        (signed.identity, signed.addresses.len()),
        (key(2).id(), MAX_ADDRESSES)
    );
    assert_eq!(Descriptor::decode(&bytes(&signed), &network()).unwrap(), signed);
}

#[test]
fn age() {
    let one = descriptor(0, 0);
    let at = |offset: i64| WallTime(one.published.saturating_add_signed(offset));
    let (age, lead) = (
        DESCRIPTOR_MAX_AGE.as_secs() as i64,
        DESCRIPTOR_MAX_LEAD.as_secs() as i64,
    );
    assert!(one.is_current(at(0)) && one.is_current(at(age)) && one.is_current(at(-lead)));
    assert!(!one.is_current(at(age + 1)) && !one.is_current(at(-lead - 1)));
    assert!(!one.is_current(WallTime(u64::MAX)) && !one.is_current(WallTime(0)));
}

#[test]
fn dates_go_forward_and_come_back_from_a_wrong_clock() {
    let (now, lead) = (WallTime(1_900_000_000), DESCRIPTOR_MAX_LEAD.as_secs());
    let renewal = DESCRIPTOR_RENEWAL.as_secs();
    assert!(is_due(now, now.0 - renewal) && !is_due(now, now.0 - renewal + 1));
    assert!(!is_due(now, now.0 + lead) && is_due(now, now.0 + lead + 1));
    assert_eq!(next_date(now, now.0 - 1), now.0);
    // Twice in a second, and after a small step back.
    assert_eq!(next_date(now, now.0), now.0 + 1);
    assert_eq!(next_date(now, now.0 + lead), now.0 + lead + 1);
    assert_eq!(next_date(now, now.0 + lead + 1), now.0);
    assert_eq!(next_date(now, u64::MAX), now.0);
}

#[test]
fn vectors_agree() {
    for vector in fixtures::vectors("descriptor") {
        let secrets = fixtures::secrets(&vector.bytes("seed"));
        let network = vector.text("network").parse().unwrap();
        assert_eq!(secrets.id().as_bytes()[..], vector.bytes("identity"));
        assert_eq!(secrets.link_public().as_bytes()[..], vector.bytes("link_key"));
        assert_eq!(secrets.onion_public().as_bytes()[..], vector.bytes("onion_key"));
        let statement = Statement {
            addresses: vector
                .text("addresses")
                .split_whitespace()
                .map(|text| text.parse().unwrap())
                .collect(),
            services: Services::from_bits(vector.text("services").parse().unwrap()).unwrap(),
            published: vector.text("published").parse().unwrap(),
            ..secrets.statement()
        };
        let signed = secrets.sign(statement, &network);
        assert_eq!(bytes(&signed), vector.bytes("bytes"));
        assert_eq!(
            Descriptor::decode(&vector.bytes("bytes"), &network).unwrap(),
            signed
        );
    }
}

proptest! {
    #[test]
    fn random_bytes_are_no_descriptor(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(Descriptor::decode(&bytes, &network()).is_err());
    }
}
