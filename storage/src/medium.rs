//! Where bytes live: the seam between the store's logic and a file system.
//!
//! A [`Backend`] is one folder of named files, a [`Medium`] one open file with positioned IO. The store asks nothing more
//! of the system than these two traits, so that tests can put a file system below it that loses unsynced writes, tears
//! them, reorders them or runs full (feature `testing`).
//!
//! What an implementation promises (`storage-format §9`): a write that has returned is seen by every later read, also
//! after the process is killed; it survives a power cut once [`Medium::sync`] on that file has returned after it; a
//! rename or a creation survives one once [`Backend::sync`] has returned after it. Nothing is promised about the order
//! in which unsynced writes reach the disk, nor that one is there as a whole.

pub(crate) mod file;

#[cfg(any(test, feature = "testing"))]
pub mod faulty;
#[cfg(any(test, feature = "testing"))]
pub mod memory;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

pub use file::Folder;

/// How the space of a region was obtained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocation {
    /// The file system has set the space aside: a later write cannot find the disk full (save on copy-on-write file
    /// systems, which allocate again on each overwrite).
    Reserved,
    /// The file has holes that are filled as slots are written; the disk may run full before the quota is reached.
    Sparse,
}

/// One open file with positioned IO. All methods take `&self` and may be called from several threads.
pub trait Medium: Send + Sync {
    /// Fills `buf` from `offset`.
    ///
    /// # Errors
    /// The system's; `UnexpectedEof` if the file ends before.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes all of `buf` at `offset`, extending the file if needed.
    ///
    /// # Errors
    /// The system's; part of `buf` may have been written.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;

    /// The file's length in bytes.
    ///
    /// # Errors
    /// The system's.
    fn size(&self) -> io::Result<u64>;

    /// Cuts the file, or extends it with zeros.
    ///
    /// # Errors
    /// The system's.
    fn set_size(&self, size: u64) -> io::Result<()>;

    /// Makes the file `size` bytes long with its space set aside where the file system can do that.
    ///
    /// # Errors
    /// The system's; a disk without `size` bytes free is `StorageFull`.
    fn reserve(&self, size: u64) -> io::Result<Allocation>;

    /// Returns when all that was written before the call is on the disk.
    ///
    /// # Errors
    /// The system's.
    fn sync(&self) -> io::Result<()>;

    /// The first byte from `offset` on that may have been written; `None` if there is none. Lets a scan step over holes.
    ///
    /// # Errors
    /// The system's.
    fn next_data(&self, offset: u64) -> io::Result<Option<u64>> {
        Ok(Some(offset))
    }
}

/// A flat folder of files.
pub trait Backend: Send + Sync {
    /// Opens a file for reading and writing; `None` if it does not exist.
    ///
    /// # Errors
    /// The system's.
    fn open(&self, name: &str) -> io::Result<Option<Arc<dyn Medium>>>;

    /// Creates an empty file, or empties the one that is there.
    ///
    /// # Errors
    /// The system's.
    fn create(&self, name: &str) -> io::Result<Arc<dyn Medium>>;

    /// Gives a file another name, replacing atomically what had it.
    ///
    /// # Errors
    /// The system's.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file. No error if there is none.
    ///
    /// # Errors
    /// The system's.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Returns when creations, renames and removals before the call are on the disk.
    ///
    /// # Errors
    /// The system's.
    fn sync(&self) -> io::Result<()>;

    /// What error messages call the file.
    fn path(&self, name: &str) -> PathBuf;
}

/// Replaces the whole of `name` so that a crash leaves the old bytes or the new, never a mixture:
/// write beside it, sync, rename over it, sync the folder.
///
/// # Errors
/// The system's. The old content is then still in place.
pub(crate) fn replace(backend: &dyn Backend, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = format!("{name}.tmp");
    let write = || {
        let medium = backend.create(&temporary)?;
        medium.write_at(bytes, 0)?;
        medium.sync()?;
        backend.rename(&temporary, name)?;
        backend.sync()
    };
    write().inspect_err(|_| drop(backend.remove(&temporary)))
}
