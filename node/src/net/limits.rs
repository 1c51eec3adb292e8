//! What strangers may cost: bounds on connections that have not proved anything yet, and bans of sources that offend.
//!
//! # Invariants
//!
//! - Memory is bounded by constants, whatever arrives: [`GateSettings::half_open`] handshakes, [`GateSettings::swallowed`]
//!   silenced probers, [`MAX_OFFENDERS`] remembered sources.
//! - A prober cannot keep honest dialers out by being silenced slowly: the oldest silenced connection makes room.
//! - A rejected connection gets no byte; it is only counted.

use std::{
    collections::{BTreeMap, VecDeque},
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio_util::sync::CancellationToken;
use warren_proto::time::Time;

/// Sources whose offences are remembered. 4096 entries are under 300 KiB; a botnet larger than that is not stopped by bans,
/// only by the other bounds.
pub(crate) const MAX_OFFENDERS: usize = 4096;

/// Bounds for connections from strangers.
#[derive(Clone, Debug)]
pub struct GateSettings {
    /// Handshakes in progress. One costs a few KiB and is over in a round trip, so 256 admit thousands of links a second.
    pub half_open: usize,
    /// Handshakes in progress from one source (IPv4 address, IPv6 /64). More than one, for nodes behind one NAT.
    pub half_open_per_source: usize,
    /// Silenced probers kept open, so that a probe cannot tell Warren from a service that waits for more input.
    pub swallowed: usize,
    /// Offences within `offence_memory` that lead to a ban. One bad handshake can be an old reference or another network.
    pub offences: u32,
    /// How long an offence counts.
    pub offence_memory: Duration,
    /// How long a ban lasts. Short: addresses change hands.
    pub ban: Duration,
    /// Whether loopback sources can be banned. Off: behind loopback sits the whole machine, other nodes of the user included.
    pub ban_loopback: bool,
}

impl Default for GateSettings {
    fn default() -> Self {
        Self {
            half_open: 256,
            half_open_per_source: 16,
            swallowed: 64,
            offences: 20,
            offence_memory: Duration::from_secs(600),
            ban: Duration::from_secs(600),
            ban_loopback: false,
        }
    }
}

/// Where a connection comes from, as far as limits go: an IPv4 address, or an IPv6 /64, which one customer holds whole.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Source(u64, bool);

impl Source {
    /// The source of an address.
    #[must_use]
    pub(crate) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self(u64::from(u32::from(v4)), false),
            IpAddr::V6(v6) => Self((u128::from(v6) >> 64) as u64, true),
        }
    }
}

/// Counts of what was turned away since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rejections {
    /// Connections closed because too many handshakes were in progress, or too many links stood.
    pub crowded: u64,
    /// Connections closed because their source had too many in progress.
    pub crowded_source: u64,
    /// Connections closed because their source is banned.
    pub banned: u64,
    /// Handshakes that were not valid: probers, other networks, replays.
    pub bad_handshakes: u64,
    /// Handshakes that were not finished in time.
    pub late_handshakes: u64,
    /// Links that ended because the peer sent something invalid.
    pub bad_links: u64,
    /// Connections closed because the owner does not let their source in.
    pub denied: u64,
}

impl Rejections {
    /// All of them.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.crowded
            + self.crowded_source
            + self.banned
            + self.bad_handshakes
            + self.late_handshakes
            + self.bad_links
            + self.denied
    }
}

#[derive(Default)]
struct Counters {
    crowded: AtomicU64,
    crowded_source: AtomicU64,
    banned: AtomicU64,
    bad_handshakes: AtomicU64,
    late_handshakes: AtomicU64,
    bad_links: AtomicU64,
    denied: AtomicU64,
}

/// Decides about every incoming connection. One per node, shared by its listeners.
pub(crate) struct Gate {
    settings: GateSettings,
    state: Mutex<State>,
    counters: Counters,
}

#[derive(Default)]
struct State {
    half_open: usize,
    per_source: BTreeMap<Source, usize>,
    swallowed: VecDeque<(u64, CancellationToken)>,
    next_swallow: u64,
    offenders: BTreeMap<Source, Offender>,
}

struct Offender {
    count: u32,
    last: Time,
    until: Option<Time>,
}

/// What kind of bad input a source sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Offence {
    /// A handshake that did not verify.
    Handshake,
    /// A handshake that a peer with an old version or a wrong clock sends too. Counted, but no offence.
    Innocent,
    /// A handshake that was not finished in time. Counted, but no offence: networks are slow.
    Late,
    /// Invalid input on a link, which the peer has authenticated.
    Link,
    /// A record that does not open: whoever owns the line can cause it. Counted, but no offence.
    Record,
}

impl Gate {
    /// A gate with nothing behind it yet.
    #[must_use]
    pub(crate) fn new(settings: GateSettings) -> Arc<Self> {
        Arc::new(Self {
            settings,
            state: Mutex::default(),
            counters: Counters::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a new connection may start a handshake; the slot is given back when it is dropped.
    #[must_use]
    pub(crate) fn admit(self: &Arc<Self>, now: Time, address: IpAddr) -> Option<Slot> {
        let source = Source::of(address);
        let mut state = self.lock();
        if state
            .offenders
            .get(&source)
            .and_then(|offender| offender.until)
            .is_some_and(|until| now < until)
        {
            self.counters.banned.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        if state.half_open >= self.settings.half_open {
            self.counters.crowded.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let from_source = state.per_source.entry(source).or_insert(0);
        if *from_source >= self.settings.half_open_per_source {
            self.counters.crowded_source.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        *from_source += 1;
        state.half_open += 1;
        drop(state);
        Some(Slot {
            gate: Arc::clone(self),
            source,
        })
    }

    /// Reserves a place among the silenced connections; the oldest one is told to close when there are too many. The place
    /// is given up when the returned value is dropped.
    #[must_use]
    pub(crate) fn swallow(self: &Arc<Self>) -> Swallowing {
        let mut state = self.lock();
        let id = state.next_swallow;
        state.next_swallow += 1;
        let evicted = CancellationToken::new();
        state.swallowed.push_back((id, evicted.clone()));
        if state.swallowed.len() > self.settings.swallowed
            && let Some((_, oldest)) = state.swallowed.pop_front()
        {
            oldest.cancel();
        }
        drop(state);
        Swallowing {
            gate: Arc::clone(self),
            id,
            evicted,
        }
    }

    /// Records bad input from an address; repeated offences lead to a ban.
    pub(crate) fn offend(&self, now: Time, address: IpAddr, offence: Offence) {
        let counter = match offence {
            Offence::Handshake | Offence::Innocent => &self.counters.bad_handshakes,
            Offence::Late => &self.counters.late_handshakes,
            Offence::Link | Offence::Record => &self.counters.bad_links,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        let exempt = address.to_canonical().is_loopback() && !self.settings.ban_loopback;
        if matches!(offence, Offence::Late | Offence::Innocent | Offence::Record) || exempt {
            return;
        }
        let source = Source::of(address);
        let mut state = self.lock();
        if state.offenders.len() >= MAX_OFFENDERS && !state.offenders.contains_key(&source) {
            let memory = self.settings.offence_memory;
            state.offenders.retain(|_, offender| {
                now.since(offender.last) < memory || offender.until.is_some_and(|until| now < until)
            });
            if state.offenders.len() >= MAX_OFFENDERS {
                // Full of fresh offenders: forget one rather than grow.
                state.offenders.pop_first();
            }
        }
        let offender = state.offenders.entry(source).or_insert(Offender {
            count: 0,
            last: now,
            until: None,
        });
        if now.since(offender.last) >= self.settings.offence_memory {
            offender.count = 0;
        }
        offender.last = now;
        offender.count += 1;
        if offender.count >= self.settings.offences {
            offender.count = 0;
            offender.until = Some(now + self.settings.ban);
        }
    }

    /// Counts a connection that was closed because there are too many.
    pub(crate) fn count_crowded(&self) {
        self.counters.crowded.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a connection from where nobody is let in.
    pub(crate) fn count_denied(&self) {
        self.counters.denied.fetch_add(1, Ordering::Relaxed);
    }

    /// Handshakes in progress.
    pub(crate) fn half_open(&self) -> usize {
        self.lock().half_open
    }

    /// What was turned away so far.
    #[must_use]
    pub(crate) fn rejections(&self) -> Rejections {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Rejections {
            crowded: read(&self.counters.crowded),
            crowded_source: read(&self.counters.crowded_source),
            banned: read(&self.counters.banned),
            bad_handshakes: read(&self.counters.bad_handshakes),
            late_handshakes: read(&self.counters.late_handshakes),
            bad_links: read(&self.counters.bad_links),
            denied: read(&self.counters.denied),
        }
    }
}

/// The right to be in a handshake.
pub(crate) struct Slot {
    gate: Arc<Gate>,
    source: Source,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = self.gate.lock();
        state.half_open = state.half_open.saturating_sub(1);
        if let Some(count) = state.per_source.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                state.per_source.remove(&self.source);
            }
        }
    }
}

/// A place among the silenced connections.
pub(crate) struct Swallowing {
    gate: Arc<Gate>,
    id: u64,
    evicted: CancellationToken,
}

impl Swallowing {
    /// Resolves when the place is needed for a newer one.
    pub(crate) async fn evicted(&self) {
        self.evicted.cancelled().await;
    }
}

impl Drop for Swallowing {
    fn drop(&mut self) {
        let id = self.id;
        self.gate.lock().swallowed.retain(|(other, _)| *other != id);
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    fn v4(last: u8) -> IpAddr {
        Ipv4Addr::new(192, 0, 2, last).into()
    }

    fn small() -> GateSettings {
        GateSettings {
            half_open: 5,
            half_open_per_source: 2,
            swallowed: 2,
            offences: 3,
            ..GateSettings::default()
        }
    }

    #[test]
    fn slots_are_bounded_in_total_and_per_source_and_given_back() {
        let gate = Gate::new(small());
        let now = Time(0);
        let first = gate.admit(now, v4(1)).unwrap();
        let _second = gate.admit(now, v4(1)).unwrap();
        assert!(gate.admit(now, v4(1)).is_none());
        drop(first);
        let _third = gate.admit(now, v4(1)).unwrap();
        let _others: Vec<_> = (2..5).map(|n| gate.admit(now, v4(n)).unwrap()).collect();
        assert!(gate.admit(now, v4(9)).is_none());
        let counts = gate.rejections();
        assert_eq!((counts.crowded, counts.crowded_source), (1, 1));
    }

    #[test]
    fn one_ipv6_customer_is_one_source() {
        let a = Source::of(Ipv6Addr::new(0x2001, 0xdb8, 1, 2, 3, 4, 5, 6).into());
        let b = Source::of(Ipv6Addr::new(0x2001, 0xdb8, 1, 2, 9, 9, 9, 9).into());
        let c = Source::of(Ipv6Addr::new(0x2001, 0xdb8, 1, 3, 3, 4, 5, 6).into());
        assert!(a == b && a != c);
        assert!(
            Source::of(Ipv4Addr::new(1, 2, 3, 4).to_ipv6_mapped().into())
                == Source::of(Ipv4Addr::new(1, 2, 3, 4).into())
        );
    }

    #[test]
    fn repeated_offence_bans_for_a_while() {
        let gate = Gate::new(small());
        let now = Time(1);
        for _ in 0..3 {
            assert!(gate.admit(now, v4(1)).is_some());
            gate.offend(now, v4(1), Offence::Handshake);
        }
        assert!(gate.admit(now, v4(1)).is_none());
        assert!(gate.admit(now, v4(2)).is_some());
        assert!(gate.admit(now + Duration::from_secs(601), v4(1)).is_some());
        for _ in 0..9 {
            gate.offend(now, v4(3), Offence::Late);
            gate.offend(now, Ipv4Addr::LOCALHOST.into(), Offence::Handshake);
        }
        assert!(gate.admit(now, v4(3)).is_some());
        assert!(gate.admit(now, Ipv4Addr::LOCALHOST.into()).is_some());
        assert_eq!(gate.rejections().bad_handshakes, 12);
    }

    #[test]
    fn remembered_offenders_are_bounded() {
        let gate = Gate::new(small());
        for n in 0..u32::try_from(2 * MAX_OFFENDERS).unwrap() {
            gate.offend(Time(u64::from(n)), Ipv4Addr::from(n << 8).into(), Offence::Link);
        }
        assert!(gate.lock().offenders.len() <= MAX_OFFENDERS);
    }

    #[tokio::test]
    async fn the_oldest_silenced_prober_makes_room() {
        let gate = Gate::new(small());
        let oldest = gate.swallow();
        let middle = gate.swallow();
        let newest = gate.swallow();
        oldest.evicted().await;
        drop(middle);
        let _another = gate.swallow();
        assert!(!newest.evicted.is_cancelled());
    }
}
