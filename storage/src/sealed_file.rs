//! Small state files: identity secrets, peers, pinned entries. Opaque bytes, sealed, replaced as a whole
//! (`storage-format §8`).
//!
//! A crash leaves the old content or the new. The name is authenticated, so one file cannot be put in another's place.
//! An older version of the same file can: whoever writes to the disk can set the clock back (`storage-format §11`).

use std::path::PathBuf;
use std::sync::Arc;

use warren_keys::labels;
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::master::MasterKey;
use crate::medium::{Backend, replace};
use crate::seal::{BaseKey, SALT_LEN, TAG_LEN, open_message, seal_message};

/// Most bytes of content: state of a node is a few MiB at worst, and it is read into memory whole.
pub const MAX_SEALED_FILE: usize = 16 << 20;
/// The version of the format of sealed files.
pub const SEALED_FILE_VERSION: u16 = 1;

const WHAT: &str = "state file";
/// version u16 ‖ reserved [u8; 2] ‖ length u32
const HEAD: usize = 8;
/// Content is padded to a multiple of this, so that the file's length tells little (not how many peers).
const PAD: usize = 4096;
const OVERHEAD: usize = SALT_LEN + TAG_LEN;

/// A sealed file in a folder.
pub struct SealedFile {
    backend: Arc<dyn Backend>,
    name: String,
    key: BaseKey,
}

/// Why bytes are no sealed file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SealedFault {
    /// They do not authenticate under this key and name.
    Damaged,
    /// They do, and have another format version.
    Version(u16),
}

impl SealedFile {
    /// Names the file; nothing is read. `name` is a file name without separators, and not one of the datastore's if
    /// they share a folder.
    ///
    /// # Errors
    /// [`Error::Config`] for a name that is empty, hidden or contains a separator.
    pub fn new(backend: Arc<dyn Backend>, name: &str, master: &MasterKey) -> Result<Self> {
        let plain = name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
        if name.is_empty() || name.starts_with('.') || !plain {
            return Err(Error::Config(format!("{name:?} cannot name a state file")));
        }
        Ok(Self {
            backend,
            name: name.to_owned(),
            key: master.base_key(labels::STORAGE_STATE),
        })
    }

    /// The content; `None` if the file does not exist.
    ///
    /// # Errors
    /// [`Error::Damaged`] (also for the wrong key), [`Error::Version`], [`Error::Io`].
    pub fn read(&self) -> Result<Option<Zeroizing<Vec<u8>>>> {
        let io = |action| Error::io(action, self.path());
        let Some(medium) = self.backend.open(&self.name).map_err(io("open"))? else {
            return Ok(None);
        };
        let size = medium.size().map_err(io("read"))?;
        let size = usize::try_from(size)
            .ok()
            .filter(|&s| s <= MAX_SEALED_FILE + PAD + OVERHEAD);
        let damaged = || Error::Damaged {
            what: WHAT,
            path: self.path(),
        };
        let mut sealed = vec![0; size.ok_or_else(damaged)?];
        medium.read_at(&mut sealed, 0).map_err(io("read"))?;
        match open_state(&self.key, &self.name, &sealed) {
            Ok(content) => Ok(Some(content)),
            Err(SealedFault::Damaged) => Err(damaged()),
            Err(SealedFault::Version(found)) => Err(Error::Version {
                what: WHAT,
                path: self.path(),
                found,
                supported: SEALED_FILE_VERSION,
            }),
        }
    }

    /// Replaces the content; it is on the disk when this returns.
    ///
    /// # Errors
    /// [`Error::Config`] above [`MAX_SEALED_FILE`] bytes, [`Error::Io`]; the old content then stays.
    pub fn write(&self, content: &[u8]) -> Result<()> {
        let sealed = seal_state(&self.key, &self.name, content)?;
        replace(&*self.backend, &self.name, &sealed).map_err(Error::io("write", self.path()))
    }

    /// Removes the file. No error if there is none.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn remove(&self) -> Result<()> {
        let remove = || {
            self.backend.remove(&self.name)?;
            self.backend.sync()
        };
        remove().map_err(Error::io("remove", self.path()))
    }

    fn path(&self) -> PathBuf {
        self.backend.path(&self.name)
    }
}

fn seal_state(key: &BaseKey, name: &str, content: &[u8]) -> Result<Vec<u8>> {
    let len = u32::try_from(content.len())
        .ok()
        .filter(|_| content.len() <= MAX_SEALED_FILE);
    let len =
        len.ok_or_else(|| Error::Config(format!("{name}: more than {MAX_SEALED_FILE} bytes of state")))?;
    let padded = (HEAD + content.len()).next_multiple_of(PAD);
    let mut plain = Zeroizing::new(Vec::with_capacity(padded));
    plain.extend_from_slice(&SEALED_FILE_VERSION.to_le_bytes());
    plain.extend_from_slice(&[0; 2]);
    plain.extend_from_slice(&len.to_le_bytes());
    plain.extend_from_slice(content);
    plain.resize(padded, 0);
    seal_message(key, name.as_bytes(), &plain).map_err(Error::io("seal", name))
}

fn open_state(key: &BaseKey, name: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealedFault> {
    let mut plain = open_message(key, name.as_bytes(), sealed).ok_or(SealedFault::Damaged)?;
    let head: [u8; HEAD] = *plain.first_chunk().ok_or(SealedFault::Damaged)?;
    let version = u16::from_le_bytes([head[0], head[1]]);
    if version != SEALED_FILE_VERSION {
        return Err(SealedFault::Version(version));
    }
    let len = usize::try_from(u32::from_le_bytes([head[4], head[5], head[6], head[7]])).unwrap_or(usize::MAX);
    if len > plain.len() - HEAD {
        return Err(SealedFault::Damaged);
    }
    plain.copy_within(HEAD..HEAD + len, 0);
    plain.truncate(len);
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::medium::memory::Memory;
    use proptest::prelude::*;

    fn master(byte: u8) -> MasterKey {
        MasterKey::from_bytes(Zeroizing::new([byte; 32]))
    }

    fn file(memory: &Memory, name: &str) -> SealedFile {
        SealedFile::new(Arc::new(memory.clone()), name, &master(1)).unwrap()
    }

    #[test]
    fn content_comes_back_and_is_not_on_the_disk() {
        let memory = Memory::new();
        let peers = file(&memory, "peers");
        assert!(peers.read().unwrap().is_none());
        for content in [b"".as_slice(), b"one peer", &[7; 10_000]] {
            peers.write(content).unwrap();
            assert_eq!(peers.read().unwrap().unwrap().as_slice(), content);
        }
        peers.write(b"a recognisable plaintext").unwrap();
        assert!(memory.read("peers").windows(12).all(|w| w != b"recognisable"));
        assert_eq!(memory.names(), ["peers"]);
        peers.remove().unwrap();
        assert!(peers.read().unwrap().is_none());
    }

    #[test]
    fn length_hides_small_differences() {
        let memory = Memory::new();
        let f = file(&memory, "f");
        f.write(&[0; 10]).unwrap();
        let short = memory.read("f").len();
        f.write(&[0; 3000]).unwrap();
        assert_eq!(memory.read("f").len(), short);
    }

    #[test]
    fn damage_another_name_and_another_key_are_refused() {
        let memory = Memory::new();
        file(&memory, "a").write(b"content").unwrap();
        let good = memory.read("a");
        for byte in (0..good.len()).step_by(7) {
            memory.tamper("a", |bytes| bytes[byte] ^= 4);
            assert!(matches!(file(&memory, "a").read(), Err(Error::Damaged { .. })));
            memory.tamper("a", |bytes| bytes.clone_from(&good));
        }
        Backend::rename(&memory, "a", "b").unwrap();
        assert!(matches!(file(&memory, "b").read(), Err(Error::Damaged { .. })));
        let other = SealedFile::new(Arc::new(memory.clone()), "a", &master(2)).unwrap();
        Backend::rename(&memory, "b", "a").unwrap();
        assert!(matches!(other.read(), Err(Error::Damaged { .. })));
        assert_eq!(file(&memory, "a").read().unwrap().unwrap().as_slice(), b"content");
    }

    #[test]
    fn other_version_is_named_not_misread() {
        let memory = Memory::new();
        let f = file(&memory, "f");
        let sealed = seal_message(&f.key, b"f", &[2, 0, 0, 0, 0, 0, 0, 0]).unwrap();
        replace(&memory, "f", &sealed).unwrap();
        assert!(matches!(
            f.read(),
            Err(Error::Version {
                found: 2,
                supported: 1,
                ..
            })
        ));
    }

    #[test]
    fn bad_names_and_oversize_are_the_callers_fault() {
        let backend = Arc::new(Memory::new());
        for name in ["", ".hidden", "a/b", "../up", "é"] {
            assert!(matches!(
                SealedFile::new(backend.clone(), name, &master(1)),
                Err(Error::Config(_))
            ));
        }
        let f = SealedFile::new(backend, "f", &master(1)).unwrap();
        assert!(matches!(
            f.write(&vec![0; MAX_SEALED_FILE + 1]),
            Err(Error::Config(_))
        ));
    }

    proptest! {
        #[test]
        fn a_power_cut_leaves_old_or_new(seed: u64, old in 0..200_usize, new in 0..9000_usize, finished: bool) {
            let memory = Memory::new();
            let f = file(&memory, "f");
            f.write(&vec![1; old]).unwrap();
            if finished {
                f.write(&vec![2; new]).unwrap();
            } else {
                // Everything but the last sync.
                let sealed = seal_state(&f.key, "f", &vec![2; new]).unwrap();
                let medium = memory.create("f.tmp").unwrap();
                medium.write_at(&sealed, 0).unwrap();
                medium.sync().unwrap();
                Backend::rename(&memory, "f.tmp", "f").unwrap();
            }
            let found = file(&memory.after_power_cut(seed), "f").read().unwrap().unwrap();
            prop_assert!(*found == vec![2; new] || !finished && *found == vec![1; old]);
        }
    }
}
