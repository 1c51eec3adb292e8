//! Fuzz input as a source of values and decisions.
//!
//! Bytes are read from the front, integers big-endian, and beyond the end everything is zero. One reading that depends on no
//! library's version: seeds can be written by hand ([`crate::Seed`] is the inverse), and a regression stays what it was.

/// Reads values from the front of fuzz input.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// Reads from the start of `data`.
    #[must_use]
    pub const fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    /// Whether all bytes are used up.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The number of the next operation; `None` at the end.
    pub fn op(&mut self) -> Option<u8> {
        (!self.0.is_empty()).then(|| self.u8())
    }

    /// `N` bytes.
    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let taken = self.bytes(N);
        array[..taken.len()].copy_from_slice(taken);
        array
    }

    /// A byte.
    pub fn u8(&mut self) -> u8 {
        let [byte] = self.array();
        byte
    }

    /// Two bytes.
    pub fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.array())
    }

    /// Four bytes.
    pub fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.array())
    }

    /// Eight bytes.
    pub fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.array())
    }

    /// The lowest bit of a byte.
    pub fn flag(&mut self) -> bool {
        self.u8() & 1 == 1
    }

    /// A number below `bound`, which is at least 1: from one byte, or from two when `bound` is above 256.
    pub fn below(&mut self, bound: usize) -> usize {
        let number: usize = if bound > 256 {
            self.u16().into()
        } else {
            self.u8().into()
        };
        number % bound.max(1)
    }

    /// One of `items`; `None` when there is none.
    pub fn pick<T: Clone>(&mut self, items: &[T]) -> Option<T> {
        let index = self.below(items.len());
        items.get(index).cloned()
    }

    /// `len` bytes, fewer at the end.
    pub fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// Bytes behind their length in one byte; fewer at the end.
    pub fn chunk(&mut self) -> &'a [u8] {
        let len = self.u8();
        self.bytes(len.into())
    }

    /// Bytes behind their length in two bytes; fewer at the end.
    pub fn long_chunk(&mut self) -> &'a [u8] {
        let len = self.u16();
        self.bytes(len.into())
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        core::mem::take(&mut self.0)
    }

    /// All that is left as text, without the bytes that are none.
    pub fn text(&mut self) -> String {
        String::from_utf8_lossy(self.rest()).into_owned()
    }

    /// Flips bits of `bytes` at up to `count` places (two bytes: where, one byte: which bits). Whether anything has changed.
    pub fn flip(&mut self, bytes: &mut [u8], count: usize) -> bool {
        let before = bytes.to_vec();
        for _ in 0..count {
            let (at, bits) = (usize::from(self.u16()), self.u8());
            if let Some(byte) = at.checked_rem(bytes.len()).and_then(|at| bytes.get_mut(at)) {
                *byte ^= bits;
            }
        }
        bytes != before
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Seed;

    #[test]
    fn reads_what_a_seed_writes() {
        let seed = Seed::new("all")
            .u8(1)
            .u16(2)
            .u32(3)
            .u64(4)
            .chunk(b"five")
            .long_chunk(b"six")
            .bytes(b"rest");
        let mut input = Input::new(&seed.bytes);
        assert_eq!((input.u8(), input.u16(), input.u32(), input.u64()), (1, 2, 3, 4));
        assert_eq!((input.chunk(), input.long_chunk()), (&b"five"[..], &b"six"[..]));
        assert_eq!(input.rest(), b"rest");
        assert!(input.is_empty() && input.op().is_none());
        assert_eq!((input.u64(), input.below(7), input.chunk()), (0, 0, &b""[..]));
        assert_eq!(Input::new(&[9]).pick(&[1, 2, 3, 4]), Some(2));
        assert_eq!(Input::new(&[9]).pick::<u8>(&[]), None);
    }
}
