//! What an observer can conclude from what it saw, timing apart.
//!
//! [`Knowledge`] puts together what belongs together: two sights are tied when they share a name (a circuit on a link, a request, a
//! question to the datastore) or eight bytes of content in a row that are neither public nor a run of few values. Ties
//! are followed to the end. So an observer knows, of one thing, whatever is tied to it over any number of steps.
//!
//! Two things are not ties. That two messages came over one link: every node is a client, a relay and a router on the same
//! links. And what everybody knows: descriptors.
//!
//! Of long contents one window in eight is looked at, chosen by the window's own bytes, so the same bytes are chosen
//! wherever they stand: a run of a hundred shared bytes is missed once in a hundred thousand times. What is sought is looked at everywhere.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    hash::{BuildHasherDefault, Hasher},
};

use bytes::BytesMut;
use warren_keys::{Block, NodeId};
use warren_proto::{
    descriptor::Descriptor,
    ids::LinkId,
    wire::{FrameType, MAX_DESCRIPTORS},
};

use crate::watch::{Name, Place, Transcript};

/// Bytes of a window. Random bytes do not repeat eight in a row within all that these tests look at.
pub const WINDOW: usize = 8;
/// A window of fewer different bytes is a number, a header or padding. Of random windows one in 3,000 is.
const LEAST_VALUES: u32 = 5;
/// Contents above this are blocks and packets with blocks.
const LONG: usize = 2048;
/// One window in so many is looked at in long contents.
const SAMPLED: u64 = 8;

/// Windows are hashes already, or as good.
#[derive(Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = mixed(self.0 ^ number);
    }
}

fn mixed(number: u64) -> u64 {
    let number = (number ^ (number >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    number ^ (number >> 29)
}

/// All windows of some bytes that say anything.
pub fn windows(bytes: &[u8]) -> impl Iterator<Item = u64> {
    let all = bytes
        .windows(WINDOW)
        .filter_map(|window| window.first_chunk().copied());
    all.map(u64::from_be_bytes)
        .filter(|window| says_something(*window))
}

fn says_something(window: u64) -> bool {
    let bytes = window.to_be_bytes();
    let mut values = 0;
    for (place, byte) in bytes.iter().enumerate() {
        values += u32::from(!bytes[..place].contains(byte));
        if values == LEAST_VALUES {
            return true;
        }
    }
    false
}

/// What everybody knows, so that it ties nothing to anything.
#[derive(Default)]
pub struct Public(HashSet<u64, BuildHasherDefault<Spread>>);

impl Public {
    /// The descriptors of all nodes and what follows from them, also as they stand in messages: behind a count, behind one
    /// another, before padding.
    #[must_use]
    pub fn of<'a>(descriptors: impl Iterator<Item = &'a Descriptor>) -> Self {
        const EDGE: usize = WINDOW - 1;
        let mut public = Self::default();
        let mut all: Vec<BytesMut> = Vec::new();
        for descriptor in descriptors {
            let mut bytes = BytesMut::new();
            descriptor.encode_into(&mut bytes);
            public.0.insert(descriptor.location().as_u64());
            public.0.extend(windows(&[&bytes, &[0; EDGE][..]].concat()));
            let most = u8::try_from(MAX_DESCRIPTORS).unwrap_or(u8::MAX);
            for count in 0..=most {
                public.0.extend(windows(&[&[count], &bytes[..EDGE]].concat()));
            }
            all.push(bytes);
        }
        for before in &all {
            for behind in &all {
                let seam = [&before[before.len() - EDGE..], &behind[..EDGE]].concat();
                public.0.extend(windows(&seam));
            }
        }
        public
    }
}

/// What an observer must not be able to tie to a client.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Secret {
    /// The routing key of the request.
    Key,
    /// The block that was asked for or inserted.
    Block,
    /// What is in the block.
    Plaintext,
}

/// Windows to look for, and what they belong to.
pub struct Sought {
    windows: HashMap<u64, Secret, BuildHasherDefault<Spread>>,
    /// One bit for each of many values of a window's hash: nearly all windows that are not sought are seen not to be by it.
    filter: Vec<u64>,
}

/// Bits of the filter, a power of two.
const FILTER_BITS: u64 = 1 << 22;

impl Default for Sought {
    fn default() -> Self {
        Self {
            windows: HashMap::default(),
            filter: vec![0; (FILTER_BITS / 64) as usize],
        }
    }
}

impl Sought {
    /// A block's routing key, and its bytes.
    #[must_use]
    pub fn block(block: &Block) -> Self {
        let mut sought = Self::default();
        sought.add(Secret::Key, block.key().as_bytes());
        sought.add(Secret::Block, block.bytes());
        sought
    }

    /// Adds all windows of some bytes.
    pub fn add(&mut self, secret: Secret, bytes: &[u8]) {
        for window in windows(bytes) {
            let (word, bit) = Self::place(window);
            self.filter[word] |= bit;
            self.windows.entry(window).or_insert(secret);
        }
    }

    fn place(window: u64) -> (usize, u64) {
        let bit = mixed(window) % FILTER_BITS;
        ((bit / 64) as usize, 1 << (bit % 64))
    }

    fn find(&self, window: u64) -> Option<Secret> {
        let (word, bit) = Self::place(window);
        if self.filter[word] & bit == 0 {
            return None;
        }
        self.windows.get(&window).copied()
    }

    /// What of it stands anywhere in some bytes.
    #[must_use]
    pub fn found_in(&self, bytes: &[u8]) -> Option<Secret> {
        bytes
            .windows(WINDOW)
            .filter_map(|window| window.first_chunk().copied())
            .find_map(|window| self.find(u64::from_be_bytes(window)))
    }
}

/// A transcript cut down to what ties.
pub struct Digest {
    sights: Vec<(Place, Vec<Name>, Vec<u64>)>,
}

impl Digest {
    /// Leaves out what is public, and of long contents seven of eight windows, but nothing that is sought.
    #[must_use]
    pub fn of(transcript: &Transcript, public: &Public, sought: &Sought) -> Self {
        let sights = transcript.sights.iter().map(|sight| {
            let mut kept = Vec::new();
            for content in &sight.contents {
                let every = if content.len() > LONG { SAMPLED } else { 1 };
                let all = content.windows(WINDOW).filter_map(|window| window.first_chunk());
                kept.extend(all.map(|window| u64::from_be_bytes(*window)).filter(|window| {
                    (mixed(*window).is_multiple_of(every) || sought.find(*window).is_some())
                        && says_something(*window)
                        && !public.0.contains(window)
                }));
            }
            kept.sort_unstable();
            kept.dedup();
            (sight.place, sight.names.clone(), kept)
        });
        Self {
            sights: sights.collect(),
        }
    }
}

/// A set of things that an observer has tied together.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Bundle(u32);

/// What some observers know together.
pub struct Knowledge {
    parents: Vec<u32>,
    names: BTreeMap<(usize, Name), u32>,
    windows: HashMap<u64, u32, BuildHasherDefault<Spread>>,
    sights: Vec<(usize, Place, u32)>,
    clients: BTreeMap<LinkId, Vec<u32>>,
}

impl Knowledge {
    /// What the owners of these transcripts know when they put them together.
    #[must_use]
    pub fn of(digests: &[&Digest]) -> Self {
        let mut knowledge = Self {
            parents: Vec::new(),
            names: BTreeMap::new(),
            windows: HashMap::default(),
            sights: Vec::new(),
            clients: BTreeMap::new(),
        };
        for (observer, digest) in digests.iter().enumerate() {
            for (place, names, windows) in &digest.sights {
                knowledge.learn(observer, *place, names, windows);
            }
        }
        knowledge
    }

    fn learn(&mut self, observer: usize, place: Place, names: &[Name], windows: &[u64]) {
        let thing = self.thing();
        self.sights.push((observer, place, thing));
        for name in names {
            let of = match name {
                // Links and requests have one name in the whole network.
                Name::Circuit(_) | Name::Request(_) => 0,
                Name::Ticket(_) => observer,
            };
            match self.names.get(&(of, *name)).copied() {
                Some(known) => self.tie(thing, known),
                None => {
                    self.names.insert((of, *name), thing);
                }
            }
        }
        for window in windows {
            match self.windows.get(window).copied() {
                Some(known) => self.tie(thing, known),
                None => {
                    self.windows.insert(*window, thing);
                }
            }
        }
        if let Place::Frame {
            link,
            incoming: true,
            kind: FrameType::Create,
            layer: Some(0),
            ..
        } = place
        {
            self.clients.entry(link).or_default().push(thing);
        }
    }

    fn thing(&mut self) -> u32 {
        let thing = u32::try_from(self.parents.len()).expect("fewer than 2^32 things");
        self.parents.push(thing);
        thing
    }

    fn root(&self, mut thing: u32) -> u32 {
        while self.parents[thing as usize] != thing {
            thing = self.parents[thing as usize];
        }
        thing
    }

    /// The same, and the way there is half as long the next time.
    fn shortened_root(&mut self, mut thing: u32) -> u32 {
        while self.parents[thing as usize] != thing {
            let above = self.parents[self.parents[thing as usize] as usize];
            self.parents[thing as usize] = above;
            thing = above;
        }
        thing
    }

    fn tie(&mut self, a: u32, b: u32) {
        let (a, b) = (self.shortened_root(a), self.shortened_root(b));
        self.parents[a.max(b) as usize] = a.min(b);
    }

    /// What is tied to circuits that a peer opened as their client, over any of these links: a Create with layer 0.
    #[must_use]
    pub fn of_client(&self, links: &[LinkId]) -> Vec<Bundle> {
        let creates = links.iter().filter_map(|link| self.clients.get(link)).flatten();
        let mut bundles: Vec<Bundle> = creates.map(|thing| Bundle(self.root(*thing))).collect();
        bundles.sort_unstable();
        bundles.dedup();
        bundles
    }

    /// What is tied to anything sought, and by what of it.
    #[must_use]
    pub fn of_sought(&self, sought: &Sought) -> BTreeMap<Bundle, Secret> {
        let mut bundles = BTreeMap::new();
        for (window, secret) in &sought.windows {
            if let Some(thing) = self.windows.get(window) {
                let best = bundles.entry(Bundle(self.root(*thing))).or_insert(*secret);
                *best = (*best).min(*secret);
            }
        }
        bundles
    }

    /// The windows in a bundle's sights, one observer's.
    pub fn windows_of<'a>(&'a self, digest: &'a Digest, bundle: Bundle) -> impl Iterator<Item = u64> + 'a {
        let sights = digest.sights.iter().zip(&self.sights);
        let tied = sights.filter(move |(_, (_, _, thing))| self.root(*thing) == bundle.0);
        tied.flat_map(|((_, _, windows), _)| windows.iter().copied())
    }

    /// Where a bundle's sights were.
    pub fn places(&self, bundle: Bundle) -> impl Iterator<Item = (usize, Place)> {
        let of_bundle = move |sight: &&(usize, Place, u32)| self.root(sight.2) == bundle.0;
        self.sights
            .iter()
            .filter(of_bundle)
            .map(|(observer, place, _)| (*observer, *place))
    }
}

/// Whether anything that an observer has tied together names a node: its identity stands in one of the contents.
#[must_use]
pub fn names_node(transcript: &Transcript, knowledge: &Knowledge, bundle: Bundle, node: &NodeId) -> bool {
    let mut identity = Sought::default();
    identity.add(Secret::Key, node.as_bytes());
    let tied = transcript.sights.iter().zip(&knowledge.sights);
    let mut tied = tied.filter(|(_, (_, _, thing))| knowledge.root(*thing) == bundle.0);
    tied.any(|(sight, _)| {
        let mut contents = sight.contents.iter();
        contents.any(|content| identity.found_in(content).is_some())
    })
}

/// The ways by which a client and what it asked for are tied together. Empty is what has to be.
#[must_use]
pub fn leaks(knowledge: &Knowledge, client_links: &[LinkId], sought: &Sought) -> Vec<Secret> {
    let of_client = knowledge.of_client(client_links);
    let of_sought = knowledge.of_sought(sought);
    of_client
        .iter()
        .filter_map(|bundle| of_sought.get(bundle).copied())
        .collect()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use warren_proto::ids::{CircuitAddr, CircuitId, RequestId};

    use super::*;
    use crate::watch::Sight;

    const CLIENT: LinkId = LinkId(1);
    const OTHER: LinkId = LinkId(2);

    fn random(seed: u8, len: usize) -> Bytes {
        let mut bytes = vec![0; len];
        blake3::Hasher::new()
            .update(&[seed])
            .finalize_xof()
            .fill(&mut bytes);
        bytes.into()
    }

    fn circuit(link: LinkId, number: u32) -> Name {
        Name::Circuit(CircuitAddr {
            link,
            circuit: CircuitId(number),
        })
    }

    fn frame(link: LinkId, kind: FrameType, names: Vec<Name>, contents: &[&[u8]]) -> Sight {
        Sight {
            place: Place::Frame {
                link,
                incoming: true,
                kind,
                len: 0,
                layer: (kind == FrameType::Create).then_some(0),
            },
            names,
            contents: contents.iter().map(|each| Bytes::copy_from_slice(each)).collect(),
        }
    }

    fn create() -> Sight {
        frame(
            CLIENT,
            FrameType::Create,
            vec![circuit(CLIENT, 1)],
            &[&random(1, 32)],
        )
    }

    fn packet(link: LinkId, number: u32, body: &[u8]) -> Sight {
        let kind = FrameType::Packet(warren_proto::geometry::PacketSize::Control);
        frame(link, kind, vec![circuit(link, number)], &[body])
    }

    fn request(id: u64, contents: &[&[u8]]) -> Sight {
        let kind = FrameType::Routed(warren_proto::wire::RoutedType::Request);
        frame(OTHER, kind, vec![Name::Request(RequestId(id))], contents)
    }

    fn layer(outer: &[u8], inner: &[u8]) -> Sight {
        Sight {
            place: Place::Layer,
            names: Vec::new(),
            contents: vec![Bytes::copy_from_slice(outer), Bytes::copy_from_slice(inner)],
        }
    }

    fn key() -> Bytes {
        random(9, 32)
    }

    fn found(sights: Vec<Sight>) -> Vec<Secret> {
        let mut transcript = Transcript::new("test".parse().unwrap());
        transcript.sights = sights;
        let mut sought = Sought::default();
        sought.add(Secret::Key, &key());
        let knowledge = Knowledge::of(&[&Digest::of(&transcript, &Public::default(), &sought)]);
        leaks(&knowledge, &[CLIENT], &sought)
    }

    #[test]
    fn an_entry_that_meets_the_request_elsewhere_knows_nothing() {
        let sights = vec![
            create(),
            packet(CLIENT, 1, &random(2, 1024)),
            layer(&random(2, 1024), &random(3, 1024)),
            packet(OTHER, 7, &random(3, 1024)),
            request(5, &[&key()]),
        ];
        assert_eq!(found(sights), []);
    }

    #[test]
    fn a_key_in_the_open_is_found() {
        let mut body = random(2, 1024).to_vec();
        body[500..532].copy_from_slice(&key());
        assert_eq!(found(vec![create(), packet(CLIENT, 1, &body)]), [Secret::Key]);
        // A part of it, at the end of something long.
        let mut body = random(2, 33_024).to_vec();
        body[33_016..].copy_from_slice(&key()[20..28]);
        assert_eq!(found(vec![create(), packet(CLIENT, 1, &body)]), [Secret::Key]);
    }

    #[test]
    fn ties_are_followed_over_names_and_contents() {
        let chain = |id: u64, seen: u8| {
            vec![
                request(id, &[&key()]),
                request(5, &[&random(4, 64)]),
                layer(&random(seen, 1024), &random(4, 64)),
                packet(CLIENT, 1, &random(2, 1024)),
                create(),
            ]
        };
        assert_eq!(found(chain(5, 2)), [Secret::Key]);
        assert_eq!(found(chain(6, 2)), [], "another request");
        assert_eq!(found(chain(5, 3)), [], "another packet");
    }

    #[test]
    fn zeros_headers_and_public_bytes_are_no_ties() {
        let sights = vec![
            create(),
            packet(CLIENT, 1, &[0; 1024]),
            packet(OTHER, 4, &[[0; 1000].as_slice(), &key()].concat()),
        ];
        assert_eq!(found(sights), []);
        let mut public = Public::default();
        public.0.extend(windows(&random(7, 100)));
        let mut transcript = Transcript::new("test".parse().unwrap());
        transcript.sights = vec![
            create(),
            packet(CLIENT, 1, &random(7, 100)),
            request(1, &[&random(7, 100), &key()]),
        ];
        let mut sought = Sought::default();
        sought.add(Secret::Key, &key());
        let knowledge = Knowledge::of(&[&Digest::of(&transcript, &public, &sought)]);
        assert_eq!(leaks(&knowledge, &[CLIENT], &sought), []);
        assert_eq!(knowledge.of_sought(&sought).len(), 1);
    }

    #[test]
    fn only_what_the_peer_opened_as_a_client_is_the_clients() {
        let mut through = create();
        if let Place::Frame { layer, .. } = &mut through.place {
            *layer = Some(1);
        }
        let body = [random(2, 32), key()].concat();
        assert_eq!(found(vec![through, packet(CLIENT, 1, &body)]), []);
        assert_eq!(
            found(vec![create(), packet(CLIENT, 2, &body)]),
            [],
            "another circuit"
        );
    }
}
