use super::*;
use crate::medium::Backend;
use crate::medium::memory::Memory;
use proptest::prelude::*;
use zeroize::Zeroizing;

fn key() -> BaseKey {
    BaseKey::new(Zeroizing::new([8; 32]))
}

fn emptied(n: u32) -> Record {
    Record::Emptied(Region::Cache, Slot::new(n))
}

/// A journal of generation 3: `segments` openings with `each` records, numbered on.
fn journal(segments: u32, each: u32) -> (Memory, Journal) {
    let memory = Memory::new();
    let medium = memory.create("j").unwrap();
    let mut journal = Journal::resume(Arc::clone(&medium), key(), 3, 0, 0);
    for segment in 0..segments {
        journal = Journal::resume(Arc::clone(&medium), key(), 3, journal.end(), journal.records());
        for n in 0..each {
            journal.append(emptied(segment * each + n)).unwrap();
        }
    }
    (memory, journal)
}

fn read(bytes: &[u8]) -> (Replayed, Vec<u32>) {
    let mut seen = Vec::new();
    let verdict = replay(&key(), 3, bytes, |record| {
        if let Record::Emptied(Region::Cache, slot) = record {
            seen.push(slot.number());
        }
    });
    (verdict, seen)
}

#[test]
fn records_come_back_in_order_over_segments() {
    let (memory, journal) = journal(3, 5);
    let (verdict, seen) = read(&memory.read("j"));
    assert_eq!(
        verdict,
        Replayed::Whole {
            end: journal.end(),
            records: 15
        }
    );
    assert_eq!(seen, (0..15).collect::<Vec<_>>());
}

#[test]
fn a_torn_tail_ends_replay_and_is_cut_by_the_next_segment() {
    let (memory, whole) = journal(1, 5);
    for cut in 1..40 {
        let torn = memory.after_kill();
        torn.tamper("j", |bytes| bytes.truncate(bytes.len() - cut));
        let (verdict, seen) = read(&torn.read("j"));
        let left = 5 - (cut as u64).div_ceil(UNIT as u64);
        let end = whole.end() - (5 - left) * UNIT as u64;
        assert_eq!(verdict, Replayed::Whole { end, records: left });
        let mut next = Journal::resume(torn.open("j").unwrap().unwrap(), key(), 3, end, left);
        next.append(emptied(77)).unwrap();
        let mut expected = seen;
        expected.push(77);
        assert_eq!(read(&torn.read("j")).1, expected);
    }
}

#[test]
fn damage_before_a_mark_or_a_later_segment_is_damage() {
    let (memory, mut marked) = journal(2, 5);
    let first_segment = SEGMENT + 5 * UNIT;
    marked.mark(marked.end()).unwrap();
    let len = memory.read("j").len();
    for at in 0..len {
        let bad = memory.after_kill();
        bad.tamper("j", |bytes| bytes[at] ^= 1);
        let expected = at < len - UNIT;
        assert_eq!(read(&bad.read("j")).0 == Replayed::Damaged, expected, "byte {at}");
        // Without the mark only what is before the last segment's records is certain.
        bad.tamper("j", |bytes| bytes.truncate(len - UNIT));
        let expected = at < first_segment + SEGMENT;
        assert_eq!(
            read(&bad.read("j")).0 == Replayed::Damaged,
            expected,
            "byte {at} without mark"
        );
    }
}

#[test]
fn lost_sectors_of_zeros_are_a_torn_tail() {
    let (memory, _) = journal(1, 20);
    memory.tamper("j", |bytes| {
        bytes[SEGMENT + 4 * UNIT..SEGMENT + 16 * UNIT].fill(0)
    });
    let (verdict, seen) = read(&memory.read("j"));
    assert_eq!(
        verdict,
        Replayed::Whole {
            end: (SEGMENT + 4 * UNIT) as u64,
            records: 4
        }
    );
    assert_eq!(seen.len(), 4);
    // What arrived behind the lost sectors is cut, lest it looks like damage the next time.
    let medium = memory.open("j").unwrap().unwrap();
    let mut next = Journal::resume(medium, key(), 3, (SEGMENT + 4 * UNIT) as u64, 4);
    next.append(emptied(77)).unwrap();
    assert_eq!(
        read(&memory.read("j")),
        (
            Replayed::Whole {
                end: next.end(),
                records: 5
            },
            vec![0, 1, 2, 3, 77]
        )
    );
}

#[test]
fn units_cannot_be_moved_repeated_or_brought_from_elsewhere() {
    let (memory, _) = journal(1, 5);
    let good = memory.read("j");
    let unit = |n: usize| SEGMENT + n * UNIT..SEGMENT + (n + 1) * UNIT;
    let mut swapped = good.clone();
    swapped.copy_within(unit(1), unit(2).start);
    assert_eq!(read(&swapped).1, [0, 1]);
    let mut other = good.clone();
    other[unit(2)].copy_from_slice(&journal(1, 5).0.read("j")[unit(2)]);
    assert_eq!(read(&other).1, [0, 1]);
    assert_eq!(
        replay(&key(), 4, &good, |_| panic!("another generation")),
        Replayed::Damaged
    );
}

#[test]
fn no_nonce_is_used_twice_after_a_failed_append() {
    let memory = Memory::new();
    let faulty = crate::medium::faulty::Faulty::new(Arc::new(memory.clone()));
    let mut journal = Journal::resume(faulty.create("j").unwrap(), key(), 3, 0, 0);
    journal.append(emptied(0)).unwrap();
    faulty.fail_after(0, 1, io::ErrorKind::Other);
    journal.append(emptied(1)).unwrap_err();
    let torn = memory.read("j")[SEGMENT + UNIT..].to_vec();
    journal.append(emptied(2)).unwrap();
    let after = memory.read("j");
    assert_eq!(read(&after).1, [0, 2]);
    // What follows is a new salt, not the same counter under the same key.
    assert_eq!(after.len(), SEGMENT + UNIT + SEGMENT + UNIT);
    assert_ne!(after[SEGMENT + UNIT..][..torn.len()], torn);
}

proptest! {
    #[test]
    fn any_bytes_give_a_verdict(bytes in prop::collection::vec(any::<u8>(), 0..400), keep in 0..400_usize) {
        read(&bytes);
        let mut spliced = journal(2, 3).0.read("j");
        spliced.truncate(keep);
        spliced.extend_from_slice(&bytes);
        read(&spliced);
    }
}
