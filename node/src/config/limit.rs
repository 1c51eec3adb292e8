//! Limits as people write them: so much, or so much a second, or unlimited.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::ByteSize;

/// How no limit is written.
const UNLIMITED: &str = "unlimited";

/// A rate in bytes a second: `"500 KiB/s"`, a number, or `"unlimited"`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ByteRate(pub Option<u64>);

/// An amount in bytes: `"200 GiB"`, a number, or `"unlimited"`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ByteLimit(pub Option<u64>);

impl ByteRate {
    /// Parses a rate; `/s` may be left out.
    ///
    /// # Errors
    /// A sentence that says what would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        let amount = text.trim().trim_end_matches("/s").trim_end();
        parse(amount).map(Self).ok_or_else(|| {
            format!("{text:?} is not a rate; write for example \"500 KiB/s\", or \"{UNLIMITED}\"")
        })
    }
}

impl ByteLimit {
    /// Parses an amount.
    ///
    /// # Errors
    /// A sentence that says what would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        parse(text).map(Self).ok_or_else(|| {
            format!("{text:?} is not an amount; write for example \"200 GiB\", or \"{UNLIMITED}\"")
        })
    }
}

fn parse(text: &str) -> Option<Option<u64>> {
    match text.trim() {
        UNLIMITED => Some(None),
        amount => ByteSize::parse(amount).ok().map(|size| Some(size.0)),
    }
}

impl fmt::Display for ByteRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(rate) => write!(f, "{}/s", ByteSize(rate)),
            None => f.write_str(UNLIMITED),
        }
    }
}

impl fmt::Display for ByteLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(amount) => ByteSize(amount).fmt(f),
            None => f.write_str(UNLIMITED),
        }
    }
}

/// A number, or the word for none.
fn serialize<S: Serializer>(limit: Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
    match limit {
        Some(bytes) => serializer.serialize_u64(bytes),
        None => serializer.serialize_str(UNLIMITED),
    }
}

fn deserialize<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    expected: &'static str,
    number: fn(u64) -> T,
    text: fn(&str) -> Result<T, String>,
) -> Result<T, D::Error> {
    struct Visitor<T> {
        expected: &'static str,
        number: fn(u64) -> T,
        text: fn(&str) -> Result<T, String>,
    }
    impl<T> de::Visitor<'_> for Visitor<T> {
        type Value = T;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.expected)
        }
        fn visit_u64<E: de::Error>(self, value: u64) -> Result<T, E> {
            Ok((self.number)(value))
        }
        fn visit_i64<E: de::Error>(self, value: i64) -> Result<T, E> {
            let value = u64::try_from(value).map_err(|_| E::custom("a limit cannot be negative"))?;
            Ok((self.number)(value))
        }
        fn visit_str<E: de::Error>(self, value: &str) -> Result<T, E> {
            (self.text)(value).map_err(E::custom)
        }
    }
    deserializer.deserialize_any(Visitor {
        expected,
        number,
        text,
    })
}

impl Serialize for ByteRate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize(self.0, serializer)
    }
}

impl Serialize for ByteLimit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize(self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for ByteRate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = "a rate such as \"500 KiB/s\", a number of bytes a second, or \"unlimited\"";
        deserialize(deserializer, expected, |rate| Self(Some(rate)), Self::parse)
    }
}

impl<'de> Deserialize<'de> for ByteLimit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = "an amount such as \"200 GiB\", a number of bytes, or \"unlimited\"";
        deserialize(deserializer, expected, |amount| Self(Some(amount)), Self::parse)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        for (text, rate) in [
            ("500 KiB/s", Some(500 << 10)),
            ("500KiB/s", Some(500 << 10)),
            ("1.5 MB", Some(1_500_000)),
            ("70000", Some(70_000)),
            ("unlimited", None),
        ] {
            assert_eq!(ByteRate::parse(text), Ok(ByteRate(rate)), "{text}");
        }
        assert_eq!(ByteLimit::parse("200 GiB"), Ok(ByteLimit(Some(200 << 30))));
        assert_eq!(ByteLimit::parse("unlimited"), Ok(ByteLimit(None)));
        for text in ["", "fast", "1 MiB/h", "10 Mbit/s", "-1", "none"] {
            assert!(ByteRate::parse(text).unwrap_err().contains("500 KiB/s"), "{text}");
        }
        assert!(ByteLimit::parse("200 GiB/s").is_err());
    }

    #[test]
    fn prints_what_it_reads() {
        for text in ["500 KiB/s", "1.5 MiB/s", "unlimited"] {
            assert_eq!(ByteRate::parse(text).unwrap().to_string(), text);
        }
        for value in [ByteRate(None), ByteRate(Some(7))] {
            let json = serde_json::to_string(&value).unwrap();
            assert_eq!(serde_json::from_str::<ByteRate>(&json).unwrap(), value);
        }
        assert_eq!(serde_json::to_string(&ByteLimit(None)).unwrap(), "\"unlimited\"");
    }
}
