//! Fetching the root, the one block without which a file is lost: three positions, the first that opens wins.

use std::time::Duration;

use warren_keys::{
    Block, BlockId, Uri,
    root::{OpenedRoot, ROOT_COPIES, RootError, RootReader},
};

use super::DownloadFailure;
use crate::{core::api::FetchFailure, ids::OpId, time::Time};

/// If the first position takes longer, the copies are asked for too: they cost two requests, and someone waits.
const PATIENCE: Duration = Duration::from_millis(1200);

enum Position {
    Idle,
    Asked(OpId),
    Missed(FetchFailure),
    /// Somebody who knows the URI wrote something else there.
    Forged,
}

pub(super) struct RootFetch {
    reader: RootReader,
    positions: [Position; ROOT_COPIES],
    begun: Time,
    /// Whether the copies are asked for.
    all: bool,
    /// Until when a root that is not there yet is waited for.
    until: Option<Time>,
}

/// A root, and what of it is lost in the network.
pub(super) struct FoundRoot {
    pub(super) opened: OpenedRoot,
    pub(super) heal: Vec<Block>,
}

impl RootFetch {
    pub(super) fn new(uri: &Uri, now: Time) -> Result<Self, RootError> {
        let positions = [Position::Idle, Position::Idle, Position::Idle];
        Ok(Self {
            reader: RootReader::new(uri)?,
            positions,
            begun: now,
            all: false,
            until: None,
        })
    }

    pub(super) fn wait(&mut self, until: Time) {
        self.until = Some(until);
    }

    /// How long the network may be waited for.
    pub(super) fn patience(&self, now: Time) -> Duration {
        self.until.map_or(Duration::ZERO, |until| until.since(now))
    }

    /// The next position to ask for.
    pub(super) fn ask(&mut self, op: OpId) -> Option<BlockId> {
        let places = if self.all { ROOT_COPIES } else { 1 };
        let idle = self
            .positions
            .iter()
            .take(places)
            .position(|each| matches!(each, Position::Idle))?;
        self.positions[idle] = Position::Asked(op);
        self.reader.ids().get(idle).copied()
    }

    pub(super) fn timeout(&self) -> Option<Time> {
        (!self.all).then_some(self.begun + PATIENCE)
    }

    pub(super) fn handle_timeout(&mut self, now: Time) {
        self.all |= now.since(self.begun) >= PATIENCE;
    }

    /// An answer; `None` while others are awaited.
    pub(super) fn fetched(
        &mut self,
        op: OpId,
        result: Result<Block, FetchFailure>,
    ) -> Option<Result<FoundRoot, DownloadFailure>> {
        let place = self
            .positions
            .iter()
            .position(|each| matches!(each, Position::Asked(asked) if *asked == op))?;
        self.positions[place] = match result {
            Err(why) => Position::Missed(why),
            Ok(block) => match self.reader.open(&block) {
                Ok(opened) => return Some(Ok(self.found(opened))),
                // A malformed root is the publisher's own, wherever it was found.
                Err(RootError::Invalid(why)) => return Some(Err(RootError::Invalid(why).into())),
                Err(_) => Position::Forged,
            },
        };
        self.all = true;
        self.lost().map(Err)
    }

    fn lost(&self) -> Option<DownloadFailure> {
        let waiting = |each: &Position| matches!(each, Position::Idle | Position::Asked(_));
        if self.positions.iter().any(waiting) {
            return None;
        }
        let silent = |each: &Position| matches!(each, Position::Missed(FetchFailure::Unreachable));
        let unreachable = self.positions.iter().any(silent);
        Some(if unreachable {
            DownloadFailure::Unreachable
        } else {
            DownloadFailure::NotFound
        })
    }

    fn found(&self, opened: OpenedRoot) -> FoundRoot {
        let missing = |each: &Position| matches!(each, Position::Missed(FetchFailure::NotFound));
        let heal = match self.positions.iter().any(missing) {
            // A root that opened can be restored; if not, there is nothing to heal with.
            true => self.reader.restore(&opened).map(Vec::from).unwrap_or_default(),
            false => Vec::new(),
        };
        let lost = self.positions.iter().map(missing);
        let heal = heal
            .into_iter()
            .zip(lost)
            .filter(|(_, lost)| *lost)
            .map(|(block, _)| block)
            .collect();
        FoundRoot { opened, heal }
    }
}
