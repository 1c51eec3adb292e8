//! What the router counts. Nothing here names a key, a request or a neighbour.

/// Counters since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RouterStats {
    /// Searches taken from neighbours.
    pub requests: u64,
    /// Inserts taken from neighbours.
    pub inserts: u64,
    /// Searches started as an exit.
    pub exit_fetches: u64,
    /// Inserts started as an exit.
    pub exit_inserts: u64,
    /// Searches sent on to a neighbour, each try counted.
    pub forwarded: u64,
    /// Inserts sent on to a neighbour, each try counted.
    pub inserts_forwarded: u64,
    /// Searches answered from the own datastore.
    pub found_here: u64,
    /// Searches answered by a neighbour.
    pub found_beyond: u64,
    /// Searches that ended without the block.
    pub not_found: u64,
    /// Searches answered from the memory of failed ones.
    pub failed_lately: u64,
    /// Searches that waited for one already open.
    pub joined: u64,
    /// Inserts that ended here because no neighbour was nearer.
    pub sinks: u64,
    /// Copies kept for a sink.
    pub replicas: u64,
    /// Copies kept of inserts that passed by.
    pub near: u64,
    /// Copies left by traffic.
    pub cached: u64,
    /// Times that somebody began to wait for a block, or still did.
    pub waits: u64,
    /// Blocks pushed to those who waited.
    pub pushed: u64,
    /// Blocks that were waited for and that a neighbour pushed.
    pub arrived: u64,
    /// Requests refused for overload.
    pub refused_busy: u64,
    /// Requests refused because they had been here.
    pub refused_loop: u64,
    /// Refusals for overload received.
    pub busy_received: u64,
    /// Neighbours that did not answer in time.
    pub timeouts: u64,
    /// Answers that fitted nothing open.
    pub ignored: u64,
    /// Answers that no honest node sends.
    pub offences: u64,
}

/// How much is open at present.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OpenRequests {
    /// Searches.
    pub searches: usize,
    /// Requests that wait for one of the searches.
    pub joined: usize,
    /// Inserts, each of which holds a block.
    pub inserts: usize,
    /// Questions to the datastore.
    pub store_questions: usize,
    /// Ended requests and failed keys remembered.
    pub remembered: usize,
    /// Those who wait for a block that is not there yet.
    pub waits: usize,
}
