//! A backend that counts the calls that change anything and fails from the n-th on, once or for good.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Allocation, Backend, Medium};

/// The calls made so far. Reads and changes are counted apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// `read_at` calls.
    pub reads: u64,
    /// `write_at` calls.
    pub writes: u64,
    /// `sync` calls on files and folder.
    pub syncs: u64,
}

#[derive(Default)]
struct Shared {
    reads: AtomicU64,
    writes: AtomicU64,
    syncs: AtomicU64,
    /// Changing calls that still succeed; `u64::MAX` for no fault planned.
    budget: AtomicU64,
    /// Changing calls that fail after the budget is used up.
    failures: AtomicU64,
    kind: std::sync::Mutex<Option<io::ErrorKind>>,
}

impl Shared {
    fn change(&self) -> io::Result<()> {
        let spent = self
            .budget
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |b| match b {
                u64::MAX => Some(b),
                _ => b.checked_sub(1),
            });
        if spent.is_ok() {
            return Ok(());
        }
        let failing = self
            .failures
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |f| f.checked_sub(1));
        match (
            failing,
            *self
                .kind
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner),
        ) {
            (Ok(_), Some(kind)) => Err(kind.into()),
            _ => Ok(()),
        }
    }
}

/// Wraps a backend; clones share counters and faults.
#[derive(Clone)]
pub struct Faulty {
    inner: Arc<dyn Backend>,
    shared: Arc<Shared>,
}

impl Faulty {
    /// A backend that passes everything on until told otherwise.
    #[must_use]
    pub fn new(inner: Arc<dyn Backend>) -> Self {
        let shared = Shared {
            budget: AtomicU64::new(u64::MAX),
            ..Shared::default()
        };
        Self {
            inner,
            shared: Arc::new(shared),
        }
    }

    /// Lets `budget` more changing calls (writes, syncs, creations, renames) through; the `failures` ones after them
    /// fail with `kind`; then all is well again.
    pub fn fail_after(&self, budget: u64, failures: u64, kind: io::ErrorKind) {
        *self
            .shared
            .kind
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = Some(kind);
        self.shared.failures.store(failures, Ordering::SeqCst);
        self.shared.budget.store(budget, Ordering::SeqCst);
    }

    /// Takes the planned fault back.
    pub fn heal(&self) {
        self.shared.budget.store(u64::MAX, Ordering::SeqCst);
    }

    /// The calls made so far.
    #[must_use]
    pub fn calls(&self) -> Calls {
        Calls {
            reads: self.shared.reads.load(Ordering::SeqCst),
            writes: self.shared.writes.load(Ordering::SeqCst),
            syncs: self.shared.syncs.load(Ordering::SeqCst),
        }
    }

    fn wrap(&self, medium: Arc<dyn Medium>) -> Arc<dyn Medium> {
        Arc::new(FaultyMedium {
            inner: medium,
            shared: Arc::clone(&self.shared),
        })
    }
}

impl Backend for Faulty {
    fn open(&self, name: &str) -> io::Result<Option<Arc<dyn Medium>>> {
        Ok(self.inner.open(name)?.map(|m| self.wrap(m)))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn Medium>> {
        self.shared.change()?;
        Ok(self.wrap(self.inner.create(name)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.shared.change()?;
        self.inner.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.shared.change()?;
        self.inner.remove(name)
    }

    fn sync(&self) -> io::Result<()> {
        self.shared.syncs.fetch_add(1, Ordering::SeqCst);
        self.shared.change()?;
        self.inner.sync()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.inner.path(name)
    }
}

struct FaultyMedium {
    inner: Arc<dyn Medium>,
    shared: Arc<Shared>,
}

impl Medium for FaultyMedium {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.shared.reads.fetch_add(1, Ordering::SeqCst);
        self.inner.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.shared.writes.fetch_add(1, Ordering::SeqCst);
        if let Err(e) = self.shared.change() {
            // A full disk writes nothing; a broken one fails halfway.
            if e.kind() != io::ErrorKind::StorageFull {
                self.inner.write_at(&buf[..buf.len() / 2], offset)?;
            }
            return Err(e);
        }
        self.inner.write_at(buf, offset)
    }

    fn size(&self) -> io::Result<u64> {
        self.inner.size()
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.shared.change()?;
        self.inner.set_size(size)
    }

    fn reserve(&self, size: u64) -> io::Result<Allocation> {
        self.shared.change()?;
        self.inner.reserve(size)
    }

    fn sync(&self) -> io::Result<()> {
        self.shared.syncs.fetch_add(1, Ordering::SeqCst);
        self.shared.change()?;
        self.inner.sync()
    }
}
