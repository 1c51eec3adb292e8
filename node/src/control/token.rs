//! The file that says where the control interface is and proves that its reader may use it.

use std::{
    fs, io,
    io::Write,
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

/// File name inside the data directory.
pub const CONTROL_FILE: &str = "control.json";

/// Bytes of randomness in a token: as hard to guess as a key.
const TOKEN_LEN: usize = 32;

/// Secret that a caller of the control interface presents, as 64 hexadecimal digits.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(String);

impl Token {
    /// A fresh token.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn generate() -> io::Result<Self> {
        let mut bytes = [0; TOKEN_LEN];
        getrandom::fill(&mut bytes).map_err(io::Error::other)?;
        Ok(Self(data_encoding::HEXLOWER.encode(&bytes)))
    }

    /// Whether `presented` is this token, compared in constant time.
    #[must_use]
    pub fn matches(&self, presented: &str) -> bool {
        self.0.as_bytes().ct_eq(presented.as_bytes()).into()
    }

    /// The `Authorization` header that presents it.
    #[must_use]
    pub fn header(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

/// Contents of the control file.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ControlFile {
    /// Where the interface listens.
    pub address: SocketAddr,
    /// What to present.
    pub token: Token,
}

impl ControlFile {
    /// Where the file is for a node in `data_dir`.
    #[must_use]
    pub fn path(data_dir: &Path) -> PathBuf {
        data_dir.join(CONTROL_FILE)
    }

    /// Writes the file so that it never exists with another mode or half its contents.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write(&self, data_dir: &Path) -> io::Result<()> {
        let temporary = data_dir.join(format!("{CONTROL_FILE}.new"));
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        fs::rename(temporary, Self::path(data_dir))
    }

    /// Reads the file; `None` when there is none, which means that no node runs here.
    ///
    /// # Errors
    /// Those of the file system, and `InvalidData` when the contents are not what [`ControlFile::write`] writes.
    pub fn read(data_dir: &Path) -> io::Result<Option<Self>> {
        match fs::read(Self::path(data_dir)) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes the file at the end of a run, so that commands say at once that no node is running.
    pub fn remove(data_dir: &Path) {
        // A file that stays behind costs a refused connection, nothing else.
        fs::remove_file(Self::path(data_dir)).ok();
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_file_is_private_and_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        assert!(ControlFile::read(dir.path()).unwrap().is_none());
        let file = ControlFile {
            address: "127.0.0.1:4".parse().unwrap(),
            token: Token::generate().unwrap(),
        };
        file.write(dir.path()).unwrap();
        file.write(dir.path()).unwrap();
        let mode = fs::metadata(ControlFile::path(dir.path()))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        let read = ControlFile::read(dir.path()).unwrap().unwrap();
        assert_eq!(read.address, file.address);
        assert!(read.token.matches(&file.token.0));
        assert!(!read.token.matches("") && !read.token.matches(&Token::generate().unwrap().0));
        ControlFile::remove(dir.path());
        assert!(ControlFile::read(dir.path()).unwrap().is_none());
    }
}
