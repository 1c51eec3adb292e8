//! The path of a request: which key it names, and for inserts, where to insert.
//!
//! Pure: text in, a parsed target or an error that says what is wrong out. The errors quote nothing of the text, which may
//! be secret.

use std::fmt;

use percent_encoding::percent_decode_str;
use warren_keys::{InsertUri, Name, Path, Uri, UriError};

/// What a GET or HEAD asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// The start page, `/`.
    Home,
    /// A file.
    File(Box<FileTarget>),
    /// A file in a folder, which plain files are not.
    InFolder,
}

/// A key and the name to give the file.
#[derive(Clone, PartialEq, Eq)]
pub struct FileTarget {
    /// The key.
    pub uri: Uri,
    /// Its last path element, or the name that the key itself has.
    pub name: Option<String>,
}

/// Where a PUT wants its body to go.
#[derive(Debug)]
pub enum Destination {
    /// A CHK that follows from the content, printed with this file name.
    Content(Option<Name>),
    /// A private key, or the words of a KSK.
    Key(Box<InsertUri>),
}

/// Reads the path of a request (as it stands in the request line, without query): `/`, `/<key>` or `/<key>/<file name>`.
///
/// # Errors
/// What is wrong with the key.
pub fn parse(path: &str) -> Result<Target, UriError> {
    let text = path.strip_prefix('/').unwrap_or(path);
    if text.is_empty() {
        return Ok(Target::Home);
    }
    let uri = Uri::parse(text)?;
    if uri
        .path()
        .segments()
        .filter(|segment| !segment.is_empty())
        .count()
        > 1
    {
        return Ok(Target::InFolder);
    }
    let name = file_name(&uri);
    Ok(Target::File(Box::new(FileTarget { uri, name })))
}

/// Reads what a person typed or pasted into the key field: a key, or one of our own links.
///
/// # Errors
/// What is wrong with the key.
pub fn parse_typed(text: &str) -> Result<Uri, UriError> {
    let text = text.trim();
    let after_host = text
        .strip_prefix("http://")
        .and_then(|rest| rest.split_once('/'))
        .map(|(_, path)| path);
    Uri::parse(after_host.unwrap_or(text))
}

/// Reads where to insert: `/` or `/CHK@`, `/CHK@/<file name>`, `/<file name>` (what `curl -T file` sends), or a key.
///
/// # Errors
/// What is wrong with the key or the name.
pub fn parse_destination(path: &str) -> Result<Destination, UriError> {
    let text = path.strip_prefix('/').unwrap_or(path);
    let decoded = percent_decode_str(text)
        .decode_utf8()
        .map_err(|_| UriError::NotUtf8 { position: 1 })?;
    let bare = ["CHK@", "freenet:CHK@", "warren:CHK@"]
        .into_iter()
        .find_map(|prefix| decoded.strip_prefix(prefix));
    let name = match bare {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => rest.trim_start_matches('/'),
        _ if !decoded.contains(['@', '/']) => &decoded,
        _ => return InsertUri::parse(text).map(|uri| Destination::Key(Box::new(uri))),
    };
    let name = if name.is_empty() {
        None
    } else {
        Some(Name::new(name)?)
    };
    Ok(Destination::Content(name))
}

/// The path to a key on this proxy: always one that [`parse`] reads back.
#[must_use]
pub fn link(uri: &Uri) -> String {
    format!("/{uri}")
}

/// The key with a file name at its end, when it has none.
#[must_use]
pub fn with_file_name(uri: Uri, name: &str) -> Uri {
    match Path::new([name]) {
        Ok(path) if uri.path().is_empty() => uri.with_path(path),
        _ => uri,
    }
}

/// What to call the file: its last path element, or what the key itself calls its document.
#[must_use]
pub fn file_name(uri: &Uri) -> Option<String> {
    let own = match uri {
        Uri::Chk(_) => None,
        Uri::Ssk(uri) => Some(uri.name.as_str()),
        Uri::Usk(uri) => Some(uri.site.as_str()),
        Uri::Ksk(uri) => Some(uri.words.as_str()),
    };
    uri.path().file_name().or(own).map(str::to_owned)
}

impl fmt::Debug for FileTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FileTarget(..)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use warren_keys::{InsertUri, Uri, UriError};

    use super::{Destination, FileTarget, Target, link, parse, parse_destination, parse_typed};

    const CHK: &str =
        "CHK@AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE,AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI,ABAC--8";

    fn file(path: &str) -> FileTarget {
        match parse(path) {
            Ok(Target::File(file)) => *file,
            other => panic!("{path}: {other:?}"),
        }
    }

    #[test]
    fn all_forms_of_a_key_name_the_same_file() {
        let plain = file(&format!("/{CHK}/a%20b.txt"));
        assert_eq!(plain.name.as_deref(), Some("a b.txt"));
        assert_eq!(link(&plain.uri), format!("/{CHK}/a%20b.txt"));
        for form in [
            format!("/{}/a%20b.txt", CHK.replace('@', "%40")),
            format!("/freenet:{CHK}/a%20b.txt"),
            format!("/warren:{CHK}/a%20b.txt"),
            format!("/freenet%3A{}%2Fa%2520b.txt", CHK.replace('@', "%40")),
        ] {
            assert_eq!(file(&form), plain, "{form}");
        }
    }

    #[test]
    fn names() {
        assert_eq!(file(&format!("/{CHK}")).name, None);
        assert_eq!(file(&format!("/{CHK}/")).name, None);
        assert_eq!(file(&format!("/{CHK}/x.png/")).name.as_deref(), Some("x.png"));
        assert_eq!(file("/KSK@gpl.txt").name.as_deref(), Some("gpl.txt"));
        assert_eq!(file("/KSK@gpl.txt/copy.txt").name.as_deref(), Some("copy.txt"));
        assert_eq!(parse(&format!("/{CHK}/a/b")), Ok(Target::InFolder));
        assert_eq!(parse("/KSK@a/b/c"), Ok(Target::InFolder));
        assert_eq!(parse("/"), Ok(Target::Home));
        assert_eq!(parse("/favicon.ico"), Err(UriError::NoType));
    }

    #[test]
    fn what_people_paste() {
        let uri = Uri::parse(CHK).unwrap();
        for text in [
            CHK.to_owned(),
            format!("  {CHK}\n"),
            format!("http://127.0.0.1:8888/{CHK}"),
            format!("freenet:{CHK}"),
        ] {
            assert_eq!(parse_typed(&text).unwrap(), uri, "{text}");
        }
        assert_eq!(parse_typed("").unwrap_err(), UriError::Empty);
        assert_eq!(parse_typed("http://example.org/").unwrap_err(), UriError::Empty);
    }

    #[test]
    fn destinations() {
        let name = |path: &str| match parse_destination(path) {
            Ok(Destination::Content(name)) => name.map(|name| name.as_str().to_owned()),
            other => panic!("{path}: {other:?}"),
        };
        assert_eq!(name("/"), None);
        assert_eq!(name("/CHK@"), None);
        assert_eq!(name("/CHK%40/"), None);
        assert_eq!(name("/CHK@/a%20b").as_deref(), Some("a b"));
        assert_eq!(name("/photo.jpg").as_deref(), Some("photo.jpg"));
        assert_eq!(name("/freenet:CHK@/x").as_deref(), Some("x"));
        let key = parse_destination("/KSK@words");
        assert!(
            matches!(&key, Ok(Destination::Key(uri)) if matches!(**uri, InsertUri::Ksk(_))),
            "{key:?}"
        );
        assert_eq!(
            parse_destination(&format!("/{CHK}")).unwrap_err(),
            UriError::NotInsertable
        );
        assert_eq!(
            parse_destination("/SSK@a/b").unwrap_err().to_string(),
            parse("/SSK@a/b").unwrap_err().to_string()
        );
        assert!(parse_destination("/a/b").is_err());
        assert!(parse_destination("/a%0Ab").is_err());
        assert!(parse_destination("/%FF").is_err());
    }

    #[test]
    fn debug_shows_no_key() {
        assert_eq!(format!("{:?}", parse("/KSK@secret")), "Ok(File(FileTarget(..)))");
        let printed = format!(
            "{:?} {:?}",
            parse_destination("/KSK@secret"),
            parse_destination("/secret.txt")
        );
        assert!(!printed.contains("secret"), "{printed}");
    }

    proptest! {
        #[test]
        fn any_path_gives_an_answer(path in "/?(CHK@|SSK%40|freenet:|KSK@)?.{0,60}") {
            if let Ok(Target::File(file)) = parse(&path) {
                prop_assert_eq!(parse(&link(&file.uri)), Ok(Target::File(file)));
            }
            let _ = (parse_typed(&path), parse_destination(&path));
        }
    }
}
