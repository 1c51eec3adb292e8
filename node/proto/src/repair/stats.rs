//! What repair counts. Nothing here names a key or a neighbour.

/// Counters since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RepairStats {
    /// Blocks of the store that a walk has named.
    pub surveyed: u64,
    /// Rounds of the census that were completed.
    pub rounds: u64,
    /// Blocks that neighbours were asked about, each neighbour counted.
    pub asked: u64,
    /// Of those, the ones said to be missing there.
    pub lacking: u64,
    /// Blocks pushed to neighbours. Each is 32 KiB of repair traffic.
    pub pushed: u64,
    /// Of those, the ones kept there.
    pub kept: u64,
    /// Blocks that were lacking and not pushed because the budget was used up.
    pub over_budget: u64,
    /// Blocks that were lacking and not pushed because they had been lately, or too many waited.
    pub not_again: u64,
    /// Own copies given up because others have theirs.
    pub demoted: u64,
    /// Newcomers that were handed their blocks.
    pub newcomers: u64,
    /// Blocks that neighbours asked about.
    pub answered: u64,
    /// Blocks that neighbours brought and this node took.
    pub taken: u64,
    /// Blocks that neighbours brought in vain.
    pub refused: u64,
    /// Neighbours that did not answer in time.
    pub timeouts: u64,
    /// Questions beyond a neighbour's bound, and answers that fitted nothing open.
    pub ignored: u64,
    /// Answers that no honest node sends.
    pub offences: u64,
}

/// How much is open at present.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OpenRepairs {
    /// Blocks that wait to be pushed.
    pub queued: usize,
    /// Blocks under way to neighbours.
    pub pushing: usize,
    /// Copies that wait to be given up.
    pub demotions: usize,
    /// Questions and blocks of neighbours that the datastore works on.
    pub serving: usize,
    /// Storing nodes that are remembered.
    pub members: usize,
}
