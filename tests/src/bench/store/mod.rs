//! The datastore beside others: the same blocks, sealed with the same cipher, in plain files, in redb and in fjall.
//!
//! Nobody is asked for more than the datastore promises: what was put is handed to the system before the next put (redb: before the
//! next batch), and is on the disk after a sync, of which there is one at the end (redb cannot be used without some between).

mod fjall;
mod own;
mod plain;
mod redb;

use std::{path::Path, time::Instant};

use anyhow::ensure;
use bytes::Bytes;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use warren_keys::{BLOCK_SIZE, RoutingKey};

use super::{
    count, megabytes,
    meter::{Cost, Meter, resident_own},
    milliseconds,
    network::noise,
    report::Report,
    space,
};

/// Bytes of blocks, when the disk has room for them.
const SIZE: u64 = 10 << 30;
/// What the hungriest writes for a byte of blocks, about.
const WRITTEN: u64 = 3;
/// Blocks that are asked for again and again while the page cache is warm.
const WARM: u64 = 2048;
/// Operations of each kind.
const GETS: u64 = 20_000;
const MISSES: u64 = 20_000;
const MIXED: u64 = 8_000;
/// One of so many operations of the mix is a put.
const PUTS_IN_MIX: u64 = 4;
/// Gets while the page cache is cold: each waits for the disk.
const COLD: u64 = 1000;
/// Memory for caches of their own that the others may have: as much as the index of a 100 GiB datastore takes.
const CACHE: usize = 64 << 20;

/// A block's number, and the key that follows from it.
struct Name {
    number: u64,
    key: RoutingKey,
}

impl Name {
    fn new(number: u64) -> Self {
        Self {
            number,
            key: RoutingKey::from_bytes(*blake3::hash(&number.to_le_bytes()).as_bytes()),
        }
    }
}

/// What keeps blocks.
trait Contender: Sized {
    const NAME: &'static str;
    /// Whether it knows what it has not. Plain files do not.
    const MISSES: bool = true;

    /// Opens what is in a folder, or makes one for so many blocks.
    fn open(folder: &Path, blocks: u64) -> anyhow::Result<Self>;
    fn put(&mut self, name: &Name, block: &Bytes) -> anyhow::Result<()>;
    /// Whether it was there.
    fn get(&mut self, name: &Name) -> anyhow::Result<bool>;
    fn sync(&mut self) -> anyhow::Result<()>;
    fn close(self) -> anyhow::Result<()>;
}

/// The cipher of those that have none.
struct Seal(LessSafeKey);

impl Seal {
    fn new() -> anyhow::Result<Self> {
        let key = UnboundKey::new(&CHACHA20_POLY1305, &[1; 32]).map_err(|_| anyhow::anyhow!("no key"))?;
        Ok(Self(LessSafeKey::new(key)))
    }

    fn nonce(number: u64) -> Nonce {
        let mut nonce = [0; 12];
        nonce[..8].copy_from_slice(&number.to_le_bytes());
        Nonce::assume_unique_for_key(nonce)
    }

    /// Seals what is before the tag's place.
    fn seal(&self, number: u64, buf: &mut [u8]) -> anyhow::Result<()> {
        let (text, tag) = buf.split_at_mut(buf.len() - CHACHA20_POLY1305.tag_len());
        let sealed = self
            .0
            .seal_in_place_separate_tag(Self::nonce(number), Aad::empty(), text)
            .map_err(|_| anyhow::anyhow!("does not seal"))?;
        tag.copy_from_slice(sealed.as_ref());
        Ok(())
    }

    fn open(&self, number: u64, buf: &mut [u8]) -> bool {
        self.0
            .open_in_place(Self::nonce(number), Aad::empty(), buf)
            .is_ok()
    }
}

/// A block and room for its tag, filled.
fn sealed(seal: &Seal, name: &Name, block: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut value = Vec::with_capacity(BLOCK_SIZE + CHACHA20_POLY1305.tag_len());
    value.extend_from_slice(block);
    value.resize(BLOCK_SIZE + CHACHA20_POLY1305.tag_len(), 0);
    seal.seal(name.number, &mut value)?;
    Ok(value)
}

/// Measures all with so many bytes of blocks, or as many as the disk has room for.
///
/// # Errors
/// When one of them fails.
pub fn bench(report: &mut Report, bytes: Option<u64>) -> anyhow::Result<()> {
    let bytes = match bytes {
        Some(bytes) => bytes,
        None => SIZE.min(space::available()? / WRITTEN),
    };
    if !space::suffices(report, "store", bytes * WRITTEN)? {
        return Ok(());
    }
    let blocks = bytes / BLOCK_SIZE as u64;
    report.add("store.size", megabytes(bytes), "MB of blocks");
    run::<plain::Plain>(report, blocks)?;
    run::<own::Own>(report, blocks)?;
    run::<redb::Redb>(report, blocks)?;
    run::<fjall::Fjall>(report, blocks)?;
    for other in ["plain", "redb", "fjall"] {
        for what in ["put", "get"] {
            // Processor time: less is better.
            compare(report, what, other, "cpu", |own, other| other / own);
        }
        compare(report, "get.cold", other, "ops", |own, other| own / other);
        let (own, theirs) = (disk(report, "warren"), disk(report, other));
        if let (Some(own), Some(theirs)) = (own, theirs) {
            report.add(format!("store.disk.{other}"), own / theirs, &format!("x {other}"));
        }
    }
    Ok(())
}

fn disk(report: &Report, who: &str) -> Option<f64> {
    report.figure(&format!("store.{who}.disk"))
}

fn compare(report: &mut Report, what: &str, other: &str, unit: &str, ratio: impl Fn(f64, f64) -> f64) {
    let figure = |who: &str| report.figure(&format!("store.{who}.{what}.{unit}"));
    if let (Some(own), Some(theirs)) = (figure(own::Own::NAME), figure(other)) {
        report.add(
            format!("store.{what}.{other}"),
            ratio(own, theirs),
            &format!("x {other}"),
        );
    }
}

fn run<C: Contender>(report: &mut Report, blocks: u64) -> anyhow::Result<()> {
    let temporary = tempfile::tempdir()?;
    let folder = temporary.path().join(C::NAME);
    std::fs::create_dir(&folder)?;
    let memory = || resident_own(std::process::id()).unwrap_or(0);
    let empty = memory();
    let block = Bytes::from(noise(6, BLOCK_SIZE));
    let capacity = blocks + MIXED / PUTS_IN_MIX;
    let mut contender = C::open(&folder, capacity)?;

    let meter = Meter::start();
    for number in 0..blocks {
        contender.put(&Name::new(number), &block)?;
    }
    contender.sync()?;
    add::<C>(report, "put", blocks, &meter.stop());
    let grown = memory().saturating_sub(empty);
    report.add(format!("store.{}.ram", C::NAME), megabytes(grown), "MB");

    let warm = WARM.min(blocks);
    // The last that were put, which are surely in the page cache; scattered over all slots.
    let known = |turn: u64| Name::new(blocks - 1 - turn % warm);
    let mut found = 0;
    for turn in 0..warm {
        found += u64::from(contender.get(&known(turn))?);
    }
    // Sets that are full lose a few.
    ensure!(found * 100 >= warm * 98, "{}: {found} of {warm} found", C::NAME);
    let meter = Meter::start();
    for turn in 0..GETS {
        contender.get(&known(turn.wrapping_mul(0x9e37_79b9)))?;
    }
    add::<C>(report, "get", GETS, &meter.stop());

    if C::MISSES {
        let meter = Meter::start();
        for turn in 0..MISSES {
            ensure!(
                !contender.get(&Name::new(1 << 40 | turn))?,
                "found what was never put"
            );
        }
        add::<C>(report, "miss", MISSES, &meter.stop());
    }

    let meter = Meter::start();
    for turn in 0..MIXED {
        if turn % PUTS_IN_MIX == 0 {
            contender.put(&Name::new(blocks + turn), &block)?;
        } else {
            contender.get(&known(turn.wrapping_mul(0x9e37_79b9)))?;
        }
    }
    add::<C>(report, "mixed", MIXED, &meter.stop());

    contender.sync()?;
    contender.close()?;
    report.add(
        format!("store.{}.disk", C::NAME),
        count(space::used(&folder)?) / count(capacity * BLOCK_SIZE as u64),
        "bytes a byte of blocks",
    );
    let begun = Instant::now();
    let mut contender = C::open(&folder, capacity)?;
    report.add(
        format!("store.{}.open", C::NAME),
        milliseconds(begun.elapsed()),
        "ms",
    );
    // What opening has read is forgotten too.
    space::forget(&folder)?;
    let meter = Meter::start();
    for turn in 0..COLD {
        contender.get(&Name::new(turn.wrapping_mul(0x9e37_79b9_7f4a_7c15) % blocks))?;
    }
    add::<C>(report, "get.cold", COLD, &meter.stop());
    contender.close()
}

fn add<C: Contender>(report: &mut Report, what: &str, number: u64, cost: &Cost) {
    let (name, number) = (format!("store.{}.{what}", C::NAME), count(number));
    let wall = cost.wall.as_secs_f64();
    report.add(format!("{name}.ops"), number / wall, "ops/s");
    if what != "miss" {
        report.add(
            format!("{name}.speed"),
            number * BLOCK_SIZE as f64 / 1e6 / wall,
            "MB/s",
        );
    }
    report.add(
        format!("{name}.cpu"),
        cost.cpu.as_secs_f64() * 1e6 / number,
        "CPU us/op",
    );
    cost.add_counts(report, &name, number, "op");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_contender_keeps_blocks() {
        fn check<C: Contender>() {
            let folder = tempfile::tempdir().unwrap();
            let block = Bytes::from(noise(7, BLOCK_SIZE));
            let mut contender = C::open(folder.path(), 1000).unwrap();
            for number in 0..200 {
                contender.put(&Name::new(number), &block).unwrap();
            }
            contender.sync().unwrap();
            contender.close().unwrap();
            let mut contender = C::open(folder.path(), 1000).unwrap();
            for number in 0..200 {
                assert!(contender.get(&Name::new(number)).unwrap(), "{} {number}", C::NAME);
            }
            assert!(!C::MISSES || !contender.get(&Name::new(1 << 40)).unwrap());
            contender.close().unwrap();
        }
        check::<plain::Plain>();
        check::<own::Own>();
        check::<redb::Redb>();
        check::<fjall::Fjall>();
    }
}
