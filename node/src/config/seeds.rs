//! Files of node references: one a line, empty lines and comments (`#`) between them.

use std::{fs, io::Read, path::Path};

use warren_proto::descriptor::NodeReference;

/// Largest file that is read, bytes: thousands of references.
const MAX_LEN: u64 = 1 << 20;

/// Reads a seed file.
///
/// # Errors
/// A sentence that names the file, the line and what is wrong.
pub fn read(path: &Path) -> Result<Vec<NodeReference>, String> {
    let failed =
        |error: &dyn std::fmt::Display| format!("cannot read the seed file {}: {error}", path.display());
    let mut text = String::new();
    fs::File::open(path)
        .and_then(|file| file.take(MAX_LEN + 1).read_to_string(&mut text))
        .map_err(|error| failed(&error))?;
    if text.len() as u64 > MAX_LEN {
        return Err(failed(&format_args!("it is longer than {MAX_LEN} bytes")));
    }
    parse(&text).map_err(|(line, problem)| format!("{}, line {line}: {problem}", path.display()))
}

/// The references in a text, or the number of the line that has none, and why.
fn parse(text: &str) -> Result<Vec<NodeReference>, (usize, String)> {
    let mut references = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let entry = line.split('#').next().unwrap_or_default().trim();
        if entry.is_empty() {
            continue;
        }
        let reference = entry
            .parse()
            .map_err(|error| (number, format!("{entry:?} is not a node reference: {error}")))?;
        references.push(reference);
    }
    Ok(references)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::REFERENCE;

    #[test]
    fn a_reference_a_line_with_comments() {
        let text = format!("# friends\n\n{REFERENCE}\r\n  {REFERENCE}  # again\n#{REFERENCE}\n");
        let found = parse(&text).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].to_string(), REFERENCE);
        assert!(parse("").unwrap().is_empty());
    }

    #[test]
    fn a_mistake_is_named_with_its_line() {
        let (line, problem) = parse(&format!("{REFERENCE}\n\nwarren-node:oops\n")).unwrap_err();
        assert!(line == 3 && problem.contains("oops"), "{line}: {problem}");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("seeds");
        assert!(read(&path).unwrap_err().contains("seeds"));
        fs::write(&path, "nonsense").unwrap();
        let message = read(&path).unwrap_err();
        assert!(
            message.contains("line 1") && message.contains("nonsense"),
            "{message}"
        );
        fs::write(&path, vec![b'#'; 2 << 20]).unwrap();
        assert!(read(&path).unwrap_err().contains("longer"));
    }
}
