//! Who asked for what: followed through everything that every node of a network sees and can compute.
//!
//! Timing is left out, as the threat model says. The same check is shown to find leaks: in a network whose circuits have one hop, and
//! in one whose onion layers do not encrypt.

use std::collections::BTreeSet;

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use warren_keys::{Block, CryptoKey, content};
use warren_proto::{
    crypto::{Aead, BadTag, Cipher, Portable},
    geometry::TAG_LEN,
};
use warren_tests::{
    net::{BlockEnd, Net, Spec},
    observer::{Digest, Knowledge, Public, Secret, Sought, leaks, names_node},
    watch::Watched,
};

const NODES: usize = 14;

/// A block, and what is in it.
struct Document {
    plain: Vec<u8>,
    block: Block,
}

impl Document {
    fn new(seed: u64) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let mut plain = vec![0; 30_000];
        rng.fill_bytes(&mut plain);
        let block = content::seal(&plain, &CryptoKey::generate(&mut rng)).unwrap();
        Self { plain, block }
    }

    fn sought(&self) -> Sought {
        Sought::block(&self.block)
    }
}

/// A request that a node's user made.
struct Request {
    client: usize,
    document: usize,
}

/// A network in which everything was written down while some nodes inserted documents and others fetched them.
struct World<A> {
    net: Net<Watched<A>>,
    documents: Vec<Document>,
    requests: Vec<Request>,
    digests: Vec<Digest>,
}

impl<A: Aead> World<A> {
    fn new(seed: u64, hops: usize) -> Self {
        let mut net: Net<Watched<A>> = Net::started(Spec {
            hops,
            watched: true,
            ..Spec::new(seed, NODES)
        });
        let documents: Vec<Document> = (0..4).map(|number| Document::new(seed * 100 + number)).collect();
        let mut requests = Vec::new();
        // All at once, so that each node is client, relay, exit and router for others at the same time.
        let mut open = Vec::new();
        for (number, document) in documents.iter().enumerate() {
            let client = 2 * number;
            let job = net.open_job(client);
            open.push(net.begin_insert(client, job, 1, document.block.clone(), 2));
            requests.push(Request {
                client,
                document: number,
            });
        }
        for op in open.drain(..) {
            let end = net.wait(op);
            assert!(matches!(end, BlockEnd::Inserted(Ok(5))), "{end:?}");
        }
        for (number, document) in documents.iter().enumerate() {
            let client = 2 * number + 1;
            let job = net.open_job(client);
            open.push(net.begin_fetch(client, job, 1, document.block.id()));
            requests.push(Request {
                client,
                document: number,
            });
        }
        for (op, document) in open.into_iter().zip(&documents) {
            match net.wait(op) {
                BlockEnd::Fetched(Ok(block)) => assert_eq!(block, document.block),
                other => panic!("{other:?}"),
            }
        }
        let public = Public::of((0..NODES).map(|index| net.descriptor(index)));
        let mut all = Sought::default();
        for document in &documents {
            all.add(Secret::Key, document.block.key().as_bytes());
            all.add(Secret::Block, document.block.bytes());
        }
        let digests = (0..NODES).map(|index| Digest::of(net.transcript(index), &public, &all));
        let digests = digests.collect();
        Self {
            net,
            documents,
            requests,
            digests,
        }
    }

    fn knowledge(&self, observers: &[usize]) -> Knowledge {
        let digests: Vec<&Digest> = observers.iter().map(|index| &self.digests[*index]).collect();
        Knowledge::of(&digests)
    }

    /// What observers know together of who made a request.
    fn leaks(&self, knowledge: &Knowledge, observers: &[usize], request: &Request) -> Vec<Secret> {
        let links = observers
            .iter()
            .flat_map(|observer| self.net.links_to(*observer, request.client));
        let links: Vec<_> = links.collect();
        leaks(knowledge, &links, &self.documents[request.document].sought())
    }

    /// Whether a node is itself a client of a document.
    fn asked_for(&self, node: usize, document: usize) -> bool {
        let mut requests = self.requests.iter();
        requests.any(|request| request.client == node && request.document == document)
    }

    /// The hops of the circuits that carried a client's requests.
    fn paths(&self, client: usize) -> BTreeSet<Vec<usize>> {
        let circuits = self.net.asked(client).iter();
        circuits.map(|origin| self.net.path(client, *origin)).collect()
    }
}

/// Checks every node against every request. Gives the entries and exits of all requests.
fn nobody_knows<A: Aead>(world: &World<A>) -> (BTreeSet<usize>, BTreeSet<usize>) {
    let (mut entries, mut exits) = (BTreeSet::new(), BTreeSet::new());
    for observer in 0..NODES {
        let knowledge = world.knowledge(&[observer]);
        for request in world.requests.iter().filter(|request| request.client != observer) {
            let sought = world.documents[request.document].sought();
            assert_eq!(
                world.leaks(&knowledge, &[observer], request),
                [],
                "node {observer}"
            );
            if world.asked_for(observer, request.document) {
                continue;
            }
            // The other way round: whatever it knows of the key does not name the client.
            let client = world.net.descriptor(request.client).identity;
            for bundle in knowledge.of_sought(&sought).keys() {
                let transcript = world.net.transcript(observer);
                assert!(
                    !names_node(transcript, &knowledge, *bundle, &client),
                    "node {observer}"
                );
            }
            // Those who had to know something did, so the check looked at something.
            let links = world.net.links_to(observer, request.client);
            for path in world.paths(request.client) {
                if path.first() == Some(&observer) {
                    entries.insert(observer);
                    assert!(!knowledge.of_client(&links).is_empty());
                }
                if path.last() == Some(&observer) {
                    exits.insert(observer);
                    assert!(!knowledge.of_sought(&sought).is_empty());
                }
            }
        }
        let mut plain = Sought::default();
        for (number, document) in world.documents.iter().enumerate() {
            if !world.asked_for(observer, number) {
                plain.add(Secret::Plaintext, &document.plain);
            }
        }
        for sight in &world.net.transcript(observer).sights {
            assert!(
                sight
                    .contents
                    .iter()
                    .all(|content| plain.found_in(content).is_none())
            );
        }
    }
    (entries, exits)
}

#[test]
fn no_node_ties_a_client_to_its_request() {
    let (mut entries, mut exits) = (BTreeSet::new(), BTreeSet::new());
    for seed in 1..=3 {
        let world: World<Portable> = World::new(seed, 3);
        let seen = nobody_knows(&world);
        entries.extend(seen.0);
        exits.extend(seen.1);
    }
    assert!(
        entries.len() > 4 && exits.len() > 8,
        "paths vary: {entries:?} {exits:?}"
    );
}

#[test]
fn an_entry_and_an_exit_need_the_relay_between_them() {
    let world: World<Portable> = World::new(4, 3);
    let mut chains = 0;
    for request in &world.requests {
        for path in world.paths(request.client) {
            let [entry, relay, exit] = path[..] else {
                panic!("three hops")
            };
            for pair in [[entry, relay], [relay, exit], [entry, exit]] {
                // A pair of neighbours in another circuit of this client may be a whole chain of it.
                let knowledge = world.knowledge(&pair);
                assert_eq!(world.leaks(&knowledge, &pair, request), []);
            }
            let all = [entry, relay, exit];
            let knowledge = world.knowledge(&all);
            chains += usize::from(!world.leaks(&knowledge, &all, request).is_empty());
        }
    }
    // All three together know, so ties were followed through real circuits.
    assert!(chains >= world.requests.len());
}

#[test]
fn one_hop_is_seen_to_leak() {
    let world: World<Portable> = World::new(5, 1);
    for request in &world.requests {
        let caught = world.paths(request.client).into_iter().any(|path| {
            let knowledge = world.knowledge(&path);
            !world.leaks(&knowledge, &path, request).is_empty()
        });
        assert!(caught, "a single hop knows its client and the key");
    }
}

/// A cipher that authenticates, but does not encrypt onion layers.
struct Glass(Portable);

impl Aead for Glass {
    fn with(cipher: Cipher, key: &[u8; 32]) -> Self {
        Self(Portable::with(cipher, key))
    }

    fn seal(&self, nonce: u64, aad: &[u8], buf: &mut [u8]) {
        let text = buf.to_vec();
        self.0.seal(nonce, aad, buf);
        if !aad.is_empty() {
            let len = buf.len() - TAG_LEN;
            buf[..len].copy_from_slice(&text[..len]);
        }
    }

    fn open(&self, nonce: u64, aad: &[u8], buf: &mut [u8], from: usize) -> Result<usize, BadTag> {
        if aad.is_empty() {
            return self.0.open(nonce, aad, buf, from);
        }
        let mut sealed = buf[from..].to_vec();
        self.seal(nonce, aad, &mut sealed);
        if sealed != buf[from..] {
            return Err(BadTag);
        }
        buf.copy_within(from.., 0);
        Ok(sealed.len() - TAG_LEN)
    }
}

#[test]
fn layers_that_do_not_encrypt_are_seen_to_leak() {
    let world: World<Glass> = World::new(6, 3);
    for request in &world.requests {
        let caught = world.paths(request.client).into_iter().any(|path| {
            let entry = [path[0]];
            let knowledge = world.knowledge(&entry);
            !world.leaks(&knowledge, &entry, request).is_empty()
        });
        assert!(caught, "the entry reads the request");
    }
}
