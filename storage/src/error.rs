//! What can go wrong, split by whose fault it is: the file system, damaged bytes, the wrong key, another version, or
//! the caller. No variant carries a routing key or block bytes, so every error may be logged.

use std::io;
use std::path::PathBuf;

/// The result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the storage layer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file system refused. The message says which file and what to do.
    #[error("cannot {action} {}: {source}{}", path.display(), advice(source))]
    Io {
        /// What was tried, as a verb: "read", "write", "lock".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A file is there and its bytes do not authenticate or do not make sense.
    #[error("{what} {} is damaged", path.display())]
    Damaged {
        /// The kind of file.
        what: &'static str,
        /// Where it is.
        path: PathBuf,
    },
    /// The file does not open under this key. A damaged header looks the same.
    #[error("{what} {} does not open with this key file (or its header is damaged)", path.display())]
    WrongKey {
        /// The kind of file.
        what: &'static str,
        /// Where it is.
        path: PathBuf,
    },
    /// The passphrase does not open the key file. A damaged key file looks the same.
    #[error("wrong passphrase for {} (or the file is damaged)", path.display())]
    WrongPassphrase {
        /// The key file.
        path: PathBuf,
    },
    /// The key file is sealed and no passphrase was given.
    #[error("{} is sealed: its passphrase is needed", path.display())]
    PassphraseNeeded {
        /// The key file.
        path: PathBuf,
    },
    /// Written by a version of the format that this program does not read.
    #[error("{what} {} has format version {found}; this program reads version {supported}", path.display())]
    Version {
        /// The kind of file.
        what: &'static str,
        /// Where it is.
        path: PathBuf,
        /// The version in the file.
        found: u16,
        /// The version that this program reads.
        supported: u16,
    },
    /// Another process holds the folder.
    #[error("{} is in use by another process", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// Others may read or write what must be private.
    #[error("{} has mode {mode:03o}, so other users can get at it; run: chmod {wanted:03o} {}", path.display(), path.display())]
    Permissions {
        /// The file or folder.
        path: PathBuf,
        /// The permission bits found.
        mode: u32,
        /// The permission bits expected.
        wanted: u32,
    },
    /// The caller asked for something that cannot be.
    #[error("{0}")]
    Config(String),
}

impl Error {
    /// An IO error on `path`, for `map_err`.
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }

    /// Whether the cause is a full disk or an exhausted quota.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if is_full(source))
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        _ if is_full(error) => "; free some space or configure a smaller store",
        io::ErrorKind::PermissionDenied => "; check the owner and mode of the file and its folder",
        io::ErrorKind::ReadOnlyFilesystem => "; the file system is mounted read-only",
        io::ErrorKind::NotFound => "; check the path",
        _ => "",
    }
}
