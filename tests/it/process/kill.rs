//! A node killed while it takes inserts loses nothing that it has acknowledged.
//!
//! Two nodes: the client keeps no blocks and is its own exit, so the other one is the sink of everything. What the client reports as
//! inserted is on the disk of the node that is killed and nowhere else, and what comes back later can come only from there.

use std::{
    collections::BTreeMap,
    net::{Shutdown, TcpStream},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use warren_keys::{Block, Location, Uri, root::RootReader};
use warren_storage::{Geometry, KeyFile, Options, Space, Store};
use warren_tests::process::{
    data::RandomFile,
    http,
    network::turn,
    node::{Home, Node, Settings},
    scratch, wait_for,
};

const KILLS: u64 = 200;
/// Inserts at the same time.
const WRITERS: u64 = 3;
/// A kill comes after this many acknowledgements at most.
const MOST_BETWEEN: u64 = 12;
/// And after this many more microseconds at most: longer than one insert takes, so that every stage of it is hit.
const MOST_MICROSECONDS: u64 = 20_000;
/// Blocks that may be on their way at once: a root at three positions from each writer.
const MOST_AT_ONCE: u64 = 3 * WRITERS;
/// The whole disk is verified after each so many kills.
const VERIFY_EVERY: u64 = 25;

/// The file with this number: small enough for a root without blocks below it.
fn file(number: u64) -> Vec<u8> {
    RandomFile::new(number, 1 + number * 7919 % 30_000).bytes()
}

fn check(client: &Node, number: u64, key: &str) {
    let answer = http::request(client.proxy, "GET", &format!("/{key}"), &[], b"").unwrap();
    assert_eq!(answer.status, 200, "file {number} was acknowledged and is lost");
    assert!(answer.body == file(number), "file {number} is wrong");
}

/// The files that the client reported as inserted, and the inserts on their way.
struct Load<'a> {
    client: &'a Node,
    next: AtomicU64,
    done: Mutex<BTreeMap<u64, String>>,
}

impl Load<'_> {
    /// Inserts one file after the other until the connection is cut; tells of each that is done.
    fn insert(&self, connections: &Mutex<Option<Vec<TcpStream>>>, tell: &mpsc::Sender<()>) {
        loop {
            let stream = TcpStream::connect(self.client.proxy).unwrap();
            match &mut *connections.lock().unwrap() {
                Some(open) => open.push(stream.try_clone().unwrap()),
                None => return,
            }
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let answer = http::exchange(stream, "PUT", "/?compress=0", &[], &file(number));
            // Anything but success is nothing: the insert was cut, or the node had gone.
            if let Ok(http::Answer { status: 201, body }) = answer {
                let key = String::from_utf8(body).unwrap().trim().to_owned();
                self.done.lock().unwrap().insert(number, key);
                tell.send(()).ok();
            }
        }
    }

    /// Inserts from several threads, and kills the node at a random moment.
    fn kill_under(&self, node: Node, rng: &mut ChaCha20Rng) -> Home {
        let after = rng.next_u64() % (MOST_BETWEEN + 1);
        let pause = Duration::from_micros(rng.next_u64() % MOST_MICROSECONDS);
        let connections = Mutex::new(Some(Vec::new()));
        let (tell, told) = mpsc::channel();
        thread::scope(|scope| {
            for _ in 0..WRITERS {
                let (connections, tell) = (&connections, tell.clone());
                scope.spawn(move || self.insert(connections, &tell));
            }
            for _ in 0..after {
                let told = told.recv_timeout(Duration::from_secs(60));
                told.expect("inserts go through");
            }
            let moment = Instant::now() + pause;
            while Instant::now() < moment {
                std::hint::spin_loop();
            }
            let home = node.kill();
            // What is on its way now would wait for the node, and is begun anew instead.
            for stream in connections.lock().unwrap().take().unwrap() {
                stream.shutdown(Shutdown::Both).ok();
            }
            home
        })
    }
}

fn linked(node: &Node) {
    wait_for("the link", Duration::from_secs(30), || {
        (node.status()["links"] == 1).then_some(())
    });
}

/// Looks at the dead node's disk: the blocks of every file that was acknowledged are there, each by itself.
///
/// A file is acknowledged when its root and one of the two copies are stored; the other may have been on its way. What `verify` finds
/// damaged are puts that the kills cut, at most those on their way at each.
fn check_disk(home: &Home, done: &BTreeMap<u64, String>, kills: u64) {
    let ended = home.run(&["store", "verify"]);
    let verified = ended.json();
    let (damaged, unreadable) = (verified["damaged"].as_u64(), &verified["unreadable"]);
    assert!(
        damaged <= Some(kills * MOST_AT_ONCE) && *unreadable == 0,
        "{verified}"
    );

    let master = KeyFile::at(home.folder().join("node.key")).load(None).unwrap();
    let options = Options {
        geometry: Geometry::for_quota(512 << 20, 16 << 20).unwrap(),
        location: Location::new(0),
        space: Space::Reserve,
    };
    let store = Store::open(home.folder().join("store"), &master, &options).unwrap();
    for (number, key) in done {
        let found = RootReader::new(&Uri::parse(key).unwrap())
            .unwrap()
            .ids()
            .map(|id| {
                let found = store.get(&id).unwrap();
                // Verified anew, as a node would that gets it from another.
                found.map(|(block, _)| Block::verify(id, block.into_bytes()).unwrap())
            });
        assert!(found[0].is_some(), "the root of file {number} is lost");
        assert!(
            found[1].is_some() || found[2].is_some(),
            "both copies of file {number} are lost"
        );
    }
    store.close().unwrap();
}

#[test]
fn two_hundred_kills_lose_nothing_acknowledged() {
    let _turn = turn();
    let folder = scratch();
    let started = Instant::now();
    let mut settings = Settings::new("kill");
    settings.log = "warn";
    settings.hops = 0;
    settings.stores = false;
    settings.store = "16 MiB";
    let client = Home::make(folder.path().join("client"), &settings).start();
    settings.stores = true;
    settings.store = "512 MiB";
    settings.seeds = vec![client.reference.clone()];
    let mut home = Home::make(folder.path().join("node"), &settings);
    let load = Load {
        client: &client,
        next: AtomicU64::new(0),
        done: Mutex::default(),
    };
    let mut rng = ChaCha20Rng::seed_from_u64(0x6b69_6c6c);
    let (mut identity, mut before) = (None, 0);
    for kill in 1..=KILLS {
        let node = home.start();
        let same = node.reference.split('@').next().map(str::to_owned);
        assert_eq!(*identity.get_or_insert(same.clone()), same, "it is the same node");
        linked(&node);
        // What was acknowledged last is most in danger.
        let recent: Vec<_> = load
            .done
            .lock()
            .unwrap()
            .range(before..)
            .map(|(n, key)| (*n, key.clone()))
            .collect();
        for (number, key) in recent.iter().rev().take(3) {
            check(&client, *number, key);
        }
        before = load.next.load(Ordering::Relaxed);
        home = load.kill_under(node, &mut rng);
        if kill % VERIFY_EVERY == 0 {
            check_disk(&home, &load.done.lock().unwrap(), kill);
        }
    }
    check_disk(&home, &load.done.lock().unwrap(), KILLS);
    let node = home.start();
    linked(&node);
    let done = load.done.lock().unwrap();
    for (number, key) in done.iter() {
        check(&client, *number, key);
    }
    assert_eq!(
        client.status()["store"]["used_bytes"],
        0,
        "nothing came from the client's own disk"
    );
    assert!(!node.home.log().contains("panicked"), "{}", node.home.log());
    println!(
        "{KILLS} kills, {} files acknowledged, none lost, {:.1} s",
        done.len(),
        started.elapsed().as_secs_f64()
    );
    assert!(done.len() as u64 > KILLS, "there was load");
}
