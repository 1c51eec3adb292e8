//! Real files in a private, locked folder.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FallocateFlags, FlockOperation, SeekFrom, fallocate, flock};

use super::{Allocation, Backend, Medium};
use crate::error::{Error, Result};

/// The file whose lock says that a process works in the folder. It stays empty and is never removed: removing a lock
/// file lets two processes lock two different files of one name.
const LOCK: &str = "lock";

/// The permission bits of folders made here.
const FOLDER_MODE: u32 = 0o700;
/// The permission bits of files made here.
const FILE_MODE: u32 = 0o600;

/// A folder of mode 0700 that this process alone works in, for as long as the value lives.
pub struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Opens the folder, creating it (and its parents) if needed, and locks it.
    ///
    /// # Errors
    /// [`Error::Permissions`] if group or others have any access to it, [`Error::InUse`] if another process (or another
    /// value in this one) has it open, [`Error::Io`].
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        DirBuilder::new()
            .recursive(true)
            .mode(FOLDER_MODE)
            .create(&path)
            .map_err(Error::io("create folder", &path))?;
        let metadata = fs::metadata(&path).map_err(Error::io("look at", &path))?;
        check_private(&path, metadata.permissions().mode(), FOLDER_MODE)?;
        let name = path.join(LOCK);
        let lock = private_file()
            .create(true)
            .truncate(false)
            .open(&name)
            .map_err(Error::io("open", &name))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { path, _lock: lock }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::InUse { path }),
            Err(e) => Err(Error::io("lock", name)(e.into())),
        }
    }
}

/// Refuses what group or others may touch.
pub(crate) fn check_private(path: &Path, mode: u32, wanted: u32) -> Result<()> {
    let mode = mode & 0o777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    Err(Error::Permissions {
        path: path.to_owned(),
        mode,
        wanted,
    })
}

/// Options for reading and writing a file which, if created, only its owner may touch.
pub(crate) fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(FILE_MODE);
    options
}

impl Backend for Folder {
    fn open(&self, name: &str) -> io::Result<Option<Arc<dyn Medium>>> {
        match private_file().open(self.path.join(name)) {
            Ok(file) => Ok(Some(Arc::new(Disk(file)))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn Medium>> {
        Ok(Arc::new(Disk(
            private_file()
                .create(true)
                .truncate(true)
                .open(self.path.join(name))?,
        )))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.path.join(name)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

struct Disk(File);

impl Medium for Disk {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(buf, offset)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.0.set_len(size)
    }

    fn reserve(&self, size: u64) -> io::Result<Allocation> {
        match fallocate(&self.0, FallocateFlags::empty(), 0, size) {
            Ok(()) => Ok(Allocation::Reserved),
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS | rustix::io::Errno::INVAL) => {
                self.0.set_len(size)?;
                Ok(Allocation::Sparse)
            }
            Err(e) => Err(e.into()),
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<u64>> {
        // The shared file position that this moves is used by nothing else here.
        match rustix::fs::seek(&self.0, SeekFrom::Data(offset)) {
            Ok(at) => Ok(Some(at)),
            Err(rustix::io::Errno::NXIO) => Ok(None),
            // A file system that does not know its holes has none.
            Err(_) => Ok(Some(offset)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_is_private_and_locked_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let folder = Folder::open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(matches!(Folder::open(&path), Err(Error::InUse { .. })));
        drop(folder);
        Folder::open(&path).unwrap();
    }

    #[test]
    fn folder_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("open");
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o750)).unwrap();
        let error = Folder::open(&path).err().unwrap();
        assert!(error.to_string().contains("chmod 700"), "{error}");
    }

    #[test]
    fn files_are_private_and_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path().join("x")).unwrap();
        super::super::replace(&folder, "f", b"first, longer").unwrap();
        super::super::replace(&folder, "f", b"second").unwrap();
        assert_eq!(fs::read(folder.path("f")).unwrap(), b"second");
        assert_eq!(
            fs::metadata(folder.path("f")).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert!(!folder.path("f.tmp").exists());
    }

    #[test]
    fn reserving_sets_length_and_says_how() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path().join("x")).unwrap();
        let medium = folder.create("f").unwrap();
        medium.reserve(1 << 20).unwrap();
        assert_eq!(medium.size().unwrap(), 1 << 20);
        let huge = medium.reserve(1 << 60);
        assert!(huge.is_err(), "an exbibyte fits on no disk here");
    }
}
