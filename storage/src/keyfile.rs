//! The key file: the master key on disk, plain or sealed with a passphrase (`storage-format §10`).
//!
//! The file has mode 0600 and a fixed length. It is the one file here that does not look random: whoever finds it must
//! be able to see what it is and whether a passphrase is needed. Replacing it (new passphrase, passphrase removed)
//! and wiping it overwrite the old bytes in place before the name goes away.
//!
//! Deliberately not here: asking for the passphrase, and any attempt limit (whoever has the file tries offline).

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use argon2::{Algorithm, Argon2, Params, Version};
use subtle::ConstantTimeEq;
use warren_keys::labels;
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::master::MasterKey;
use crate::medium::file::{check_private, private_file};
use crate::random;
use crate::seal::{BaseKey, Sealer, TAG_LEN};

/// Bytes of a key file, whatever its form.
pub const KEY_FILE_LEN: usize = 128;
/// The version of the key file's format.
pub const KEY_FILE_VERSION: u16 = 1;

const WHAT: &str = "key file";
const MODE: u32 = 0o600;
const MAGIC: &[u8; 8] = b"WRNMASTR";
const PLAIN: u8 = 0;
const SEALED: u8 = 1;
/// Where the part that needs authenticating ends and the key begins.
const BODY: usize = 64;

/// Most memory that a key file may ask for, in KiB: 1 GiB. A file from elsewhere must not be able to exhaust the machine.
const MAX_MEMORY_KIB: u32 = 1 << 20;
/// Most passes that a key file may ask for: with the most memory a minute of work.
const MAX_PASSES: u32 = 16;
/// Most lanes that a key file may ask for.
const MAX_LANES: u32 = 16;

/// The work of one guess at a passphrase (Argon2id, RFC 9106).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassphraseCost {
    /// Memory in KiB, 8 times the lanes at least, 1 GiB at most.
    pub memory_kib: u32,
    /// Passes over the memory, 1 to 16.
    pub passes: u32,
    /// Lanes, 1 to 16.
    pub lanes: u32,
}

impl Default for PassphraseCost {
    /// 64 MiB, 3 passes, 4 lanes: the second recommended setting of RFC 9106 §4, the one for machines short of memory.
    fn default() -> Self {
        Self {
            memory_kib: 64 << 10,
            passes: 3,
            lanes: 4,
        }
    }
}

impl PassphraseCost {
    fn params(self) -> Option<Params> {
        let within =
            self.memory_kib <= MAX_MEMORY_KIB && self.passes <= MAX_PASSES && self.lanes <= MAX_LANES;
        within.then(|| Params::new(self.memory_kib, self.passes, self.lanes, Some(32)).ok())?
    }

    /// The key that `passphrase` stands for.
    fn stretch(self, passphrase: &Passphrase, salt: &[u8; 32]) -> Result<BaseKey> {
        let refused = || Error::Config("the passphrase cost is out of bounds".into());
        let params = self.params().ok_or_else(refused)?;
        let mut out = Zeroizing::new([0; 32]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(passphrase.0.as_bytes(), salt, out.as_mut_slice())
            .map_err(|_| refused())?;
        Ok(BaseKey::new(out))
    }
}

/// A passphrase. Zeroized on drop, never printed.
pub struct Passphrase(Zeroizing<String>);

impl Passphrase {
    /// Takes the passphrase as typed; nothing is trimmed or normalised.
    ///
    /// # Errors
    /// [`Error::Config`] if it is empty.
    pub fn new(text: impl Into<String>) -> Result<Self> {
        let text = Zeroizing::new(text.into());
        if text.is_empty() {
            return Err(Error::Config("the passphrase is empty".into()));
        }
        Ok(Self(text))
    }
}

/// What the bytes of a key file say, before any passphrase is tried.
pub enum KeyFileContent {
    /// The key itself.
    Plain(MasterKey),
    /// The key under a passphrase.
    Sealed(SealedKey),
}

/// A master key that needs a passphrase.
pub struct SealedKey {
    cost: PassphraseCost,
    bytes: Zeroizing<[u8; KEY_FILE_LEN]>,
}

/// Why bytes are no key file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyFileFault {
    /// Wrong length, magic, reserved bytes, bounds or check value.
    Damaged,
    /// Another format version.
    Version(u16),
}

impl KeyFileContent {
    /// Parses the bytes of a key file (`storage-format §10.1`).
    ///
    /// # Errors
    /// [`KeyFileFault`], for whatever bytes; costs beyond the bounds are damage.
    pub fn parse(bytes: &[u8]) -> Result<Self, KeyFileFault> {
        let bytes: &[u8; KEY_FILE_LEN] = bytes.try_into().map_err(|_| KeyFileFault::Damaged)?;
        let [head @ .., _, _] = bytes.first_chunk::<10>().ok_or(KeyFileFault::Damaged)?;
        if head != MAGIC {
            return Err(KeyFileFault::Damaged);
        }
        let version = u16::from_le_bytes([bytes[8], bytes[9]]);
        if version != KEY_FILE_VERSION {
            return Err(KeyFileFault::Version(version));
        }
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        match bytes[10] {
            PLAIN => {
                let mut key = Zeroizing::new([0; 32]);
                key.copy_from_slice(&bytes[BODY..BODY + 32]);
                let wanted = plain_bytes(&MasterKey::from_bytes(key.clone()));
                let same: bool = wanted.ct_eq(bytes.as_slice()).into();
                same.then(|| Self::Plain(MasterKey::from_bytes(key)))
                    .ok_or(KeyFileFault::Damaged)
            }
            SEALED => {
                let cost = PassphraseCost {
                    memory_kib: word(12),
                    passes: word(16),
                    lanes: word(20),
                };
                let tail = BODY + 32 + TAG_LEN;
                if cost.params().is_none()
                    || bytes[11] != 0
                    || bytes[24..32] != [0; 8]
                    || bytes[tail..] != [0; 16]
                {
                    return Err(KeyFileFault::Damaged);
                }
                Ok(Self::Sealed(SealedKey {
                    cost,
                    bytes: Zeroizing::new(*bytes),
                }))
            }
            _ => Err(KeyFileFault::Damaged),
        }
    }
}

impl SealedKey {
    /// The work that one passphrase costs.
    #[must_use]
    pub fn cost(&self) -> PassphraseCost {
        self.cost
    }

    /// Tries a passphrase. `None` if it is the wrong one (or the sealed bytes are damaged).
    ///
    /// # Errors
    /// [`Error::Config`] if the memory cannot be had.
    pub fn open(&self, passphrase: &Passphrase) -> Result<Option<MasterKey>> {
        let mut salt = [0; 32];
        salt.copy_from_slice(&self.bytes[32..64]);
        let sealer = Sealer::new(&self.cost.stretch(passphrase, &salt)?, &salt);
        let mut sealed = Zeroizing::new([0; 32 + TAG_LEN]);
        sealed.copy_from_slice(&self.bytes[BODY..BODY + 32 + TAG_LEN]);
        let Some(key) = sealer.open(0, &self.bytes[..BODY], sealed.as_mut_slice()) else {
            return Ok(None);
        };
        let mut out = Zeroizing::new([0; 32]);
        out.copy_from_slice(key);
        Ok(Some(MasterKey::from_bytes(out)))
    }
}

fn head(form: u8) -> Zeroizing<[u8; KEY_FILE_LEN]> {
    let mut out = Zeroizing::new([0; KEY_FILE_LEN]);
    out[..8].copy_from_slice(MAGIC);
    out[8..10].copy_from_slice(&KEY_FILE_VERSION.to_le_bytes());
    out[10] = form;
    out
}

fn plain_bytes(key: &MasterKey) -> Zeroizing<[u8; KEY_FILE_LEN]> {
    let mut out = head(PLAIN);
    out[BODY..BODY + 32].copy_from_slice(key.expose());
    // Tells a damaged file from another key: without it one flipped bit would be "the wrong key" for the whole store.
    out[BODY + 32..].copy_from_slice(key.subkey(labels::STORAGE_KEY_CHECK).as_slice());
    out
}

fn sealed_bytes(
    key: &MasterKey,
    passphrase: &Passphrase,
    cost: PassphraseCost,
) -> Result<Zeroizing<[u8; KEY_FILE_LEN]>> {
    let salt = random::bytes32().map_err(Error::io("seal with randomness from", "the operating system"))?;
    let mut out = head(SEALED);
    out[12..16].copy_from_slice(&cost.memory_kib.to_le_bytes());
    out[16..20].copy_from_slice(&cost.passes.to_le_bytes());
    out[20..24].copy_from_slice(&cost.lanes.to_le_bytes());
    out[32..64].copy_from_slice(&salt);
    let sealer = Sealer::new(&cost.stretch(passphrase, &salt)?, &salt);
    let (aad, rest) = out.split_at_mut(BODY);
    rest[..32].copy_from_slice(key.expose());
    let tag = sealer.seal(0, aad, &mut rest[..32]);
    rest[32..32 + TAG_LEN].copy_from_slice(&tag);
    Ok(out)
}

/// The key file at a path.
pub struct KeyFile {
    path: PathBuf,
    cost: PassphraseCost,
}

impl KeyFile {
    /// Names the file; nothing is read.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            cost: PassphraseCost::default(),
        }
    }

    /// Sets what a passphrase costs when one is set.
    #[must_use]
    pub fn with_cost(mut self, cost: PassphraseCost) -> Self {
        self.cost = cost;
        self
    }

    /// Writes a new random key, sealed if a passphrase is given.
    ///
    /// # Errors
    /// [`Error::Io`]; in particular if the file exists: a key is never overwritten.
    pub fn create(&self, passphrase: Option<&Passphrase>) -> Result<MasterKey> {
        let key = MasterKey::generate()?;
        let bytes = self.encode(&key, passphrase)?;
        let create = || {
            let mut file = private_file().create_new(true).open(&self.path)?;
            file.write_all(bytes.as_slice())?;
            file.sync_all()?;
            self.sync_folder()
        };
        create().map_err(Error::io("create key file", &self.path))?;
        Ok(key)
    }

    /// Whether a passphrase is needed.
    ///
    /// # Errors
    /// As [`KeyFile::load`], the passphrase apart.
    pub fn is_sealed(&self) -> Result<bool> {
        Ok(matches!(self.read()?, KeyFileContent::Sealed(_)))
    }

    /// Reads the key.
    ///
    /// # Errors
    /// [`Error::Permissions`] if others can read the file, [`Error::PassphraseNeeded`], [`Error::WrongPassphrase`],
    /// [`Error::Version`], [`Error::Damaged`], [`Error::Io`].
    pub fn load(&self, passphrase: Option<&Passphrase>) -> Result<MasterKey> {
        match (self.read()?, passphrase) {
            (KeyFileContent::Plain(key), _) => Ok(key),
            (KeyFileContent::Sealed(_), None) => Err(Error::PassphraseNeeded {
                path: self.path.clone(),
            }),
            (KeyFileContent::Sealed(sealed), Some(passphrase)) => {
                sealed.open(passphrase)?.ok_or_else(|| Error::WrongPassphrase {
                    path: self.path.clone(),
                })
            }
        }
    }

    /// Sets, changes (`new` given) or removes (`new` absent) the passphrase. The key stays the same; the old file's
    /// bytes are overwritten.
    ///
    /// # Errors
    /// As [`KeyFile::load`]. After an error the old file is still in place.
    pub fn set_passphrase(&self, current: Option<&Passphrase>, new: Option<&Passphrase>) -> Result<()> {
        let bytes = self.encode(&self.load(current)?, new)?;
        let replace = || {
            let old = self.open_existing()?;
            let temporary = self.path.with_extension("new");
            // Left over from an interrupted change.
            match fs::remove_file(&temporary) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
            let mut file = private_file().create_new(true).open(&temporary)?;
            file.write_all(bytes.as_slice())?;
            file.sync_all()?;
            fs::rename(&temporary, &self.path)?;
            self.sync_folder()?;
            overwrite(&old)
        };
        replace().map_err(Error::io("replace key file", &self.path))
    }

    /// Destroys the key: overwrites the file, syncs, removes it, syncs the folder. Everything sealed under it is then
    /// random bytes, save what the disk itself keeps of overwritten blocks (`storage-format §10.3`).
    ///
    /// # Errors
    /// [`Error::Io`]; the error says how far it came only by whether the file still exists.
    pub fn wipe(&self) -> Result<()> {
        let wipe = || {
            overwrite(&self.open_existing()?)?;
            fs::remove_file(&self.path)?;
            self.sync_folder()
        };
        wipe().map_err(Error::io("wipe key file", &self.path))
    }

    fn encode(
        &self,
        key: &MasterKey,
        passphrase: Option<&Passphrase>,
    ) -> Result<Zeroizing<[u8; KEY_FILE_LEN]>> {
        match passphrase {
            None => Ok(plain_bytes(key)),
            Some(passphrase) => sealed_bytes(key, passphrase, self.cost),
        }
    }

    /// A symbolic link is refused: overwriting would destroy what it points to, elsewhere.
    fn open_existing(&self) -> io::Result<File> {
        let nofollow = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
        private_file().custom_flags(nofollow).open(&self.path)
    }

    fn read(&self) -> Result<KeyFileContent> {
        let path = &self.path;
        let mut file = File::open(path).map_err(Error::io("read key file", path))?;
        let metadata = file.metadata().map_err(Error::io("read key file", path))?;
        check_private(path, metadata.permissions().mode(), MODE)?;
        // One byte more than fits, to see that a file is too long.
        let mut bytes = Zeroizing::new(Vec::with_capacity(KEY_FILE_LEN + 1));
        (&mut file)
            .take(KEY_FILE_LEN as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(Error::io("read key file", path))?;
        KeyFileContent::parse(&bytes).map_err(|fault| match fault {
            KeyFileFault::Damaged => Error::Damaged {
                what: WHAT,
                path: path.clone(),
            },
            KeyFileFault::Version(found) => Error::Version {
                what: WHAT,
                path: path.clone(),
                found,
                supported: KEY_FILE_VERSION,
            },
        })
    }

    fn sync_folder(&self) -> io::Result<()> {
        let folder = self
            .path
            .parent()
            .filter(|p| !p.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()
    }
}

/// Writes noise, then zeros, over the file, each down to the disk.
fn overwrite(file: &File) -> io::Result<()> {
    let len = usize::try_from(file.metadata()?.len())
        .unwrap_or(KEY_FILE_LEN)
        .min(1 << 16);
    let mut noise = vec![0; len];
    getrandom::fill(&mut noise).map_err(io::Error::other)?;
    for bytes in [noise, vec![0; len]] {
        file.write_all_at(&bytes, 0)?;
        file.sync_all()?;
    }
    Ok(())
}

impl fmt::Debug for KeyFileContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain(_) => "KeyFileContent::Plain(..)",
            Self::Sealed(_) => "KeyFileContent::Sealed(..)",
        })
    }
}

#[cfg(test)]
mod tests;
