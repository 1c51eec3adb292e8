//! Every number of the router, with its reason.

use core::time::Duration;

/// Hops that a request may take (DESIGN's simulation: 99th percentile of a found key is 13 at 100,000 nodes).
pub const MAX_HTL: u8 = 18;
/// A path ends after this many hops in a row that came no nearer to the key. A missing key then costs a third of the
/// messages that it costs without the rule, and found keys lose nothing.
pub const MAX_STALE: u8 = 4;
/// Failed branches that an ordinary search may have.
pub const FETCH_BRANCHES: u8 = 3;
/// The most that any search may have: what clients allow when they try again through another exit.
pub const MAX_BRANCHES: u8 = 8;
/// Nodes that the sink pushes a block to: with its own copy r = 5.
pub const REPLICAS: usize = 4;
/// A push is taken when fewer than this many neighbours are nearer to the key. The sink's view of who is nearest may differ
/// from ours by a few nodes in flux, but not by more; a higher rank would let one peer fill the store with keys of its choice.
pub(super) const REPLICA_RANK: usize = 8;

/// An insert aims beside its key, by up to the distance of this node's so-manieth nearest storing neighbour. Two a side: what is
/// aimed so ends at one of the nodes that shall hold the block anyway (decision 0010).
pub(super) const AIM_REACH: usize = 4;
/// With fewer storing neighbours an insert aims at the key itself: where everybody is linked with everybody, and five of few
/// hold a block, there is nothing to spread.
pub(super) const AIM_FROM: usize = 16;

/// Time after which an unanswered datastore question counts as "not here". A disk answers in milliseconds.
pub(super) const LOOKUP_WAIT: Duration = Duration::from_secs(2);
/// Time that a block may take to become durable here.
pub(super) const KEEP_WAIT: Duration = Duration::from_secs(5);
/// Time that the sink gives its neighbours to store their copies.
pub(super) const REPLICA_WAIT: Duration = Duration::from_secs(3);
/// Pause before a datastore or a neighbour that was too busy to write is asked again: some tens of writes of a slow disk.
pub(super) const BUSY_PAUSE: Duration = Duration::from_millis(200);
/// How long the own datastore is asked again. Shorter than the time after which the asker goes elsewhere.
pub(super) const BUSY_WAIT: Duration = Duration::from_secs(1);
/// A search or insert with less time left than this asks nobody else: no answer would come back in time.
pub(super) const USEFUL_WAIT: Duration = Duration::from_millis(20);

/// Bounds of the adaptive time that one hop allows for (see `pace`). The lower one covers a busy scheduler and a slow disk;
/// the upper one keeps a whole search below half a minute.
pub(super) const MIN_PACE: Duration = Duration::from_millis(200);
/// See [`MIN_PACE`].
pub(super) const MAX_PACE: Duration = Duration::from_millis(1500);
/// Before the first answer is measured.
pub(super) const FIRST_PACE: Duration = Duration::from_millis(500);

/// How long a failed search answers for later ones that are no wider. Short, because the block may be inserted meanwhile
/// by a path that does not lead through here, and because the failure may have been a neighbour's lie.
pub(super) const FAILED_TIME: Duration = Duration::from_secs(10);
/// Failed searches remembered; the oldest is forgotten first.
pub(super) const MAX_FAILED: usize = 4096;
/// How long a request that has ended is recognised, so that its other branches do not search here again. Longer than any
/// search takes.
pub(super) const SEEN_TIME: Duration = Duration::from_secs(60);
/// Ended requests remembered; the oldest is forgotten first.
pub(super) const MAX_SEEN: usize = 16_384;

/// How long a node remembers who waits for a block. Long enough that asking again costs little (a search each two minutes), short
/// enough that who went away is soon forgotten everywhere. Clients ask again before (`client::fetch_op`).
pub const WAIT_TIME: Duration = Duration::from_secs(180);
/// A neighbour may push so much later: it heard the question later than it was sent.
pub(super) const LATE: Duration = Duration::from_secs(10);
/// All who wait here, counted once for each block: 16,384 are about 4 MiB.
pub(super) const MAX_WAITS: usize = 16_384;
/// Blocks that one neighbour may wait for here.
pub(super) const MAX_WAITS_OF_LINK: usize = 1024;
/// Requests of this node as an exit that may wait.
pub(super) const MAX_WAITS_OF_EXIT: usize = 2048;
/// Blocks that one neighbour may have this node wait for at one other: a quarter of what that one allows.
pub(super) const SHARE_OF_LINK: usize = MAX_WAITS_OF_LINK / 4;
/// The same for this node as an exit, whose circuits are bounded one by one.
pub(super) const SHARE_OF_EXIT: usize = MAX_WAITS_OF_LINK / 2;
/// Searches that a lost link may cause at once on behalf of those who wait. What is beyond is found again when they renew.
pub(super) const MAX_AGAIN: usize = 32;

/// Neighbours that one node asks for one request, refusals included. Branches run out long before; this stops a search
/// among neighbours that all refuse.
pub(super) const MAX_TRIES: usize = 16;
/// Requests that may wait for one search. Beyond, they search for themselves.
pub(super) const MAX_JOINED: usize = 32;

/// Smallest, first and largest number of own requests open at one neighbour (see `window`).
pub(super) const MIN_WINDOW: u32 = 1;
/// See [`MIN_WINDOW`].
pub(super) const FIRST_WINDOW: u32 = 32;
/// The same as [`Limits::per_neighbour`]: a larger one would only earn refusals.
pub(super) const MAX_WINDOW: u32 = 256;
/// A window shrinks at most once in this time, since refusals come in bursts that have one cause.
pub(super) const SHRINK_INTERVAL: Duration = Duration::from_millis(100);

/// Requests that a neighbour may have open while memory is short. A person's page takes a few at a time; what goes beyond is
/// bulk.
pub(super) const FEW: usize = 8;
/// Pushed copies of one neighbour that may wait for the datastore, of all that may ([`Limits::writes`]): an eighth, so that
/// no neighbour fills the datastore's queue for the others. A sink pushes one copy of each insert.
pub(super) const WRITES_OF_LINK: usize = 64;

/// What the router holds at most. At a bound, new requests are refused with `Busy`; nothing open is thrown out for them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Open searches. Each takes well under 1 KiB.
    pub searches: usize,
    /// Open inserts. Each holds one block of 32 KiB: 1,024 of them are 32 MiB.
    pub inserts: usize,
    /// Open requests that came from one neighbour, so that none can take the whole table.
    pub per_neighbour: usize,
    /// Blocks handed to the datastore whose answer is awaited and that belong to no open request (pushed and cached ones).
    pub writes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            searches: 4096,
            inserts: 1024,
            per_neighbour: 256,
            writes: 512,
        }
    }
}
