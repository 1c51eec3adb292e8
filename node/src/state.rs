//! What a node remembers between runs: its master key, its identity, the nodes it knows, its pinned entries.
//!
//! ```text
//! <data folder>/node.key        the master key, plain or under a passphrase (mode 0600)
//! <data folder>/state/identity  sealed: the identity's seed
//! <data folder>/state/network   sealed: pinned entries and signed descriptors
//! <data folder>/state/replays   sealed: link handshakes answered lately
//! <data folder>/state/traffic   sealed: bytes moved in the present month
//! <data folder>/state/repair    sealed: which nodes keep blocks around here, and where the census stands
//! <data folder>/store/          the datastore
//! ```
//!
//! # Invariants
//!
//! - Nothing here is replaced by something new because it could not be read: a damaged file stops the start with a
//!   message that says what to do. Starting over silently would change the node's identity, and its entries, which protect
//!   its user for weeks.
//! - Files are replaced as a whole; a crash leaves the old content or the new.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::{Buf, BufMut, BytesMut};
use warren_keys::{IdentityKey, NodeId, Seed};
use warren_proto::{
    client::entry::{MAX_ENTRIES, PinnedEntry},
    descriptor::{Descriptor, MAX_DESCRIPTOR_LEN},
    link::ReplayCache,
    network::Network,
    repair::RepairMemory,
};
use warren_storage::{Error, Folder, KeyFile, MasterKey, Passphrase, SealedFile};
use zeroize::Zeroizing;

use crate::net::bandwidth::volume::Volume;

/// The key file's name in the data folder.
pub const KEY_FILE: &str = "node.key";
const STATE_FOLDER: &str = "state";
const STORE_FOLDER: &str = "store";
const IDENTITY: &str = "identity";
const NETWORK: &str = "network";
const REPLAYS: &str = "replays";
const TRAFFIC: &str = "traffic";
const REPAIR: &str = "repair";

/// First byte of both files' content.
const VERSION: u8 = 1;

/// Descriptors that are saved: with them a node finds the network again after months. 4096 are 1 MiB.
const MAX_SAVED: usize = 4096;

/// Why a node's state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The key file is missing beside state that was sealed under it.
    #[error(
        "{} is missing, but {} holds state that was sealed under it. Restore the key file from a backup; or, if it was \
         wiped on purpose, remove the folder to start as a new node",
        key.display(), folder.display()
    )]
    KeyMissing {
        /// The key file.
        key: PathBuf,
        /// The data folder.
        folder: PathBuf,
    },
    /// A state file opens, and its content makes no sense.
    #[error(
        "{} is damaged. Restore it from a backup, or remove it: {loss}", path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What removing it costs.
        loss: &'static str,
    },
    /// The system gives no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(getrandom::Error),
    /// The storage layer's: permissions, passphrase, damage, disk.
    #[error(transparent)]
    Storage(#[from] Error),
}

const IDENTITY_LOSS: &str =
    "the node then starts with a new identity, and references to the old one no longer lead to it";
const NETWORK_LOSS: &str =
    "the node then needs a seed to find the network again and picks new entries for its circuits";

/// What is remembered of the network.
#[derive(Clone, Default)]
pub(crate) struct Remembered {
    /// Pinned entries, the preferred one first.
    pub(crate) entries: Vec<PinnedEntry>,
    /// Nodes known, the most useful first.
    pub(crate) descriptors: Vec<Descriptor>,
    /// Who keeps blocks around here. In a file of its own, which changes more often.
    pub(crate) repair: RepairMemory,
}

/// The open data folder; no other process works in it meanwhile.
pub(crate) struct State {
    folder: PathBuf,
    master: MasterKey,
    identity: SealedFile,
    network: SealedFile,
    replays: SealedFile,
    traffic: SealedFile,
    repair: SealedFile,
}

impl State {
    /// Opens a data folder, making it and its key file if there is nothing yet.
    pub(crate) fn open(folder: &Path, passphrase: Option<&Passphrase>) -> Result<Self, StateError> {
        let key_path = folder.join(KEY_FILE);
        let state = folder.join(STATE_FOLDER);
        let fresh = !state.exists();
        // Makes the data folder too, both private, and locks.
        let files = Arc::new(Folder::open(&state)?);
        let key = KeyFile::at(&key_path);
        let master = if key_path.exists() {
            key.load(passphrase)?
        } else if fresh {
            key.create(passphrase)?
        } else {
            return Err(StateError::KeyMissing {
                key: key_path,
                folder: folder.to_owned(),
            });
        };
        Ok(Self {
            identity: SealedFile::new(files.clone(), IDENTITY, &master)?,
            network: SealedFile::new(files.clone(), NETWORK, &master)?,
            replays: SealedFile::new(files.clone(), REPLAYS, &master)?,
            traffic: SealedFile::new(files.clone(), TRAFFIC, &master)?,
            repair: SealedFile::new(files, REPAIR, &master)?,
            folder: folder.to_owned(),
            master,
        })
    }

    /// The key of everything that is sealed.
    pub(crate) fn master(&self) -> &MasterKey {
        &self.master
    }

    /// The datastore's folder.
    pub(crate) fn store_folder(&self) -> PathBuf {
        self.folder.join(STORE_FOLDER)
    }

    /// The node's identity; made and saved at the first call.
    pub(crate) fn identity(&self) -> Result<IdentityKey, StateError> {
        if let Some(content) = self.read(&self.identity, IDENTITY, IDENTITY_LOSS)? {
            let seed = content.split_first().filter(|(version, _)| **version == VERSION);
            let seed = seed.and_then(|(_, seed)| <[u8; 32]>::try_from(seed).ok());
            return seed
                .map(|seed| IdentityKey::from_seed(&Seed::from_bytes(seed)))
                .ok_or_else(|| self.damaged(IDENTITY, IDENTITY_LOSS));
        }
        let seed = random_seed().map(Seed::from_bytes).map_err(StateError::Random)?;
        let mut content = Zeroizing::new(vec![VERSION]);
        content.extend_from_slice(seed.expose());
        self.identity.write(&content)?;
        Ok(IdentityKey::from_seed(&seed))
    }

    /// What was remembered of the network; nothing at the first start. Descriptors that no longer verify are left out.
    pub(crate) fn remembered(&self, network: &Network) -> Result<Remembered, StateError> {
        let repair = self.repair()?;
        let Some(content) = self.read(&self.network, NETWORK, NETWORK_LOSS)? else {
            return Ok(Remembered {
                repair,
                ..Remembered::default()
            });
        };
        let remembered = decode(&content, network).ok_or_else(|| self.damaged(NETWORK, NETWORK_LOSS))?;
        Ok(Remembered { repair, ..remembered })
    }

    /// Replaces what is remembered; blocking.
    pub(crate) fn remember(&self, remembered: &Remembered) -> Result<(), StateError> {
        Ok(self.network.write(&encode(remembered))?)
    }

    /// The handshakes that were answered lately. A damaged file counts as none: it protects against a prober with a
    /// recording, for a day, and is not worth a node that does not start.
    pub(crate) fn replays(&self) -> Result<ReplayCache, StateError> {
        let content = match self.replays.read() {
            Err(Error::Damaged { .. }) => None,
            other => other?,
        };
        Ok(content
            .and_then(|bytes| ReplayCache::from_bytes(&bytes).ok())
            .unwrap_or_default())
    }

    /// What repair remembers. A damaged file counts as none: the node then learns in a day who is around, and is not worth
    /// stopping for.
    fn repair(&self) -> Result<RepairMemory, StateError> {
        let content = match self.repair.read() {
            Err(Error::Damaged { .. }) => None,
            other => other?,
        };
        Ok(content
            .and_then(|bytes| RepairMemory::from_bytes(&bytes).ok())
            .unwrap_or_default())
    }

    /// Replaces what repair remembers; blocking.
    pub(crate) fn remember_repair(&self, memory: &RepairMemory) -> Result<(), StateError> {
        Ok(self.repair.write(&memory.to_bytes())?)
    }

    /// Replaces the saved handshakes; blocking.
    pub(crate) fn remember_replays(&self, replays: &ReplayCache) -> Result<(), StateError> {
        Ok(self.replays.write(&replays.to_bytes())?)
    }

    /// What was moved in the month of the last count. A damaged file counts as none: a month's count is not worth a node that does
    /// not start.
    pub(crate) fn traffic(&self) -> Result<Option<Volume>, StateError> {
        match self.traffic.read() {
            Err(Error::Damaged { .. }) => Ok(None),
            other => Ok(other?.and_then(|bytes| Volume::decode(&bytes))),
        }
    }

    /// Replaces the saved count; blocking.
    pub(crate) fn remember_traffic(&self, volume: &Volume) -> Result<(), StateError> {
        Ok(self.traffic.write(&volume.encode())?)
    }

    fn read(
        &self,
        file: &SealedFile,
        name: &str,
        loss: &'static str,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, StateError> {
        match file.read() {
            Err(Error::Damaged { .. }) => Err(self.damaged(name, loss)),
            other => Ok(other?),
        }
    }

    fn damaged(&self, name: &str, loss: &'static str) -> StateError {
        StateError::Damaged {
            path: self.folder.join(STATE_FOLDER).join(name),
            loss,
        }
    }
}

/// 32 bytes from the system.
pub(crate) fn random_seed() -> Result<[u8; 32], getrandom::Error> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)?;
    Ok(seed)
}

/// Version, number of entries (u8), entries, then descriptors, each behind its length (u16).
fn encode(remembered: &Remembered) -> BytesMut {
    let mut out = BytesMut::new();
    out.put_u8(VERSION);
    let entries = &remembered.entries[..remembered.entries.len().min(MAX_ENTRIES)];
    #[expect(clippy::cast_possible_truncation, reason = "at most MAX_ENTRIES")]
    out.put_u8(entries.len() as u8);
    for entry in entries {
        out.put_slice(entry.node.as_bytes());
        out.put_u64(entry.left);
        out.put_u8(entry.failed_days);
        out.put_u64(entry.last_failed_day);
    }
    for descriptor in remembered.descriptors.iter().take(MAX_SAVED) {
        let at = out.len();
        out.put_u16(0);
        descriptor.encode_into(&mut out);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a descriptor has at most MAX_DESCRIPTOR_LEN bytes"
        )]
        let len = (out.len() - at - 2) as u16;
        out[at..at + 2].copy_from_slice(&len.to_be_bytes());
    }
    out
}

const _: () = assert!(MAX_DESCRIPTOR_LEN <= u16::MAX as usize && MAX_ENTRIES <= u8::MAX as usize);

fn decode(mut bytes: &[u8], network: &Network) -> Option<Remembered> {
    if bytes.try_get_u8().ok()? != VERSION {
        return None;
    }
    let mut remembered = Remembered::default();
    for _ in 0..bytes.try_get_u8().ok()? {
        let (id, rest) = bytes.split_first_chunk::<32>()?;
        bytes = rest;
        let entry = PinnedEntry {
            node: NodeId::from_bytes(id).ok()?,
            left: bytes.try_get_u64().ok()?,
            failed_days: bytes.try_get_u8().ok()?,
            last_failed_day: bytes.try_get_u64().ok()?,
        };
        remembered.entries.push(entry);
    }
    while !bytes.is_empty() {
        let len = usize::from(bytes.try_get_u16().ok()?);
        let (descriptor, rest) = bytes.split_at_checked(len)?;
        bytes = rest;
        // The file is authentic; what does not verify belongs to another network's name or an older version.
        remembered
            .descriptors
            .extend(Descriptor::decode(descriptor, network).ok());
    }
    Some(remembered)
}

#[cfg(test)]
mod tests {
    use warren_proto::{
        descriptor::{Services, Statement},
        time::WallTime,
    };

    use super::*;
    use crate::net::bandwidth::volume::Month;

    fn remembered(network: &Network) -> Remembered {
        let key = |seed| IdentityKey::from_seed(&Seed::from_bytes([seed; 32]));
        let descriptor = |seed: u8| {
            let statement = Statement {
                identity: key(seed).id(),
                link_key: [seed; 32],
                onion_key: [seed; 32],
                addresses: vec![([192, 0, 2, seed], 4433).into()],
                services: Services::ALL,
                published: 1_800_000_000,
            };
            Descriptor::sign(&key(seed), statement, network)
        };
        let entry = |seed: u8| PinnedEntry {
            node: key(seed).id(),
            left: 90 * 86_400,
            failed_days: seed,
            last_failed_day: 20_000,
        };
        Remembered {
            entries: vec![entry(1), entry(2)],
            repair: RepairMemory {
                uptime: 1234,
                ..RepairMemory::default()
            },
            descriptors: (1..20).map(descriptor).collect(),
        }
    }

    #[test]
    fn what_is_remembered_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let network: Network = "test".parse().unwrap();
        let saved = remembered(&network);
        let state = State::open(&folder.path().join("node"), None).unwrap();
        assert!(state.remembered(&network).unwrap().descriptors.is_empty());
        state.remember(&saved).unwrap();
        state.remember_repair(&saved.repair).unwrap();
        let identity = state.identity().unwrap().id();
        drop(state);

        let state = State::open(&folder.path().join("node"), None).unwrap();
        let read = state.remembered(&network).unwrap();
        assert_eq!((&read.entries, &read.repair), (&saved.entries, &saved.repair));
        assert_eq!(read.descriptors, saved.descriptors);
        assert_eq!(state.identity().unwrap().id(), identity);
        assert_eq!(state.traffic().unwrap(), None);
        let volume = Volume::new(Month::of(WallTime(1_800_000_000)));
        state.remember_traffic(&volume).unwrap();
        assert_eq!(state.traffic().unwrap(), Some(volume));
        // Descriptors are signed for one network.
        assert!(
            state
                .remembered(&"other".parse().unwrap())
                .unwrap()
                .descriptors
                .is_empty()
        );
    }

    #[test]
    fn every_cut_of_the_content_is_refused_or_shorter() {
        let network: Network = "test".parse().unwrap();
        let bytes = encode(&remembered(&network));
        for len in 0..bytes.len() {
            if let Some(read) = decode(&bytes[..len], &network) {
                assert!(read.descriptors.len() < 19);
            }
        }
        assert!(decode(&bytes, &network).is_some());
    }
}
