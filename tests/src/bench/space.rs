//! Room on the disk: benchmarks take gigabytes, and leave some for everybody else.

use std::{fs, path::Path};

use super::{megabytes, report::Report};

/// What stays free, bytes.
const RESERVE: u64 = 10_000_000_000;

/// Bytes that may be written to the temporary folder.
///
/// # Errors
/// When the system does not say.
pub(super) fn available() -> anyhow::Result<u64> {
    let disk = rustix::fs::statvfs(std::env::temp_dir())?;
    Ok((disk.f_bavail * disk.f_frsize).saturating_sub(RESERVE))
}

/// Whether there is room for so much; else the report says that `what` was left out.
///
/// # Errors
/// As [`available`].
pub(super) fn suffices(report: &mut Report, what: &str, bytes: u64) -> anyhow::Result<bool> {
    let room = available()?;
    if room < bytes {
        report.note(format!(
            "{what} was left out: it writes {:.0} MB, and the temporary folder has room for {:.0} beside the {:.0} that stay free",
            megabytes(bytes),
            megabytes(room),
            megabytes(RESERVE)
        ));
    }
    Ok(room >= bytes)
}

/// Bytes that a folder takes on the disk: blocks, not lengths.
///
/// # Errors
/// When it cannot be read.
pub(super) fn used(folder: &Path) -> anyhow::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut sum = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        sum += match metadata.is_dir() {
            true => used(&entry.path())?,
            // stat(2): units of 512 bytes, whatever the file system's blocks are.
            false => metadata.blocks() * 512,
        };
    }
    Ok(sum)
}

/// Asks the system to forget what it has cached of the files of a folder. What has not been written yet stays.
///
/// # Errors
/// When they cannot be opened.
pub(super) fn forget(folder: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            forget(&path)?;
        } else {
            let file = fs::File::open(&path)?;
            file.sync_all()?;
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_is_on_the_disk_and_not_what_could_be() {
        let folder = tempfile::tempdir().unwrap();
        let sparse = fs::File::create(folder.path().join("sparse")).unwrap();
        sparse.set_len(1 << 30).unwrap();
        fs::create_dir(folder.path().join("inner")).unwrap();
        fs::write(folder.path().join("inner/full"), vec![1; 100_000]).unwrap();
        let used = used(folder.path()).unwrap();
        assert!((100_000..10_000_000).contains(&used), "{used}");
        forget(folder.path()).unwrap();
    }
}
