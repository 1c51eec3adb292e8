//! Every number of census and repair, with its reason.

use core::time::Duration;

use warren_keys::BLOCK_SIZE;

use crate::{routing::REPLICAS, topology::NEAR_PER_SIDE};

/// Nodes that keep a block (r): the sink and those it pushes to.
pub const COPIES: usize = REPLICAS + 1;

/// How long a node that is not seen counts as a holder. Simulated: most who leave for a day or two come back with their
/// disk, and replacing them at once triples the copies (16.5 instead of 4.75).
pub const GRACE: Duration = Duration::from_secs(72 * 3600);
/// A node counts for at most this many times as long as it has been seen altogether, so that who looks in for ten minutes
/// counts for six hours: visitors, and identities that are made to crowd holders out.
pub(super) const GRACE_FACTOR: u64 = 36;
/// Of the time that another must be missed, at least this part (one in so many) must have been own uptime: who comes back
/// from a month away knows nothing about the others.
pub(super) const GRACE_UPTIME: u64 = 3;
/// A member of this age is counted on to relieve others of their copies. Most who look in briefly are gone again by then; longer,
/// and too many copies pile up beside newcomers'.
pub(super) const SETTLED: Duration = Duration::from_secs(3 * 3600);
/// Members remembered. The holders of what is kept here are within a few ranks on each side, online or not.
pub(super) const MAX_MEMBERS: usize = 256;

/// Time in which a census looks at each block once.
pub const DAY: Duration = Duration::from_secs(24 * 3600);
/// A census that has fallen behind, because the node was off, goes at most so many times as fast.
pub(super) const CATCH_UP: u32 = 4;
/// Slices that a census is cut into, as far as the store has enough blocks: one each half hour spreads the traffic.
pub(super) const SLICES: u64 = 48;
/// Smallest slice. A smaller one saves nothing.
pub(super) const LEAST_SLICE: usize = 8;
/// Shortest time between two slices. With slices of 64 blocks, 100 GiB take 48,000 of them a day, one each 1.8 s.
pub(super) const LEAST_GAP: Duration = Duration::from_millis(200);
/// After the start (half to one and a half of it), so that the links are up before anybody is missed.
pub(super) const START_DELAY: Duration = Duration::from_secs(600);
/// After the datastore could not answer.
pub(super) const RETRY: Duration = Duration::from_secs(600);

/// A newcomer is given its blocks when it has stayed for this long (half to one and a half of it, so that its neighbours do not
/// bring the same at the same time).
pub const HAND_OVER_AFTER: Duration = Duration::from_secs(600);
/// Time in which a hand-over walks the store, as far as the budget allows.
pub(super) const HAND_OVER_TIME: Duration = Duration::from_secs(2 * 3600);
/// A node with less uptime than this takes many for newcomers who were only away. It hands over no more than they are one of the
/// [`FIRST_RANK`] nearest to, so that requests end well there, and leaves the rest to the census.
pub(super) const EXPERIENCED: Duration = DAY;
/// See [`EXPERIENCED`].
pub(super) const FIRST_RANK: usize = 2;
/// Newcomers that one walk serves. More are left to the census.
pub(super) const MAX_NEWCOMERS: usize = 16;

/// Nearer holders that must have a block before a node leaves it to them. One alone could be a liar who, being the
/// nearest, would keep all others from repairing.
pub(super) const WARDENS: usize = 2;
/// A copy that is not this node's to keep is given up when at least so many holders say that they have it, and none that it is missing.
pub(super) const RELIEF: usize = 2;
/// A block is taken, and talked about, if fewer than so many members are nearer: two nodes' views differ by a few nodes in
/// flux. The same number as the router's for a sink's pushes.
pub(super) const NEAR_RANK: usize = 8;

/// Time for a neighbour to answer a census.
pub(super) const CENSUS_WAIT: Duration = Duration::from_secs(30);
/// Time for a neighbour to answer a block: it may travel behind others' traffic on a slow line.
pub(super) const PUSH_WAIT: Duration = Duration::from_secs(90);
/// Time after which a question to the datastore counts as failed.
pub(super) const DISK_WAIT: Duration = Duration::from_secs(60);
/// Nothing is pushed for so long to a neighbour that was busy or silent.
pub(super) const PUSH_PAUSE: Duration = Duration::from_secs(300);

/// Blocks on their way to others at a time, each held in memory.
pub(super) const MAX_PUSHING: usize = 4;
/// Blocks that wait to be pushed. What exceeds this is found again by the next census.
pub(super) const MAX_QUEUED: usize = 256;
/// Copies that wait to be given up.
pub(super) const MAX_DEMOTIONS: usize = 256;
/// A block is pushed to one node once in this time, whatever that node says afterwards.
pub(super) const PUSHED_TIME: Duration = GRACE;
/// Pushes remembered: 3 MiB. A node with more pushes than this in [`PUSHED_TIME`] is bound by its budget alone.
pub(super) const MAX_PUSHED: usize = 65_536;

/// Bytes that a push is counted as.
pub(super) const PUSH_COST: u64 = BLOCK_SIZE as u64;
/// The budget saves up what is not used for this part of a day (one in so many).
pub(super) const SAVED_PART: u64 = 8;
/// The least that it can save: a burst of 2 MiB.
pub(super) const LEAST_SAVED: u64 = 64 * PUSH_COST;
/// Below half of what can be saved, only blocks with at most so many copies in sight are pushed. After a mass failure those
/// go first.
pub(super) const FEW_COPIES: usize = 2;

/// Blocks that one neighbour may ask about a day, and at once. Its census of 100 GiB, four times as fast as usual, asks about
/// 150 a second.
pub(super) const ASKED_PER_DAY: u64 = 256 * 86_400;
/// See [`ASKED_PER_DAY`].
pub(super) const ASKED_AT_ONCE: u64 = 2048;
/// Questions of one neighbour that the datastore works on.
pub(super) const MAX_ASKING: usize = 4;
/// Bytes that one neighbour may bring a day: 64 KiB/s. More than its own budget allows with 500 GiB.
pub(super) const BROUGHT_PER_DAY: u64 = 86_400 * 2 * PUSH_COST;
/// Bytes that it may bring at once.
pub(super) const BROUGHT_AT_ONCE: u64 = 64 * PUSH_COST;
/// Blocks brought by neighbours that are being written.
pub(super) const MAX_WRITING: usize = 16;

/// What repair may cost. The defaults are for every node; simulations vary them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RepairLimits {
    /// Bytes that may be pushed a day, in thousandths of the bytes in the store region. With 10 % of all nodes lost each week,
    /// replacing and filling newcomers takes 29.
    pub daily_permille: u64,
    /// Bytes a day that a small store may push all the same: 3 KiB/s.
    pub least_daily: u64,
    /// Nearest online nodes on each side that this node is linked to. What is farther it need not know.
    pub near_per_side: usize,
}

impl Default for RepairLimits {
    fn default() -> Self {
        Self {
            daily_permille: 100,
            least_daily: 256 << 20,
            near_per_side: NEAR_PER_SIDE,
        }
    }
}
