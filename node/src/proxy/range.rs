//! The `Range` header (RFC 9110 §14): from its text and the size of the file to the bytes to send.
//!
//! Pure and total: any text gives an answer, and what is not a valid request for byte ranges is ignored, as the RFC wants.
//! Several ranges are not served as `multipart/byteranges`: the whole file is sent instead (§14.2 lets a server ignore
//! the header), unless none of them lies within the file.

use std::ops::Range;

/// Most ranges that are looked at in one header. More is an attempt to make work (RFC 9110 §17.15): the header is ignored.
pub const MAX_RANGES: usize = 16;

/// What to send.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Selection {
    /// The whole file, status 200.
    Whole,
    /// These bytes (never empty, within the file), status 206.
    Part(Range<u64>),
    /// The request is for bytes that do not exist, status 416.
    Unsatisfiable,
}

/// One member of the header.
#[derive(Clone, Copy)]
enum Spec {
    /// `first-last` or `first-`.
    From { first: u64, last: Option<u64> },
    /// `-length`.
    Suffix(u64),
}

/// Chooses the bytes to send of a file of `size` bytes for the value of a `Range` header.
#[must_use]
pub fn parse(header: &str, size: u64) -> Selection {
    let Some(specs) = specs(header) else {
        return Selection::Whole;
    };
    let mut satisfiable = specs.iter().filter_map(|spec| resolve(*spec, size));
    match (satisfiable.next(), specs.len()) {
        (None, _) => Selection::Unsatisfiable,
        (Some(range), 1) if !range.is_empty() => Selection::Part(range),
        _ => Selection::Whole,
    }
}

/// The members of a valid byte range header; none when it is not valid or has too many.
fn specs(header: &str) -> Option<Vec<Spec>> {
    let (unit, set) = header.split_once('=')?;
    if !unit.trim_matches([' ', '\t']).eq_ignore_ascii_case("bytes") {
        return None;
    }
    let mut specs = Vec::new();
    for member in set.split(',') {
        let member = member.trim_matches([' ', '\t']);
        if member.is_empty() {
            continue; // RFC 9110 §5.6.1.2: recipients accept empty list members
        }
        if specs.len() == MAX_RANGES {
            return None;
        }
        specs.push(spec(member)?);
    }
    (!specs.is_empty()).then_some(specs)
}

fn spec(member: &str) -> Option<Spec> {
    let (first, last) = member.split_once('-')?;
    match (first, last) {
        ("", length) => Some(Spec::Suffix(number(length)?)),
        (first, "") => Some(Spec::From {
            first: number(first)?,
            last: None,
        }),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some(Spec::From {
                first,
                last: Some(last),
            })
        }
    }
}

/// Digits only. A number too large for any file counts as the largest.
fn number(digits: &str) -> Option<u64> {
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(digits.parse().unwrap_or(u64::MAX))
}

/// The bytes that a member means in a file of `size` bytes; none when it is not satisfiable (RFC 9110 §14.1.2). Empty only
/// for a suffix of an empty file, which is satisfiable, but by a whole answer alone.
fn resolve(spec: Spec, size: u64) -> Option<Range<u64>> {
    match spec {
        Spec::From { first, last } => {
            let end = last.map_or(size, |last| last.saturating_add(1).min(size));
            (first < size).then_some(first..end)
        }
        Spec::Suffix(length) => (length > 0).then(|| size.saturating_sub(length)..size),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        Selection::{self, Part, Unsatisfiable, Whole},
        parse,
    };

    #[test]
    fn matrix() {
        let cases: &[(&str, u64, Selection)] = &[
            ("bytes=0-0", 100, Part(0..1)),
            ("bytes=0-", 100, Part(0..100)),
            ("bytes=0-99", 100, Part(0..100)),
            ("bytes=0-100", 100, Part(0..100)),
            ("bytes=99-", 100, Part(99..100)),
            ("bytes=100-", 100, Unsatisfiable),
            ("bytes=100-200", 100, Unsatisfiable),
            ("bytes=-1", 100, Part(99..100)),
            ("bytes=-100", 100, Part(0..100)),
            ("bytes=-101", 100, Part(0..100)),
            ("bytes=-0", 100, Unsatisfiable),
            ("bytes=5-4", 100, Whole),
            ("bytes=", 100, Whole),
            ("bytes=,", 100, Whole),
            ("bytes=-", 100, Whole),
            ("bytes=a-b", 100, Whole),
            ("bytes=+1-2", 100, Whole),
            ("bytes=1-2-3", 100, Whole),
            ("bytes=1--3", 100, Whole),
            ("bytes 1-2", 100, Whole),
            ("", 100, Whole),
            ("items=1-2", 100, Whole),
            ("BYTES=1-2", 100, Part(1..3)),
            ("bytes= 1-2 ", 100, Part(1..3)),
            ("bytes=,1-2,", 100, Part(1..3)),
            ("bytes=1 - 2", 100, Whole),
            ("bytes=1-99999999999999999999999", 100, Part(1..100)),
            ("bytes=99999999999999999999999-", 100, Unsatisfiable),
            ("bytes=-99999999999999999999999", 100, Part(0..100)),
            ("bytes=18446744073709551615-", u64::MAX, Unsatisfiable),
            ("bytes=0-18446744073709551615", u64::MAX, Part(0..u64::MAX)),
            // several: the whole file, or nothing when none lies within it
            ("bytes=0-1,5-6", 100, Whole),
            ("bytes=0-1,500-600", 100, Whole),
            ("bytes=100-,500-600", 100, Unsatisfiable),
            ("bytes=0-1,x", 100, Whole),
            // an empty file has no byte to select; its suffix is all of it
            ("bytes=0-", 0, Unsatisfiable),
            ("bytes=0-0", 0, Unsatisfiable),
            ("bytes=-5", 0, Whole),
            ("bytes=-0", 0, Unsatisfiable),
        ];
        for (header, size, expected) in cases {
            assert_eq!(parse(header, *size), *expected, "{header:?} of {size}");
        }
    }

    #[test]
    fn too_many_ranges_are_ignored() {
        let many = |n: usize| format!("bytes={}", vec!["900-"; n].join(","));
        assert_eq!(parse(&many(super::MAX_RANGES), 100), Unsatisfiable);
        assert_eq!(parse(&many(super::MAX_RANGES + 1), 100), Whole);
    }

    proptest! {
        #[test]
        fn what_is_selected_lies_within_the_file(header in "(bytes=)?[-0-9, ]{0,40}|.{0,40}", size in any::<u64>()) {
            if let Part(range) = parse(&header, size) {
                prop_assert!(range.start < range.end && range.end <= size);
            }
        }

        #[test]
        fn well_formed_single_ranges(first in any::<u64>(), last in any::<u64>(), size in any::<u64>()) {
            let expected = if first > last { Whole } else if first >= size { Unsatisfiable } else {
                Part(first..last.saturating_add(1).min(size))
            };
            prop_assert_eq!(parse(&format!("bytes={first}-{last}"), size), expected);
        }
    }
}
