//! Making and opening a datastore: headers, snapshot, journal, and the way back when one of them is lost
//! (`storage-format §4, §7.4`).

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};

use warren_keys::{Location, labels};

use super::Store;
use super::report::{Counters, IndexSource, Opened, Rebuilt};
use super::upkeep::{Holes, JournalBound, replay_into};
use crate::entry::{BlockTag, Placer};
use crate::error::{Error, Result};
use crate::geometry::{FORMAT_VERSION, Geometry, HEADER_LEN, Region, SLOT_LEN, Slot, WAYS};
use crate::header::{Header, HeaderFault};
use crate::index::{Index, Tables};
use crate::journal::{self, Journal, Record, Replayed};
use crate::master::MasterKey;
use crate::medium::{Allocation, Backend, Folder, Medium};
use crate::seal::{BaseKey, SALT_LEN};
use crate::slot::SlotCipher;
use crate::snapshot;

pub(super) const SNAPSHOT: &str = "index";
pub(super) const SNAPSHOT_TMP: &str = "index.tmp";

/// Two names by turns: the new journal is on the disk before the snapshot that it follows makes it the valid one.
pub(super) fn journal_name(generation: u64) -> &'static str {
    if generation.is_multiple_of(2) {
        "journal.0"
    } else {
        "journal.1"
    }
}

const WHAT: &str = "datastore file";

/// What to do about disk space when a datastore is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Space {
    /// Set all of it aside now, where the file system can; a disk too small for the quota says so at once.
    #[default]
    Reserve,
    /// Take it as slots are written.
    Sparse,
}

/// How to open a datastore.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The sizes of a new datastore. One that exists keeps its own ([`Store::geometry`] tells).
    pub geometry: Geometry,
    /// Where this node is on the ring: the store region keeps what is nearest. May change between opens.
    pub location: Location,
    /// For a new datastore.
    pub space: Space,
}

impl Store {
    /// Opens the datastore in a folder of its own, or makes one if there is none.
    ///
    /// # Errors
    /// [`Error::InUse`], [`Error::Permissions`], [`Error::WrongKey`], [`Error::Version`], [`Error::Io`] (a disk too small for
    /// a new datastore is [`Error::is_disk_full`]).
    pub fn open(path: impl Into<PathBuf>, master: &MasterKey, options: &Options) -> Result<Self> {
        Self::open_on(Arc::new(Folder::open(path)?), master, options)
    }

    /// As [`Store::open`], on any backend.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_on(backend: Arc<dyn Backend>, master: &MasterKey, options: &Options) -> Result<Self> {
        let files = Files::open(&*backend, master, options)?;
        let volume = &files.header.volume;
        let opener = Opener {
            cipher: SlotCipher::new(master, volume),
            placer: Placer::new(master, volume),
            index_key: master.volume_key(labels::STORAGE_INDEX, volume),
            journal_key: master.volume_key(labels::STORAGE_JOURNAL, volume),
            geometry: files.header.geometry,
            backend,
            regions: files.regions,
        };
        let loaded = if files.created || files.restored.is_some() {
            None
        } else {
            opener.load()
        };
        let (loaded, source) = match loaded {
            Some(loaded) => {
                let replayed = loaded.records;
                (loaded, IndexSource::Loaded { replayed })
            }
            None if files.created => (opener.empty()?, IndexSource::Created),
            None => {
                let (loaded, rebuilt) = opener.rebuild()?;
                (loaded, IndexSource::Rebuilt(rebuilt))
            }
        };
        let Opener {
            cipher,
            placer,
            index_key,
            journal_key,
            geometry,
            backend,
            regions,
        } = opener;
        let store = Self {
            backend,
            geometry,
            location: options.location,
            cipher,
            placer,
            index_key,
            journal_key,
            regions,
            allocation: files.header.allocation,
            index: Index::new(geometry, loaded.tables),
            journal: Mutex::new(loaded.journal),
            // A process before this one may have left writes that only the system's cache has.
            dirty: [AtomicBool::new(true), AtomicBool::new(true)],
            names_dirty: AtomicBool::new(true),
            stamp: AtomicU64::new(loaded.stamp),
            buffers: Mutex::new(Vec::new()),
            counters: Counters::default(),
            opened: Opened {
                index: source,
                restored: files.restored,
            },
        };
        if !matches!(source, IndexSource::Loaded { .. }) {
            store.rotate(&mut store.lock_journal())?;
        }
        Ok(store)
    }

    /// What opening found.
    #[must_use]
    pub fn opened(&self) -> Opened {
        self.opened
    }

    /// The sizes of the regions.
    #[must_use]
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }
}

/// The region files with their header.
struct Files {
    regions: [Arc<dyn Medium>; 2],
    header: Header,
    created: bool,
    restored: Option<Region>,
}

/// What the beginning of a region's file says.
enum Page {
    /// No file.
    Absent,
    Good(Header),
    Unreadable,
}

impl Files {
    fn open(backend: &dyn Backend, master: &MasterKey, options: &Options) -> Result<Self> {
        let pages = [
            read_page(backend, master, Region::Store)?,
            read_page(backend, master, Region::Cache)?,
        ];
        let damaged = |region: Region| Error::Damaged {
            what: WHAT,
            path: backend.path(region.file_name()),
        };
        let (header, restored) = match pages {
            [Page::Good(a), Page::Good(b)] if a == b => (a, None),
            // Files of two datastores.
            [Page::Good(_), Page::Good(_)] => return Err(damaged(Region::Cache)),
            [Page::Good(header), _] => (header, Some(Region::Cache)),
            [_, Page::Good(header)] => (header, Some(Region::Store)),
            [Page::Absent, Page::Absent] => return Self::create(backend, master, options),
            _ => {
                return Err(Error::WrongKey {
                    what: WHAT,
                    path: backend.path(Region::Store.file_name()),
                });
            }
        };
        let ready = |region: Region| {
            let open = || {
                let medium = match backend.open(region.file_name())? {
                    Some(medium) => medium,
                    None => backend.create(region.file_name())?,
                };
                let len = header.geometry.file_len(region);
                if medium.size()? < len {
                    medium.set_size(len)?;
                }
                if restored == Some(region) {
                    medium.write_at(&header.seal(master, region)?, 0)?;
                    medium.sync()?;
                    backend.sync()?;
                }
                Ok(medium)
            };
            open().map_err(Error::io("open", backend.path(region.file_name())))
        };
        Ok(Self {
            regions: [ready(Region::Store)?, ready(Region::Cache)?],
            header,
            created: false,
            restored,
        })
    }

    /// Makes both files whole under other names first: a datastore exists when one of them has its own.
    fn create(backend: &dyn Backend, master: &MasterKey, options: &Options) -> Result<Self> {
        let temporary = |region: Region| match region {
            Region::Store => "store.tmp",
            Region::Cache => "cache.tmp",
        };
        let make = |region: Region| {
            let make = || {
                let medium = backend.create(temporary(region))?;
                let len = options.geometry.file_len(region);
                let allocation = match options.space {
                    Space::Reserve => medium.reserve(len)?,
                    Space::Sparse => medium.set_size(len).map(|()| Allocation::Sparse)?,
                };
                Ok((medium, allocation))
            };
            // A disk too small is found out here: it gets its space back.
            make().map_err(|e| {
                for region in Region::ALL {
                    drop(backend.remove(temporary(region)));
                }
                Error::io("set aside space for", backend.path(region.file_name()))(e)
            })
        };
        let (store, a) = make(Region::Store)?;
        let (cache, b) = make(Region::Cache)?;
        let regions = [store, cache];
        let header = Header::new(options.geometry, [a, b]).map_err(Error::io("make", backend.path("")))?;
        let finish = || {
            for region in Region::ALL {
                let medium = &regions[region.index()];
                medium.write_at(&header.seal(master, region)?, 0)?;
                medium.sync()?;
            }
            for region in Region::ALL {
                backend.rename(temporary(region), region.file_name())?;
            }
            backend.sync()
        };
        finish().map_err(Error::io("make a datastore in", backend.path("")))?;
        Ok(Self {
            regions,
            header,
            created: true,
            restored: None,
        })
    }
}

fn read_page(backend: &dyn Backend, master: &MasterKey, region: Region) -> Result<Page> {
    let path = backend.path(region.file_name());
    let read = || {
        let Some(medium) = backend.open(region.file_name())? else {
            return Ok(None);
        };
        let mut page = vec![0; HEADER_LEN];
        if medium.size()? >= HEADER_LEN as u64 {
            medium.read_at(&mut page, 0)?;
        }
        Ok(Some(page))
    };
    let Some(page) = read().map_err(Error::io("read", &path))? else {
        return Ok(Page::Absent);
    };
    match Header::open(master, region, &page) {
        Ok(header) => Ok(Page::Good(header)),
        Err(HeaderFault::Unreadable) => Ok(Page::Unreadable),
        Err(HeaderFault::Version(found)) => Err(Error::Version {
            what: WHAT,
            path,
            found,
            supported: FORMAT_VERSION,
        }),
    }
}

/// An index with its journal.
struct Loaded {
    tables: Tables,
    journal: Journal,
    stamp: u64,
    records: u64,
}

/// What is needed to get at the index.
struct Opener {
    cipher: SlotCipher,
    placer: Placer,
    index_key: BaseKey,
    journal_key: BaseKey,
    geometry: Geometry,
    backend: Arc<dyn Backend>,
    regions: [Arc<dyn Medium>; 2],
}

impl Opener {
    /// Snapshot and journal. `None` if either is missing, damaged or unreadable: then the slots are asked.
    fn load(&self) -> Option<Loaded> {
        let medium = self.backend.open(SNAPSHOT).ok()??;
        let (mut tables, head) = snapshot::read(&*medium, &self.index_key, &self.geometry).ok()??;
        let medium = self.backend.open(journal_name(head.generation)).ok()??;
        let most = JournalBound::of(&self.geometry).most_bytes();
        let size = medium.size().ok().filter(|&size| size <= most)?;
        let mut bytes = vec![0; usize::try_from(size).ok()?];
        medium.read_at(&mut bytes, 0).ok()?;
        let mut written = 0;
        let replayed = journal::replay(&self.journal_key, head.generation, &bytes, |record| {
            written += u64::from(matches!(record, Record::Written(..)));
            replay_into(&mut tables, record);
        });
        let Replayed::Whole { end, records } = replayed else {
            return None;
        };
        let journal = Journal::resume(medium, self.journal_key.clone(), head.generation, end, records);
        Some(Loaded {
            tables,
            journal,
            stamp: head.stamp + written,
            records,
        })
    }

    /// An empty index, for a new datastore or to be filled from the slots. Its journal only lends its generation to
    /// the snapshot that follows.
    fn empty(&self) -> Result<Loaded> {
        let name = journal_name(0);
        let medium = self
            .backend
            .create(name)
            .map_err(Error::io("create", self.backend.path(name)))?;
        let journal = Journal::resume(medium, self.journal_key.clone(), 0, 0, 0);
        Ok(Loaded {
            tables: Tables::new(&self.geometry),
            journal,
            stamp: 0,
            records: 0,
        })
    }

    /// Reads all slots. Of two blocks alike in a set the one written first stays.
    fn rebuild(&self) -> Result<(Loaded, Rebuilt)> {
        let mut loaded = self.empty()?;
        let mut rebuilt = Rebuilt::default();
        let mut buf = vec![0; SLOT_LEN];
        for region in Region::ALL {
            let medium = &*self.regions[region.index()];
            let mut holes = Holes::new(medium);
            for set in 0..self.geometry.sets(region) {
                let mut found: Vec<(u64, BlockTag, Slot)> = Vec::new();
                for slot in (set * WAYS..(set + 1) * WAYS).map(Slot::new) {
                    if holes.covers(slot) {
                        continue;
                    }
                    // What cannot be read is no block.
                    let read = medium.read_at(&mut buf, slot.offset()).is_ok();
                    match self.cipher.open(region, slot, &mut buf).filter(|_| read) {
                        Some(head) => found.push((head.stamp, self.placer.place(&head.id).tag, slot)),
                        None if read && buf[..SALT_LEN] == [0; SALT_LEN] => {}
                        None => rebuilt.unusable += 1,
                    }
                }
                found.sort_by_key(|(stamp, ..)| *stamp);
                for (i, &(stamp, tag, slot)) in found.iter().enumerate() {
                    loaded.stamp = loaded.stamp.max(stamp + 1);
                    if found[..i].iter().all(|(_, earlier, _)| *earlier != tag) {
                        loaded.tables.record(region, slot, Some(tag));
                        rebuilt.blocks += 1;
                    }
                }
            }
        }
        Ok((loaded, rebuilt))
    }
}
