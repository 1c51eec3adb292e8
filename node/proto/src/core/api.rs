//! What the core machine exchanges with its driver.

use std::{net::SocketAddr, time::Duration};

use warren_keys::{Block, BlockId, NodeId};

use crate::{
    ids::{JobId, LinkId, OpId, StoreTicket},
    link::api::{LinkCommand, LinkEvent},
};

/// To the core.
#[derive(Debug)]
pub enum CoreInput {
    /// From a link machine. A link exists for the core from its `LinkEvent::Up` on.
    Link(LinkId, LinkEvent),
    /// A link ended, for whatever reason. `misbehaved` when the peer sent something invalid.
    LinkDown {
        /// The link.
        link: LinkId,
        /// Whether its end was the peer's fault.
        misbehaved: bool,
    },
    /// A dial that the core asked for did not lead to a link.
    DialFailed(NodeId),
    /// The datastore's answer.
    Store(StoreTicket, StoreAnswer),
    /// The local client wants something.
    Client(ClientCommand),
}

/// What the core wants done.
#[derive(Debug)]
pub enum CoreOutput {
    /// Hand to a link machine. When it is gone the driver drops the command (a `LinkDown` is on its way).
    Link(LinkId, LinkCommand),
    /// Connect to a node; ends in `LinkEvent::Up` on a new link or in `CoreInput::DialFailed`.
    Dial(Box<DialTarget>),
    /// Ask the datastore; ends in `CoreInput::Store` with the same ticket.
    Store(StoreTicket, StoreQuestion),
    /// Tell the local client.
    Client(ClientEvent),
}

/// How full the node's memory is, and so what it gives up (`docs/architecture.md`, "Memory").
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Pressure {
    /// Nothing is given up.
    #[default]
    None,
    /// Who has several requests open already is refused more.
    Busy,
    /// And no copies are left by traffic, and nothing is fetched ahead.
    Lean,
}

/// Whom to dial.
#[derive(Clone, Debug)]
pub struct DialTarget {
    /// The node.
    pub node: NodeId,
    /// Its static link key.
    pub link_key: [u8; 32],
    /// Where it listens, in order of preference.
    pub addresses: Vec<SocketAddr>,
}

/// Which region of the datastore a block is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shelf {
    /// This node is among the nearest to the key.
    Store,
    /// Left by traffic.
    Cache,
}

/// A question to the datastore.
#[derive(Debug)]
pub enum StoreQuestion {
    /// Look a block up in both regions.
    Find(BlockId),
    /// Keep a block.
    Keep(Block, Shelf),
    /// Name some blocks of the store region: a slice of a walk through all of it, which sees every block that stays
    /// in place meanwhile.
    Survey {
        /// Where to go on: what the slice before gave as its end, or 0 to begin.
        from: u64,
        /// The most blocks to name.
        most: usize,
    },
    /// Which of these blocks are in the store region. Must not cost a disk access for each.
    Holds(Vec<BlockId>),
    /// Move a block from the store region to the cache, as its newest.
    Demote(BlockId),
}

/// The datastore's answer.
#[derive(Debug)]
pub enum StoreAnswer {
    /// The block, and where it was.
    Found(Block, Shelf),
    /// Not here.
    Missing,
    /// Kept, or already there: a kill from now on does not lose it. To [`StoreQuestion::Demote`]: moved.
    Kept,
    /// A different signed block is already kept under this key.
    Collision(Block),
    /// The disk is full or failing.
    Failed,
    /// Too many questions wait; this one was not taken.
    Busy,
    /// To [`StoreQuestion::Survey`].
    Surveyed {
        /// The blocks.
        blocks: Vec<BlockId>,
        /// Where the next slice begins; none at the end of the region.
        next: Option<u64>,
        /// Blocks in the store region, all together.
        held: u64,
    },
    /// To [`StoreQuestion::Holds`], in the same order.
    Holdings(Vec<bool>),
}

/// From the local client.
#[derive(Debug)]
pub enum ClientCommand {
    /// A new job. `bulk` jobs may use several circuits at once.
    OpenJob {
        /// The job.
        job: JobId,
        /// Whether many blocks are to come.
        bulk: bool,
    },
    /// The job's size became known.
    SetBulk(JobId),
    /// Ends a job: its open operations are dropped without an event, its circuits closed.
    CloseJob(JobId),
    /// Fetch one block through a circuit; ends in [`ClientEvent::Fetched`].
    Fetch {
        /// The job.
        job: JobId,
        /// The operation, unique in its job.
        op: OpId,
        /// The block.
        block: BlockId,
        /// Answer from one exit is enough to give up (used where siblings can replace the block).
        expendable: bool,
        /// How long to wait for a block that the network does not have yet; zero for not at all. Not with `expendable`.
        wait: Duration,
    },
    /// Insert one block; ends in [`ClientEvent::Inserted`].
    Insert {
        /// The job.
        job: JobId,
        /// The operation.
        op: OpId,
        /// The block.
        block: Block,
        /// Through how many different exits (1 or 2).
        exits: u8,
        /// Fetch it again through another exit before calling it inserted.
        read_back: bool,
    },
}

/// To the local client.
#[derive(Debug)]
pub enum ClientEvent {
    /// A fetch ended.
    Fetched {
        /// The job.
        job: JobId,
        /// The operation.
        op: OpId,
        /// The block, or why not.
        result: Result<Block, FetchFailure>,
    },
    /// An insert ended.
    Inserted {
        /// The job.
        job: JobId,
        /// The operation.
        op: OpId,
        /// Number of nodes that hold it, or why not.
        result: Result<u8, InsertFailure>,
    },
}

/// Why a block could not be fetched.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FetchFailure {
    /// The network was searched through several exits and does not have it.
    #[error("searched for and not found")]
    NotFound,
    /// The network could not answer: no circuits, or no exit answered in time.
    #[error("the network could not answer")]
    Unreachable,
}

/// Why a block could not be inserted.
#[derive(Clone, Debug, thiserror::Error)]
pub enum InsertFailure {
    /// Another signed block is already stored under this key.
    #[error("another document is already stored under this key")]
    Collision(Block),
    /// The network could not take it.
    #[error("the network could not take the block")]
    Unreachable,
}
