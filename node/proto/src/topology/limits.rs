//! Every number of the topology, with its reason.

use core::time::Duration;

/// Nearest nodes on each side of the ring that a node links to: the key routing's last hops need them all.
pub const NEAR_PER_SIDE: usize = 4;
/// Long links on each side, one for each equal part of the logarithmic distance: with 8 near ones 32 links, at which the
/// simulated mean path is 4.8 hops in 10,000 nodes.
pub const LONG_PER_SIDE: usize = 12;
/// A long link leads to one of so many nodes nearest to a random point, any of them alike. With the nearest alone a node before a wide
/// gap is linked with by so many more that it carries three times what others do, and every hot key near it.
pub const LONG_CHOICE: usize = 8;
/// Links that a node with the default settings tries to have, as far as the network has nodes.
pub const WANTED_LINKS: usize = 2 * (NEAR_PER_SIDE + LONG_PER_SIDE);
/// Links that a node has at most unless it is set otherwise: those it wants, as many that others want, and as many again for
/// circuits.
pub const MAX_LINKS: usize = 4 * WANTED_LINKS;
/// Links to one network (a /16 or a /32) that count for the ring. Who rents a block of addresses cannot be a node's whole
/// neighbourhood with it. More are accepted, since many nodes may share a provider, but the ring plans as if they were not there.
pub(super) const MAX_PER_GROUP: usize = 2;
/// Below this many links seeds are dialled again.
pub(super) const ENOUGH_LINKS: usize = 4;

/// Descriptors kept. A sample of this size holds all near nodes and enough exits for any client: 1.5 MiB.
pub const MAX_KNOWN: usize = 4096;
/// The nearest nodes on each side are kept whatever their rank.
pub(super) const SHELTERED_PER_SIDE: usize = 32;
/// Steps of the search for them: so many nodes that turned out not to be there are walked over.
pub(super) const SHELTER_WALK: usize = 256;
/// Newer descriptors of one node that neighbours may bring in a short time: its address may change a few times as it starts.
pub(super) const RENEWAL_BURST: u8 = 4;
/// Seconds after which they may bring another one. So nobody can make the network pass on a descriptor each second.
pub(super) const RENEWAL_PAUSE: u32 = 600;

/// Own dials at a time. More would look like a scan, and a home router would suffer.
pub(super) const MAX_DIALS: usize = 24;
/// Dials for the ring at once, and each second after that. A node that joins needs some forty; more would let invented
/// descriptors turn this node against whomever they name.
pub(super) const DIAL_BURST: u32 = 48;
/// See [`DIAL_BURST`].
pub(super) const DIAL_RATE: u32 = 2;
/// Dials for the ring of nodes that one link told of at once; one a second after that. Who tells of nodes that do not
/// exist must not keep this node from those that others tell of.
pub(super) const TOLD_BURST: u32 = 32;
/// See [`TOLD_BURST`].
pub(super) const TOLD_RATE: u32 = 1;
/// A dial that the driver has not ended after this time counts as failed.
pub(super) const DIAL_TIME: Duration = Duration::from_secs(60);
/// Pause after the first failed dial; doubles with each further one.
pub(super) const FIRST_BACKOFF: Duration = Duration::from_secs(1);
/// Longest pause between dials of one node.
pub(super) const MAX_BACKOFF: Duration = Duration::from_secs(600);
/// A node that could not be reached is not recommended, nor used in circuits, for so long beyond the pause that its failure
/// brought. It may be up again, and nobody else may want to try it.
pub(super) const FAILURE_TIME: Duration = Duration::from_secs(600);
/// Nodes whose failures are remembered.
pub(super) const MAX_FAILURES: usize = MAX_KNOWN;
/// After so many failed dials in a row a node has been out of reach for some seconds, and is not just starting anew.
pub(super) const RELENT_BACKOFFS: u32 = 3;
/// Pauses that are cut short end within this time: not all dials leave at once, and the ring is whole within seconds all the same.
pub(super) const RELENT_TIME: Duration = Duration::from_secs(4);
/// A pause is cut short at most this often, so that a node which is gone for good costs a dial a minute while others come and go.
pub(super) const RELENT_PAUSE: Duration = Duration::from_secs(60);
/// What failed so long before is taken to have failed for the same reason: idle links may be found dead so long after each other.
pub(super) const SAME_OUTAGE: Duration = Duration::from_secs(420);
/// Nodes of former links that are remembered: more than a node has at once.
pub(super) const MAX_PROVEN: usize = 256;
/// A node without links tries one that it pauses for this often (half to one and a half of it): it must notice soon when its own
/// network is back.
pub(super) const LONELY_PROBE: Duration = Duration::from_secs(5);
/// The same for a node with fewer links than [`ENOUGH_LINKS`]: the larger part of a network that fell in two may be elsewhere. With
/// more, the pauses of so many nodes end that one of them does soon.
pub(super) const FEW_PROBE: Duration = Duration::from_secs(15);
/// A link that its peer ends sooner than this was not wanted there: dialling it again waits.
pub(super) const SHORT_LINK: Duration = Duration::from_secs(5);
/// A link that the ring does not need gives way to a newcomer at this age: by then its peer has learnt of others. So a seed
/// that is full still lets newcomers in.
pub(super) const YIELD_AGE: Duration = Duration::from_secs(2);
/// The driver gets a burst of changes together before links are planned anew.
pub(super) const PLAN_DELAY: Duration = Duration::from_millis(100);
/// Dials on request of peers that want to know whether they can be dialled: at once, and one a second after that.
pub(super) const BACK_BURST: u32 = 8;
/// Such dials that may be open.
pub(super) const BACK_DIALS: usize = 8;
/// A peer may ask to be dialled back this often: enough to see a change, too rare to look for open ports with.
pub(super) const BACK_PER_LINK: Duration = Duration::from_secs(60);
/// An answer to the question whether a peer can dial back comes within this time or not at all.
pub(super) const BACK_TIME: Duration = Duration::from_secs(60);
/// Peers that are asked to dial back at a time, and that must have failed before this node takes itself for unreachable: one may
/// be full, far or hostile.
pub(super) const CHECK_PEERS: usize = 3;
/// Pause between two such rounds while the answer is open.
pub(super) const CHECK_PAUSE: Duration = Duration::from_secs(20);
/// When a node checks again that could not be reached: its owner may have opened a port.
pub(super) const CHECK_AGAIN: Duration = Duration::from_secs(600);
/// How long somebody's success in dialling this node, or failure, counts.
pub(super) const EVIDENCE_TIME: Duration = Duration::from_secs(3600);
/// Peers whose word on this node's address is remembered.
pub(super) const WITNESSES: usize = 16;
/// Links are planned anew at least this often, for nodes whose backoff has ended; and old descriptors dropped.
pub(super) const PLAN_INTERVAL: Duration = Duration::from_secs(10);
/// How often pings, asks, expiry and redials are looked after.
pub(super) const UPKEEP: Duration = Duration::from_secs(1);
/// The same while nothing is missing.
pub(super) const CALM_UPKEEP: Duration = Duration::from_secs(4);
/// A node that has just started is not calm.
pub(super) const CALM_AFTER: Duration = Duration::from_secs(60);

/// A link is pinged after so much silence (half to one and a half of it). A ping and its answer are a record each, 8 KiB: each ten
/// seconds, from both ends, 32 links moved 130 GiB a month with it. A line that is cut shows earlier, see `link_task`.
pub(super) const PING_INTERVAL: Duration = Duration::from_secs(240);
/// A link that owes an answer is pinged after so much silence: nearly all answers are there by then.
pub(super) const DOUBT_TIME: Duration = Duration::from_secs(10);
/// A link is closed when for so long after a ping there is neither an answer nor anything else that the core hears of. A slow line may hold
/// that much in its buffers; the link machine's own limit, for circuits too, is longer still.
pub(super) const PONG_TIME: Duration = Duration::from_secs(20);

/// New descriptors are passed on this often, many at once.
pub(super) const SPREAD_INTERVAL: Duration = Duration::from_millis(100);
/// Links that each new descriptor is passed on to. An epidemic with six contacts misses one node in 400; the asks find those.
pub(super) const SPREAD_LINKS: usize = 6;
/// New descriptors that wait to be passed on; what exceeds this is found by asking.
pub(super) const MAX_FRESH: usize = 256;
/// A node that knows fewer asks every new neighbour; one that knows more asks only the near ones at once.
pub(super) const FEW_KNOWN: usize = 128;
/// First and shortest time between asks; doubles as long as little is new.
pub(super) const FIRST_ASK: Duration = Duration::from_secs(1);
/// Time between asks while answers are full of news, once [`FEW_KNOWN`] are known: thousands are known within minutes.
pub(super) const LEARN_ASK: Duration = Duration::from_secs(4);
/// Longest time between asks.
pub(super) const MAX_ASK: Duration = Duration::from_secs(120);
/// Descriptors that come within this time of an ask are taken for the answer.
pub(super) const ANSWER_TIME: Duration = Duration::from_secs(10);

/// Most hops of an announcement, as of a request (protocol §7.3).
pub(super) const MAX_ANNOUNCE_HTL: u8 = 18;
/// Time that each further hop of an announcement has for its answer; whoever waits longest gives up last.
pub(super) const ANNOUNCE_STEP: Duration = Duration::from_millis(400);
/// Nodes on each side of its target that the answer to an announcement names: twice the near ones, since some may be gone.
pub(super) const ANNOUNCED_PER_SIDE: usize = 8;
/// Announcements of one link that are heard at once, and each second after that. A joining node sends a dozen through each.
pub(super) const ANNOUNCE_BURST: u32 = 24;
/// See [`ANNOUNCE_BURST`].
pub(super) const ANNOUNCE_RATE: u32 = 4;
/// Announcements of others that a node sends on at once, and each second after that; beyond, it answers them itself with what it
/// knows, and so refers newcomers to others. This bounds what a seed has to do, however many join through it.
pub(super) const FORWARD_BURST: u32 = 128;
/// See [`FORWARD_BURST`].
pub(super) const FORWARD_RATE: u32 = 64;
/// Announcements that are open.
pub(super) const MAX_FORWARDS: usize = 256;
/// Announcements that came over one link and are open.
pub(super) const MAX_FORWARDS_PER_LINK: usize = 32;
/// First pause between rounds of own announcements; doubles each time, as long as nothing near changes.
pub(super) const FIRST_ANNOUNCE: Duration = Duration::from_secs(2);
/// Rounds are at least so far apart, whatever happens.
pub(super) const LEAST_ANNOUNCE: Duration = Duration::from_secs(1);
/// Longest pause between rounds: what this node missed, say the other half of a network that was cut in two, is found after that.
/// A round costs some 20 KiB all along its way.
pub(super) const MAX_ANNOUNCE: Duration = Duration::from_secs(600);
/// Empty parts of the ring that one round announces into.
pub(super) const TARGETS_A_ROUND: usize = 8;
/// Nodes of answers are kept so long whatever their rank: time enough to link to them.
pub(super) const GUEST_TIME: Duration = Duration::from_secs(60);
/// Such nodes at a time: what the rounds of half a minute bring.
pub(super) const MAX_GUESTS: usize = 256;
/// Before this time parts of the ring in which nobody is known may yet be served by announcements; after it, random nodes stand in.
pub(super) const FILL_AFTER: Duration = Duration::from_secs(8);
/// Descriptors that one link may bring at once, and each second after that. A full answer has 32.
pub(super) const GOSSIP_BURST: u32 = 512;
/// See [`GOSSIP_BURST`].
pub(super) const GOSSIP_RATE: u32 = 64;
/// Asks of one link that are answered at once, and each second after that.
pub(super) const ASK_BURST: u32 = 8;
/// See [`ASK_BURST`].
pub(super) const ASK_RATE: u32 = 1;
/// Dials on behalf of the circuits of one link at once, and each second after that.
pub(super) const EXTEND_BURST: u32 = 32;
/// See [`EXTEND_BURST`].
pub(super) const EXTEND_RATE: u32 = 4;

/// A link of this node's own that serves neither the ring nor circuits is closed at this age, if there are more than enough: a
/// node that joins dials many before it knows whom it needs.
pub(super) const SURPLUS_AGE: Duration = Duration::from_secs(120);
/// A link that carried a new circuit this lately is kept although the ring does not need it. Circuits live about so long.
pub(super) const CIRCUIT_TIME: Duration = Duration::from_secs(20 * 60);

/// Offences within [`OFFENCE_TIME`] that make a ban.
pub(super) const OFFENCES: u32 = 3;
/// Offences are forgotten after this time without another.
pub(super) const OFFENCE_TIME: Duration = Duration::from_secs(3600);
/// First ban; each further offence doubles it.
pub(super) const FIRST_BAN: Duration = Duration::from_secs(600);
/// Longest ban. Not for ever: a fixed bug deserves another chance, and an attacker makes a new identity anyway.
pub(super) const MAX_BAN: Duration = Duration::from_secs(24 * 3600);
/// Nodes whose offences are remembered.
pub(super) const MAX_OFFENDERS: usize = 1024;
