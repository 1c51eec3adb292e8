//! Writes changed settings into the configuration file, and leaves the rest of it as its owner wrote it.
//!
//! Invariant: the file is replaced as a whole, by one that has been read and checked as [`Config`] first.

use std::{
    fs, io,
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use toml_edit::{DocumentMut, Item, Table, Value};

use super::{Config, ConfigError};

/// Why a setting is not saved.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// The file as it is cannot be read as a configuration, or would be none afterwards.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The file cannot be changed as a document: a section is something else than a table.
    #[error("{}: {section} is not a section; change the file by hand", path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// What is not one.
        section: &'static str,
    },
    /// The file cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A field to be set: section, name, value.
pub(crate) type Field = (&'static str, &'static str, Value);

/// Sets fields in the file at `path`.
///
/// # Errors
/// [`SaveError`]; the file is unchanged then.
pub(crate) fn save(path: &Path, fields: &[Field]) -> Result<(), SaveError> {
    // Read as a configuration first: its errors name the line.
    Config::load(path)?;
    let failed = |source| SaveError::Write {
        path: path.to_owned(),
        source,
    };
    let text = fs::read_to_string(path).map_err(failed)?;
    let text = edit(&text, path, fields)?;
    Config::parse(&text, &path.display().to_string())?;
    replace(path, &text).map_err(failed)
}

fn edit(text: &str, path: &Path, fields: &[Field]) -> Result<String, SaveError> {
    let mut document: DocumentMut =
        text.parse()
            .map_err(|error: toml_edit::TomlError| ConfigError::Syntax {
                origin: path.display().to_string(),
                message: error.to_string(),
            })?;
    for (section, name, value) in fields {
        let table = document
            .entry(section)
            .or_insert_with(|| Item::Table(Table::new()))
            .as_table_like_mut()
            .ok_or_else(|| SaveError::Shape {
                path: path.to_owned(),
                section,
            })?;
        match table.get_mut(name).and_then(Item::as_value_mut) {
            Some(present) => {
                // The comment behind it stays.
                let decor = present.decor().clone();
                *present = value.clone();
                *present.decor_mut() = decor;
            }
            None => drop(table.insert(name, Item::Value(value.clone()))),
        }
    }
    Ok(document.to_string())
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mode = fs::metadata(path)?.permissions().mode() & 0o777;
    let new = path.with_extension("toml.new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(new, path)
}

#[cfg(test)]
mod tests {
    use super::{super::EXAMPLE, *};

    #[test]
    fn what_is_saved_is_read_and_the_rest_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("warren.toml");
        fs::write(&path, EXAMPLE).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let fields = [
            ("services", "relay", Value::from(false)),
            ("limits", "up", Value::from("500 KiB/s")),
        ];
        save(&path, &fields).unwrap();
        let config = Config::load(&path).unwrap();
        assert!(!config.services.relay && config.services.exit);
        assert_eq!(config.limits.up.0, Some(500 << 10));
        let text = fs::read_to_string(&path).unwrap();
        for line in EXAMPLE.lines() {
            assert!(text.contains(line), "{line}");
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        // Again: replaced, not added, and with its comment.
        let text = text.replace("relay = false", "relay = false # for now");
        fs::write(&path, text).unwrap();
        save(&path, &[("services", "relay", Value::from(true))]).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("\nrelay = true # for now\n"), "{text}");
        // A section that is not there yet.
        fs::write(&path, "[node]\nnetwork = \"x\"\n").unwrap();
        save(&path, &fields).unwrap();
        assert!(!Config::load(&path).unwrap().services.relay);
    }

    #[test]
    fn a_file_that_cannot_be_changed_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("warren.toml");
        let field = ("limits", "up", Value::from("1 B/s"));
        for text in [
            "[limits]\nlinks = 20\n",
            "[limit]\n",
            "limits = 5\n",
            "limits = {}\n",
        ] {
            fs::write(&path, text).unwrap();
            assert!(save(&path, std::slice::from_ref(&field)).is_err(), "{text}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert!(save(&folder.path().join("none"), &[field]).is_err());
    }
}
