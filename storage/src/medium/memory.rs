//! A folder in memory that can lose power: what was not synced is then there wholly, partly, or not at all.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Allocation, Backend, Medium};

/// The unit that a disk writes as a whole.
const SECTOR: usize = 512;

#[derive(Clone, Default)]
struct FileState {
    /// What a reader sees now.
    current: Vec<u8>,
    /// What is on the disk for certain.
    durable: Vec<u8>,
    /// What happened since, in order.
    pending: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Size(usize),
}

#[derive(Clone)]
enum NameChange {
    Link(String, usize),
    Rename(String, String),
    Remove(String),
}

#[derive(Clone, Default)]
struct State {
    files: Vec<FileState>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    pending_names: Vec<NameChange>,
}

/// An in-memory folder. Clones share the content.
#[derive(Clone, Default)]
pub struct Memory(Arc<Mutex<State>>);

/// A small generator for the choices of a power cut (SplitMix64): the caller's seed decides everything.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z >> 33) % (sides as u64)).unwrap_or(0)
    }
}

impl Memory {
    /// An empty folder.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An independent copy of what a process started after `kill -9` would find: everything written so far.
    #[must_use]
    pub fn after_kill(&self) -> Self {
        Self(Arc::new(Mutex::new(self.lock().clone())))
    }

    /// An independent copy of what the disk may hold after a power cut now. Of every unsynced write any subset of its
    /// sectors has arrived, in any order; of unsynced renames a prefix. `seed` chooses.
    #[must_use]
    pub fn after_power_cut(&self, seed: u64) -> Self {
        let mut dice = Dice(seed);
        let mut state = self.lock().clone();
        for file in &mut state.files {
            let mut disk = std::mem::take(&mut file.durable);
            for change in file.pending.drain(..) {
                apply_torn(&mut disk, &change, &mut dice);
            }
            file.durable.clone_from(&disk);
            file.current = disk;
        }
        let mut names = std::mem::take(&mut state.durable_names);
        let keep = dice.roll(state.pending_names.len() + 1);
        for change in state.pending_names.drain(..).take(keep) {
            apply_name(&mut names, change);
        }
        state.durable_names.clone_from(&names);
        state.names = names;
        Self(Arc::new(Mutex::new(state)))
    }

    /// The bytes of a file as a reader sees them now; empty if there is none.
    #[must_use]
    pub fn read(&self, name: &str) -> Vec<u8> {
        let state = self.lock();
        state
            .names
            .get(name)
            .map(|&id| state.files[id].current.clone())
            .unwrap_or_default()
    }

    /// Changes the bytes of a file behind the store's back, durably: bit rot, or an adversary with the disk.
    pub fn tamper(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.lock();
        let Some(&id) = state.names.get(name) else { return };
        let file = &mut state.files[id];
        change(&mut file.current);
        file.durable.clone_from(&file.current);
        file.pending.clear();
    }

    /// The names of all files.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.lock().names.keys().cloned().collect()
    }
}

fn apply(disk: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write { offset, bytes } => {
            let end = offset + bytes.len();
            if disk.len() < end {
                disk.resize(end, 0);
            }
            disk[*offset..end].copy_from_slice(bytes);
        }
        Change::Size(size) => disk.resize(*size, 0),
    }
}

fn apply_torn(disk: &mut Vec<u8>, change: &Change, dice: &mut Dice) {
    let Change::Write { offset, bytes } = change else {
        return apply(disk, change);
    };
    // One in three arrives whole, one is lost, one is torn at sector borders.
    match dice.roll(3) {
        0 => apply(disk, change),
        1 => {}
        _ => {
            let mut at = 0;
            while at < bytes.len() {
                let len = (SECTOR - (offset + at) % SECTOR).min(bytes.len() - at);
                if dice.roll(2) == 0 {
                    apply(
                        disk,
                        &Change::Write {
                            offset: offset + at,
                            bytes: bytes[at..at + len].to_vec(),
                        },
                    );
                }
                at += len;
            }
        }
    }
}

fn apply_name(names: &mut BTreeMap<String, usize>, change: NameChange) {
    match change {
        NameChange::Link(name, id) => drop(names.insert(name, id)),
        NameChange::Rename(from, to) => {
            if let Some(id) = names.remove(&from) {
                names.insert(to, id);
            }
        }
        NameChange::Remove(name) => drop(names.remove(&name)),
    }
}

impl State {
    fn rename(&mut self, change: NameChange) {
        apply_name(&mut self.names, change.clone());
        self.pending_names.push(change);
    }
}

impl Backend for Memory {
    fn open(&self, name: &str) -> io::Result<Option<Arc<dyn Medium>>> {
        let id = self.lock().names.get(name).copied();
        Ok(id.map(|id| {
            Arc::new(MemoryFile {
                folder: self.clone(),
                id,
            }) as Arc<dyn Medium>
        }))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn Medium>> {
        let mut state = self.lock();
        let id = if let Some(&id) = state.names.get(name) {
            state.files[id].current.clear();
            state.files[id].pending.push(Change::Size(0));
            id
        } else {
            let id = state.files.len();
            state.files.push(FileState::default());
            state.rename(NameChange::Link(name.to_owned(), id));
            id
        };
        drop(state);
        Ok(Arc::new(MemoryFile {
            folder: self.clone(),
            id,
        }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.lock();
        if !state.names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.rename(NameChange::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.lock();
        if state.names.contains_key(name) {
            state.rename(NameChange::Remove(name.to_owned()));
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.lock();
        state.pending_names.clear();
        state.durable_names = state.names.clone();
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from("memory").join(name)
    }
}

struct MemoryFile {
    folder: Memory,
    id: usize,
}

fn index(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge.into())
}

impl MemoryFile {
    fn change(&self, change: Change) {
        let mut state = self.folder.lock();
        let file = &mut state.files[self.id];
        apply(&mut file.current, &change);
        file.pending.push(change);
    }
}

impl Medium for MemoryFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let offset = index(offset)?;
        let state = self.folder.lock();
        let file = &state.files[self.id];
        let bytes = file
            .current
            .get(offset..offset + buf.len())
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(bytes);
        Ok(())
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.change(Change::Write {
            offset: index(offset)?,
            bytes: buf.to_vec(),
        });
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.folder.lock().files[self.id].current.len() as u64)
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.change(Change::Size(index(size)?));
        Ok(())
    }

    fn reserve(&self, size: u64) -> io::Result<Allocation> {
        self.set_size(size)?;
        Ok(Allocation::Sparse)
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.folder.lock();
        let file = &mut state.files[self.id];
        // Only what changed is copied: a region is megabytes, a sync covers a few slots of it.
        for change in std::mem::take(&mut file.pending) {
            apply(&mut file.durable, &change);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn synced_bytes_survive_and_unsynced_ones_may_not() {
        let folder = Memory::new();
        let file = folder.create("f").unwrap();
        file.write_at(&[1; 2000], 0).unwrap();
        file.sync().unwrap();
        folder.sync().unwrap();
        file.write_at(&[2; 2000], 0).unwrap();
        assert_eq!(folder.after_kill().read("f"), [2; 2000]);
        let mut seen = [false; 3];
        for seed in 0..50 {
            let disk = folder.after_power_cut(seed).read("f");
            let twos = disk.iter().filter(|&&b| b == 2).count();
            assert!(disk.iter().all(|&b| b == 1 || b == 2));
            seen[match twos {
                0 => 0,
                2000 => 1,
                _ => 2,
            }] = true;
        }
        assert_eq!(seen, [true; 3]);
    }

    #[test]
    fn unsynced_names_may_vanish() {
        let folder = Memory::new();
        folder.create("f").unwrap().sync().unwrap();
        let lost = (0..20)
            .filter(|&seed| folder.after_power_cut(seed).names().is_empty())
            .count();
        assert!(lost > 0 && lost < 20);
        Backend::sync(&folder).unwrap();
        assert!((0..20).all(|seed| folder.after_power_cut(seed).names() == ["f"]));
    }
}
