//! Nodes that come and go, each behind a door of its own, in one network.

use std::{
    collections::BTreeMap,
    env,
    net::{IpAddr, SocketAddr},
    process,
    sync::{Arc, MutexGuard},
    thread,
    time::Duration,
};

use tempfile::TempDir;
use warren_keys::{Location, NodeId};

use super::{
    lines::Lines,
    load::{File, Proxies},
    spaces::Spaces,
};
use crate::process::{
    free_address_at,
    network::turn,
    node::{Home, Node, Settings},
    scratch, wait_for,
};

/// Nodes of a usual fleet.
pub const NODES: usize = 20;

/// Neighbours on each side of the ring that every node must be linked to (protocol §7.7).
const NEAR: usize = 4;

/// Where nodes listen that have an address for themselves.
const PORT: u16 = 7420;

/// The ring is whole again within this after the last disturbance: what was out of reach is dialled again within a minute
/// (protocol §7.7), and machines are busy.
const RING: Duration = Duration::from_secs(180);

/// The most memory that a node may ever have had, bytes: what is queued for links is bounded by 32 MiB here, a transfer by its windows,
/// and the rest is the program, its tables and the allocator.
pub const MEMORY: u64 = 128 << 20;

enum State {
    Running(Node),
    Down(Home),
    Gone,
}

struct Member {
    reference: String,
    place: Location,
    state: State,
}

/// A network of processes; all of it is gone when it goes out of scope.
pub struct Fleet {
    /// What is between the nodes.
    pub lines: Lines,
    /// The proxies of the nodes that run, for who sends files.
    pub proxies: Arc<Proxies>,
    template: Settings,
    seed: u64,
    members: Vec<Member>,
    peak: u64,
    // Dropped after the nodes.
    folder: TempDir,
    _turn: MutexGuard<'static, ()>,
}

/// The address of a node by its number: one for each, and other ones for each process that runs such tests.
fn address(number: usize) -> IpAddr {
    let [.., high, low] = process::id().to_be_bytes();
    IpAddr::from([127, 64 + high % 64, low, u8::try_from(number + 1).unwrap()])
}

impl Fleet {
    fn empty(name: &str, seed: u64) -> Self {
        let turn = turn();
        let mut template = Settings::new(name);
        template.reserve = false;
        template.queues = "32 MiB";
        template.log = "info";
        Self {
            lines: Lines::new(seed),
            proxies: Arc::default(),
            template,
            seed,
            members: Vec::new(),
            peak: 0,
            folder: scratch(),
            _turn: turn,
        }
    }

    /// Starts `count` nodes with small datastores that know the first one, and waits until they are one ring. `adapt` changes the settings of all;
    /// `prepare` how the node with a number is started.
    ///
    /// # Panics
    /// When they do not start or do not find each other.
    pub fn start_with(
        name: &str,
        seed: u64,
        count: usize,
        adapt: impl FnOnce(&mut Settings),
        prepare: impl Fn(usize, Home) -> Home,
    ) -> Self {
        let mut fleet = Self::empty(name, seed);
        adapt(&mut fleet.template);
        for _ in 0..count {
            fleet.add_with(&prepare);
        }
        fleet.wait_until_whole();
        fleet
    }

    /// The same with each node in a network namespace of its own; `lines` is without effect, and what is between the nodes is the
    /// namespaces' bridges.
    ///
    /// # Panics
    /// As [`Fleet::start_with`].
    pub fn start_in(spaces: &Spaces, name: &str, seed: u64, count: usize) -> Self {
        let mut fleet = Self::empty(name, seed);
        for number in 0..count {
            let mut settings = fleet.template.clone();
            settings.listen = SocketAddr::new(spaces.address(number), PORT);
            fleet.add_as(settings, |home| home.with_namespace(spaces.file(number)));
        }
        fleet.wait_until_whole();
        fleet
    }

    /// The same without preparations.
    ///
    /// # Panics
    /// As [`Fleet::start_with`].
    pub fn start(name: &str, seed: u64, count: usize) -> Self {
        Self::start_with(name, seed, count, |_| {}, |_, home| home)
    }

    /// Starts one more node, which knows the first one that runs. Returns its number.
    ///
    /// # Panics
    /// When it does not start.
    pub fn add(&mut self) -> usize {
        self.add_with(&|_, home| home)
    }

    /// The same, but the references of these come before: they need not be nodes.
    ///
    /// # Panics
    /// When it does not start.
    pub fn add_misled(&mut self, seeds: Vec<String>) -> usize {
        let honest = std::mem::replace(&mut self.template.seeds, seeds);
        let number = self.add();
        self.template.seeds = honest;
        number
    }

    fn add_with(&mut self, prepare: &impl Fn(usize, Home) -> Home) -> usize {
        let number = self.members.len();
        let ip = address(number);
        let mut settings = self.template.clone();
        settings.listen = free_address_at(ip);
        settings.dial_from = Some(ip);
        let door = SocketAddr::new(ip, 0);
        settings.advertise = vec![self.lines.open(number, door, ip, settings.listen)];
        self.add_as(settings, |home| prepare(number, home))
    }

    fn add_as(&mut self, mut settings: Settings, prepare: impl FnOnce(Home) -> Home) -> usize {
        let number = self.members.len();
        let seed = self
            .members
            .iter()
            .find(|member| matches!(member.state, State::Running(_)));
        settings.seeds.extend(seed.map(|member| member.reference.clone()));
        let folder = self.folder.path().join(format!("node-{number}"));
        let node = prepare(Home::make(folder, &settings)).start();
        let reference = node.reference.clone();
        let parsed: warren_proto::descriptor::NodeReference = reference.parse().unwrap();
        self.proxies.offer(number, node.reach());
        self.members.push(Member {
            reference,
            place: parsed.node.location(),
            state: State::Running(node),
        });
        number
    }

    /// A running node.
    ///
    /// # Panics
    /// When it does not run.
    pub fn node(&self, number: usize) -> &Node {
        match &self.members[number].state {
            State::Running(node) => node,
            State::Down(_) | State::Gone => panic!("node {number} does not run"),
        }
    }

    /// The nodes that run.
    pub fn running(&self) -> impl Iterator<Item = (usize, &Node)> {
        self.members
            .iter()
            .enumerate()
            .filter_map(|(number, member)| match &member.state {
                State::Running(node) => Some((number, node)),
                State::Down(_) | State::Gone => None,
            })
    }

    /// Ends a node, by SIGKILL or else by SIGTERM. Waits for the transfers of its own user.
    ///
    /// # Panics
    /// When it does not run, does not end well, or had more memory than it may.
    pub fn stop(&mut self, number: usize, kill: bool) {
        self.proxies.withdraw(number);
        let (_, peak) = self.node(number).memory();
        self.note_memory(number, peak);
        let home = match std::mem::replace(&mut self.members[number].state, State::Gone) {
            State::Running(node) if kill => node.kill(),
            State::Running(node) => {
                let (code, home) = node.terminate();
                assert_eq!(code, Some(0), "{}", home.log());
                home
            }
            State::Down(_) | State::Gone => panic!("node {number} does not run"),
        };
        self.members[number].state = State::Down(home);
    }

    /// Starts a stopped node from what it left on its disk.
    ///
    /// # Panics
    /// When it runs, or does not start.
    pub fn restart(&mut self, number: usize) {
        let State::Down(home) = std::mem::replace(&mut self.members[number].state, State::Gone) else {
            panic!("node {number} is not stopped");
        };
        let node = home.start();
        assert_eq!(
            node.reference, self.members[number].reference,
            "it is the same node"
        );
        self.proxies.offer(number, node.reach());
        self.members[number].state = State::Running(node);
    }

    /// Kills nodes at one moment, for good: their disks are gone too.
    ///
    /// # Panics
    /// When one does not run.
    pub fn destroy(&mut self, numbers: &[usize]) {
        for number in numbers {
            self.proxies.withdraw(*number);
        }
        for number in numbers {
            self.stop(*number, true);
        }
        for number in numbers {
            let state = std::mem::replace(&mut self.members[*number].state, State::Gone);
            if let State::Down(home) = state {
                self.check_log(*number, &home);
                std::fs::remove_dir_all(home.folder()).unwrap();
            }
        }
    }

    /// Waits until the nodes that run are one ring: each linked to its nearest on both sides.
    ///
    /// # Panics
    /// When they do not become that.
    pub fn wait_until_whole(&self) {
        let running: Vec<usize> = self.running().map(|(number, _)| number).collect();
        self.wait_until_one(&running);
    }

    /// The same for some nodes, as if there were no others.
    ///
    /// # Panics
    /// When they do not become that.
    pub fn wait_until_one(&self, numbers: &[usize]) {
        for number in numbers {
            let near = self.near(*number, numbers);
            wait_for(&format!("links of node {number} to {near:?}"), RING, || {
                self.is_linked(*number, &near).then_some(())
            });
        }
    }

    /// Whether a node is linked to all of these.
    pub fn is_linked(&self, number: usize, to: &[usize]) -> bool {
        let links = self.links(number);
        to.iter().all(|other| links.contains(other))
    }

    /// The nodes that a node says it is linked to.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn links(&self, number: usize) -> Vec<usize> {
        let peers = self.node(number).control.get("/v1/peers").unwrap();
        let places: BTreeMap<Location, usize> = self
            .members
            .iter()
            .enumerate()
            .map(|(number, member)| (member.place, number))
            .collect();
        peers
            .as_array()
            .unwrap()
            .iter()
            .map(|peer| {
                let identity: NodeId = peer["identity"].as_str().unwrap().parse().unwrap();
                places[&identity.location()]
            })
            .collect()
    }

    /// The nearest others of `among` on both sides of a node.
    fn near(&self, number: usize, among: &[usize]) -> Vec<usize> {
        let here = self.members[number].place;
        let mut others: Vec<usize> = among.iter().copied().filter(|other| *other != number).collect();
        others.sort_by_key(|other| here.clockwise(self.members[*other].place));
        let below = others.len().saturating_sub(NEAR).max(NEAR.min(others.len()));
        let below = others.split_off(below);
        others.truncate(NEAR);
        others.extend(below);
        others
    }

    /// Inserts a file of each of these lengths, through one of these nodes after the other.
    ///
    /// # Panics
    /// When one cannot be inserted.
    pub fn insert(&self, through: &[usize], lens: &[u64]) -> Vec<File> {
        let nodes = through.iter().cycle();
        // Other files than those of a load, whose numbers are small.
        let numbers = (1..).map(|number: u64| self.seed ^ number << 40);
        let inserted = lens.iter().zip(nodes).zip(numbers);
        inserted
            .map(|((len, node), number)| File::insert(&self.node(*node).reach(), number, *len).unwrap())
            .collect()
    }

    /// Waits until all these files come whole from all these nodes, then checks that no node had more memory than it may, that none
    /// panicked, and that every connection was some node's.
    ///
    /// # Panics
    /// When that is not so.
    pub fn finish(mut self, files: &[File], readers: &[usize]) {
        assert!(!files.is_empty() && !readers.is_empty());
        let retries: u64 = thread::scope(|scope| {
            let fetching: Vec<_> = readers
                .iter()
                .map(|reader| {
                    let proxy = self.node(*reader).reach();
                    scope.spawn(move || files.iter().map(|file| file.wait_for(&proxy)).sum::<u64>())
                })
                .collect();
            fetching
                .into_iter()
                .map(|fetching| fetching.join().unwrap())
                .sum()
        });
        self.check();
        println!(
            "{} files whole from each of {} nodes ({retries} fetches repeated), {} connections, memory at most {} MiB",
            files.len(),
            readers.len(),
            self.lines.connections(),
            self.peak >> 20
        );
    }

    /// Checks memory, logs and lines so far.
    ///
    /// # Panics
    /// When something is not as it should be.
    pub fn check(&mut self) {
        let peaks: Vec<_> = self
            .running()
            .map(|(number, node)| (number, node.memory().1))
            .collect();
        for (number, peak) in peaks {
            self.note_memory(number, peak);
        }
        for (number, member) in self.members.iter().enumerate() {
            match &member.state {
                State::Running(node) => self.check_log(number, &node.home),
                State::Down(home) => self.check_log(number, home),
                State::Gone => {}
            }
        }
        assert_eq!(self.lines.strangers(), 0, "every connection is some node's");
    }

    fn check_log(&self, number: usize, home: &Home) {
        let log = home.log();
        assert!(!log.contains("panicked"), "node {number}: {log}");
    }

    fn note_memory(&mut self, number: usize, peak: u64) {
        assert!(peak <= MEMORY, "node {number} had {peak} bytes of memory");
        self.peak = self.peak.max(peak);
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if !thread::panicking() {
            return;
        }
        println!("the seed was {:#x}", self.seed);
        if env::var_os("WARREN_KEEP").is_some() {
            self.folder.disable_cleanup(true);
            println!("the nodes' folders stay in {}", self.folder.path().display());
        }
    }
}
