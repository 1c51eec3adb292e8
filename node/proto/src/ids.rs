//! Small identifiers that the machines and their drivers exchange.
//!
//! None of them means anything outside one node, except [`CircuitId`] (one link) and [`RequestId`] (one routed request).

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub struct $name(pub $inner);
    };
}

id!(
    /// One link of this node, numbered by its driver; never reused within a run.
    LinkId(u64)
);
id!(
    /// A circuit on one link. Chosen by the end that sends the Create; the link's dialler uses odd numbers, the other end
    /// even ones, so that both can open circuits without asking (protocol §6.1).
    CircuitId(u32)
);
id!(
    /// A routed request: random, the same along its whole path, so that a node sees a loop (protocol §7.2).
    RequestId(u64)
);
id!(
    /// A circuit that this node built for itself as a client.
    OriginId(u64)
);
id!(
    /// A question to the datastore that awaits its answer.
    StoreTicket(u64)
);
id!(
    /// One top-level job of the local user (one URI): circuits are never shared between two jobs.
    JobId(u64)
);
id!(
    /// One block to fetch or insert for a job.
    OpId(u64)
);

/// A circuit as named inside one node: the link that it runs on and its number there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CircuitAddr {
    /// The link.
    pub link: LinkId,
    /// The circuit's number on that link.
    pub circuit: CircuitId,
}
