use super::*;
use proptest::prelude::*;

const CHEAP: PassphraseCost = PassphraseCost {
    memory_kib: 64,
    passes: 1,
    lanes: 1,
};

fn phrase(text: &str) -> Passphrase {
    Passphrase::new(text).unwrap()
}

fn fresh() -> (tempfile::TempDir, KeyFile) {
    let dir = tempfile::tempdir().unwrap();
    let file = KeyFile::at(dir.path().join("master.key")).with_cost(CHEAP);
    (dir, file)
}

#[test]
fn plain_key_comes_back_and_is_never_overwritten() {
    let (_dir, file) = fresh();
    let key = file.create(None).unwrap();
    assert!(file.load(None).unwrap() == key);
    assert!(!file.is_sealed().unwrap());
    assert!(file.create(None).is_err());
    assert!(file.load(None).unwrap() == key);
    assert_eq!(
        fs::metadata(&file.path).unwrap().permissions().mode() & 0o777,
        0o600
    );
}

#[test]
fn sealed_key_needs_its_passphrase() {
    let (_dir, file) = fresh();
    let key = file.create(Some(&phrase("correct horse"))).unwrap();
    assert!(file.is_sealed().unwrap());
    assert!(matches!(file.load(None), Err(Error::PassphraseNeeded { .. })));
    assert!(matches!(
        file.load(Some(&phrase("wrong"))),
        Err(Error::WrongPassphrase { .. })
    ));
    assert!(file.load(Some(&phrase("correct horse"))).unwrap() == key);
    let raw = fs::read(&file.path).unwrap();
    assert!(raw.windows(32).all(|w| w != key.expose()));
}

#[test]
fn passphrase_is_set_changed_and_removed() {
    let (dir, file) = fresh();
    let key = file.create(None).unwrap();
    let old = File::open(&file.path).unwrap();
    file.set_passphrase(None, Some(&phrase("a"))).unwrap();
    let mut leftover = [1; KEY_FILE_LEN];
    old.read_exact_at(&mut leftover, 0).unwrap();
    assert_eq!(
        leftover, [0; KEY_FILE_LEN],
        "the plain key must not stay on the disk"
    );
    assert!(matches!(
        file.set_passphrase(Some(&phrase("b")), None),
        Err(Error::WrongPassphrase { .. })
    ));
    file.set_passphrase(Some(&phrase("a")), Some(&phrase("b")))
        .unwrap();
    assert!(file.load(Some(&phrase("b"))).unwrap() == key);
    file.set_passphrase(Some(&phrase("b")), None).unwrap();
    assert!(file.load(None).unwrap() == key);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn wipe_overwrites_and_removes() {
    let (_dir, file) = fresh();
    file.create(None).unwrap();
    let open = File::open(&file.path).unwrap();
    file.wipe().unwrap();
    let mut leftover = [1; KEY_FILE_LEN];
    open.read_exact_at(&mut leftover, 0).unwrap();
    assert_eq!(leftover, [0; KEY_FILE_LEN]);
    assert!(!file.path.exists());
    assert!(file.wipe().is_err());
}

#[test]
fn wipe_does_not_follow_links() {
    let (dir, file) = fresh();
    let other = dir.path().join("precious");
    fs::write(&other, b"precious").unwrap();
    std::os::unix::fs::symlink(&other, &file.path).unwrap();
    assert!(file.wipe().is_err());
    assert_eq!(fs::read(&other).unwrap(), b"precious");
}

#[test]
fn key_that_others_can_read_is_refused() {
    let (_dir, file) = fresh();
    file.create(None).unwrap();
    fs::set_permissions(&file.path, fs::Permissions::from_mode(0o640)).unwrap();
    let error = file.load(None).err().unwrap();
    assert!(error.to_string().contains("chmod 600"), "{error}");
}

#[test]
fn hostile_costs_are_refused_before_any_work() {
    let key = MasterKey::from_bytes(Zeroizing::new([5; 32]));
    let good = sealed_bytes(&key, &phrase("x"), CHEAP).unwrap();
    for (at, value) in [
        (12, u32::MAX),
        (12, MAX_MEMORY_KIB + 1),
        (16, MAX_PASSES + 1),
        (20, MAX_LANES + 1),
        (12, 0),
        (16, 0),
        (20, 0),
    ] {
        let mut bad = *good;
        bad[at..at + 4].copy_from_slice(&value.to_le_bytes());
        assert_eq!(KeyFileContent::parse(&bad).unwrap_err(), KeyFileFault::Damaged);
    }
}

#[test]
fn other_version_is_named() {
    let mut bytes = *plain_bytes(&MasterKey::from_bytes(Zeroizing::new([5; 32])));
    bytes[8] = 9;
    assert_eq!(
        KeyFileContent::parse(&bytes).unwrap_err(),
        KeyFileFault::Version(9)
    );
}

#[test]
fn every_flipped_bit_is_noticed() {
    let key = MasterKey::from_bytes(Zeroizing::new([5; 32]));
    let plain = plain_bytes(&key);
    for bit in 0..KEY_FILE_LEN * 8 {
        let mut bad = *plain;
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(KeyFileContent::parse(&bad).is_err(), "bit {bit}");
    }
    let sealed = sealed_bytes(&key, &phrase("x"), CHEAP).unwrap();
    for byte in 24..KEY_FILE_LEN {
        let mut bad = *sealed;
        bad[byte] ^= 1;
        let opened = KeyFileContent::parse(&bad).map(|content| match content {
            KeyFileContent::Plain(_) => panic!("form changed"),
            KeyFileContent::Sealed(sealed) => sealed.open(&phrase("x")).unwrap(),
        });
        assert!(!matches!(opened, Ok(Some(_))), "byte {byte}");
    }
}

proptest! {
    #[test]
    fn any_bytes_parse_or_fail(mut bytes in prop::collection::vec(any::<u8>(), 0..160), shaped: bool) {
        if shaped && bytes.len() >= 11 {
            bytes[..10].copy_from_slice(b"WRNMASTR\x01\x00");
            bytes[10] &= 1;
            bytes.resize(KEY_FILE_LEN, 0);
        }
        let _ = KeyFileContent::parse(&bytes);
    }
}
