//! Whole files in a network of which a part dies and a part lies.
//!
//! The shape of a file is the real one ([`warren_keys::splitfile::Layout`]): segments of content, segments of the lists of
//! keys, and a root at three positions. Content goes in through one exit; lists and root through two and are read back
//! (`protocol §8.6`). A segment is whole if as many of its blocks come as it has data blocks; the file, if all segments are
//! and one position of the root is. Every block is asked for, as a reader does who must replace lost ones.
//!
//! Some files are simulated block by block. Because a loss in so few would be luck, the chance of a lost file is also computed
//! from the measured share of lost blocks, which are independent: their keys are hashes.

use warren_keys::{BlockId, splitfile::Layout};

use super::faulty::{Exits, Faulty};
use crate::sim::{
    chart::{Chart, Line},
    report::Findings,
    scenario::{FileSpec, NetworkSpec},
    stats::Sample,
};

/// Positions of a root.
const ROOT_COPIES: u32 = 3;

/// One segment: its blocks, and how many of them are enough.
struct Segment {
    blocks: Vec<BlockId>,
    enough: usize,
}

struct File {
    content: Vec<Segment>,
    lists: Vec<Segment>,
    root: Vec<BlockId>,
}

/// Shares of blocks that could be fetched.
#[derive(Default)]
struct Shares {
    one_exit: Sample,
    content: Sample,
    list: Sample,
    root: Sample,
}

/// Inserts files and fetches them.
#[must_use]
pub fn file(spec: &FileSpec, network: &NetworkSpec, nodes: usize, seed: u64) -> Findings {
    let mut findings = Findings::default();
    let Ok(layout) = Layout::of_stream(spec.megabytes * 1_000_000) else {
        findings.note("a file of no bytes has no blocks");
        return findings;
    };
    let mut faulty = Faulty::new(&spec.fault, network, nodes, seed);
    let files: Vec<File> = (0..spec.files).map(|_| insert(&mut faulty, &layout)).collect();
    faulty.strike();
    let (mut whole, mut shares, mut came) = (0, Shares::default(), Sample::default());
    for file in &files {
        whole += usize::from(fetch(&mut faulty, file, &mut shares, &mut came));
    }
    findings.figure("whole", whole as f64 / spec.files as f64);
    findings.figure("blocks a file", layout.total_blocks() as f64);
    findings.figure("content blocks found by one exit", shares.one_exit.mean());
    findings.figure("content blocks found by up to three exits", shares.content.mean());
    findings.figure("list blocks found by up to three exits", shares.list.mean());
    findings.figure("root positions found by up to three exits", shares.root.mean());
    findings.figure(
        "content blocks of the worst segment that came, share",
        came.quantile(0.0),
    );
    let lost = chance_of_loss(&layout, &shares);
    findings.figure("whole, computed from the shares", 1.0 - lost);
    findings.note(format!(
        "of {} files simulated block by block, {whole} came whole; the chance of losing one, computed from the shares, is {lost:.1e}",
        spec.files
    ));
    findings.charts.push(Chart {
        name: "segments".into(),
        title: "Blocks of a segment that come (two thirds are enough)".into(),
        across: "per cent of the segment's blocks".into(),
        up: "share of segments".into(),
        lines: vec![Line::measured("segments", percent(&came).histogram())],
    });
    findings.trace = faulty.net.trace();
    findings
}

fn percent(shares: &Sample) -> Sample {
    let mut percent = Sample::default();
    for share in shares.values() {
        percent.add((share * 100.0).floor());
    }
    percent
}

fn insert(faulty: &mut Faulty, layout: &Layout) -> File {
    let mut file = File {
        content: Vec::new(),
        lists: Vec::new(),
        root: Vec::new(),
    };
    for level in layout.levels() {
        for segment in (0..level.segments()).filter_map(|index| level.segment(index)) {
            let blocks: Vec<BlockId> = (0..segment.blocks())
                .map(|_| faulty.net.draw().block_id())
                .collect();
            for block in &blocks {
                if level.number() == 0 {
                    faulty.insert(*block, 1, Exits::Any);
                } else {
                    faulty.insert_checked(*block, Exits::Any);
                }
            }
            let segments = if level.number() == 0 {
                &mut file.content
            } else {
                &mut file.lists
            };
            segments.push(Segment {
                blocks,
                enough: usize::from(segment.data()),
            });
        }
    }
    for _ in 0..ROOT_COPIES {
        let block = faulty.net.draw().block_id();
        faulty.insert_checked(block, Exits::Any);
        file.root.push(block);
    }
    file
}

fn fetch(faulty: &mut Faulty, file: &File, shares: &mut Shares, came: &mut Sample) -> bool {
    let mut whole = true;
    for segment in &file.content {
        let mut found = 0;
        for block in &segment.blocks {
            let tries = faulty.fetch_tries(*block, Exits::Any);
            shares.one_exit.add(f64::from(u8::from(tries.first)));
            shares.content.add(f64::from(u8::from(tries.third)));
            found += usize::from(tries.third);
        }
        came.add(found as f64 / segment.blocks.len() as f64);
        whole &= found >= segment.enough;
    }
    for segment in &file.lists {
        whole &= count(faulty, &segment.blocks, &mut shares.list) >= segment.enough;
    }
    whole & (count(faulty, &file.root, &mut shares.root) > 0)
}

fn count(faulty: &mut Faulty, blocks: &[BlockId], share: &mut Sample) -> usize {
    let mut found = 0;
    for block in blocks {
        let came = faulty.fetch_tries(*block, Exits::Any).third;
        share.add(f64::from(u8::from(came)));
        found += usize::from(came);
    }
    found
}

/// The chance that some segment lacks a block too many, or that no position of the root is found.
fn chance_of_loss(layout: &Layout, shares: &Shares) -> f64 {
    let mut whole = 1.0 - (1.0 - shares.root.mean()).powi(ROOT_COPIES.cast_signed());
    for level in layout.levels() {
        let share = if level.number() == 0 {
            &shares.content
        } else {
            &shares.list
        };
        for segment in (0..level.segments()).filter_map(|index| level.segment(index)) {
            let few = chance_of_fewer(
                u32::from(segment.data()),
                u32::from(segment.blocks()),
                share.mean(),
            );
            whole *= 1.0 - few;
        }
    }
    1.0 - whole
}

/// The chance that fewer than `enough` of `total` come when each comes with probability `share`.
fn chance_of_fewer(enough: u32, total: u32, share: f64) -> f64 {
    if share >= 1.0 {
        return 0.0;
    }
    let (mut term, mut sum) = ((1.0 - share).ln() * f64::from(total), 0.0);
    for came in 0..enough {
        sum += term.exp();
        term += (f64::from(total - came) / f64::from(came + 1)).ln() + (share / (1.0 - share)).ln();
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_of_the_binomial_distribution() {
        assert!((chance_of_fewer(1, 3, 0.9) - 0.001).abs() < 1e-12);
        assert!((chance_of_fewer(3, 3, 0.5) - 0.875).abs() < 1e-12);
        assert!(chance_of_fewer(128, 192, 0.9) < 1e-15);
        assert_eq!(chance_of_fewer(128, 192, 1.0).to_bits(), 0.0_f64.to_bits());
    }
}
