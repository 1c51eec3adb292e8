//! Files that are inserted and fetched while nodes come and go.
//!
//! A file counts as inserted when a node said so, and from then on it must come back whole. A fetch may fail while the network is in
//! trouble, and is repeated; wrong bytes are never right.

use std::{
    collections::BTreeMap,
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use crate::process::{
    data::RandomFile,
    http::{self, Reach},
    wait_for,
};

/// A file that was inserted comes within this once nothing disturbs the network any more.
const FETCH: Duration = Duration::from_secs(180);

/// A transfer through a node that is to be stopped is over within this.
const TRANSFER: Duration = Duration::from_secs(180);

/// The largest file of a load, bytes: three blocks to a dozen, with their parity.
const LARGEST: u64 = 400_000;

/// Files of a load. All nodes' datastores together hold some times as many; beyond that, what is lost would be lost to the quota.
const MOST: u64 = 300;

/// Poisoned only when a test has failed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The proxies of running nodes, and how many transfers each has from this test.
#[derive(Default)]
pub struct Proxies {
    all: Mutex<BTreeMap<usize, Proxy>>,
    returned: Condvar,
}

struct Proxy {
    reach: Reach,
    /// Whether transfers may begin.
    open: bool,
    lent: usize,
}

/// A proxy whose node stays for as long as this is held.
pub struct Lent<'a> {
    proxies: &'a Proxies,
    number: usize,
    /// Where it is.
    pub reach: Reach,
}

impl Proxies {
    /// The node runs.
    pub fn offer(&self, number: usize, reach: Reach) {
        let proxy = Proxy {
            reach,
            open: true,
            lent: 0,
        };
        lock(&self.all).insert(number, proxy);
    }

    /// The node is about to end: lends its proxy to nobody any more, and waits until nobody has it.
    ///
    /// # Panics
    /// When somebody keeps it for too long.
    pub fn withdraw(&self, number: usize) {
        let mut all = lock(&self.all);
        if let Some(proxy) = all.get_mut(&number) {
            proxy.open = false;
        }
        let busy = |all: &mut BTreeMap<_, Proxy>| all.get(&number).is_some_and(|proxy| proxy.lent > 0);
        let (_all, late) = self
            .returned
            .wait_timeout_while(all, TRANSFER, busy)
            .unwrap_or_else(PoisonError::into_inner);
        assert!(!late.timed_out(), "the transfers of node {number} do not end");
    }

    /// One of the proxies whose node is among `among`, at random.
    fn lend(&self, among: &[usize], rng: &mut ChaCha20Rng) -> Option<Lent<'_>> {
        let mut all = lock(&self.all);
        let mut open: Vec<_> = all
            .iter_mut()
            .filter(|(number, proxy)| proxy.open && among.contains(number))
            .collect();
        let choice = below(rng, open.len())?;
        let (number, proxy) = &mut open[choice];
        proxy.lent += 1;
        Some(Lent {
            proxies: self,
            number: **number,
            reach: proxy.reach.clone(),
        })
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        if let Some(proxy) = lock(&self.proxies.all).get_mut(&self.number) {
            proxy.lent -= 1;
        }
        self.proxies.returned.notify_all();
    }
}

/// A number below another, near enough to uniform.
fn below(rng: &mut ChaCha20Rng, bound: usize) -> Option<usize> {
    let number = usize::try_from(rng.next_u64() >> 32).unwrap_or_default();
    number.checked_rem(bound)
}

/// `count` different ones of `among`.
///
/// # Panics
/// When there are fewer.
pub fn choose(rng: &mut ChaCha20Rng, among: &[usize], count: usize) -> Vec<usize> {
    let mut left = among.to_vec();
    (0..count)
        .map(|_| left.swap_remove(below(rng, left.len()).unwrap()))
        .collect()
}

/// A file that a node said it had inserted.
#[derive(Clone, Debug)]
pub struct File {
    key: String,
    seed: u64,
    len: u64,
}

impl File {
    /// Inserts the file with this number through a proxy.
    ///
    /// # Errors
    /// What the node says, or that the connection ended. The file does not count as inserted then.
    pub fn insert(proxy: &Reach, seed: u64, len: u64) -> Result<Self, String> {
        let bytes = RandomFile::new(seed, len).bytes();
        let answer =
            http::request(proxy.clone(), "PUT", "/?compress=0", &[], &bytes).map_err(|e| e.to_string())?;
        let text = String::from_utf8_lossy(&answer.body).trim().to_owned();
        if answer.status != 201 {
            return Err(format!("{}: {text}", answer.status));
        }
        Ok(Self { key: text, seed, len })
    }

    /// Fetches it through a proxy.
    ///
    /// # Errors
    /// What the node says, or that the connection ended.
    ///
    /// # Panics
    /// When something else comes whole.
    pub fn fetch(&self, proxy: &Reach) -> Result<(), String> {
        let answer = http::request(proxy.clone(), "GET", &format!("/{}", self.key), &[], b"");
        let answer = answer.map_err(|e| e.to_string())?;
        if answer.status != 200 {
            let text = String::from_utf8_lossy(&answer.body);
            return Err(format!("{}: {text}", answer.status));
        }
        assert!(
            answer.body == RandomFile::new(self.seed, self.len).bytes(),
            "{} bytes came of {self:?}, and they are wrong",
            answer.body.len()
        );
        Ok(())
    }

    /// Fetches it through a proxy, more than once if need be. Returns how many times it failed.
    ///
    /// # Panics
    /// When it does not come.
    pub fn wait_for(&self, proxy: &Reach) -> u64 {
        let mut failures = Vec::new();
        let what = format!("{self:?}");
        wait_for(&what, FETCH, || match self.fetch(proxy) {
            Ok(()) => Some(()),
            Err(error) => {
                println!("fetch {} of {what} fails: {error}", failures.len() + 1);
                failures.push(error);
                None
            }
        });
        failures.len() as u64
    }
}

/// Inserts and fetches going on in the background.
#[derive(Default)]
pub struct Load {
    files: Mutex<Vec<File>>,
    stop: AtomicBool,
    next: AtomicU64,
    fetched: AtomicU64,
    failures: Mutex<Vec<String>>,
}

impl Load {
    /// Inserts one file after the other, and after each fetches one that is there, through nodes of `among`, until
    /// [`Load::stop`]. Inserts only so many that the datastores are far from full.
    pub fn run(&self, proxies: &Proxies, among: &[usize], seed: u64) {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let mut own: Vec<File> = Vec::new();
        while !self.stop.load(Ordering::SeqCst) {
            let number = self.next.fetch_add(1, Ordering::SeqCst);
            let len = 1 + rng.next_u64() % LARGEST;
            let lent = proxies.lend(among, &mut rng);
            if let (Some(proxy), ..MOST) = (lent, number) {
                match File::insert(&proxy.reach, seed ^ number, len) {
                    Ok(file) => {
                        own.push(file.clone());
                        lock(&self.files).push(file);
                    }
                    Err(error) => lock(&self.failures).push(format!("insert: {error}")),
                }
            }
            let file = below(&mut rng, own.len()).map(|index| &own[index]);
            if let (Some(file), Some(proxy)) = (file, proxies.lend(among, &mut rng)) {
                match file.fetch(&proxy.reach) {
                    Ok(()) => {
                        self.fetched.fetch_add(1, Ordering::SeqCst);
                    }
                    Err(error) => lock(&self.failures).push(format!("fetch: {error}")),
                }
            }
        }
    }

    /// Ends all [`Load::run`] after what they are at.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    /// Files inserted so far, and fetches that brought one.
    pub fn done(&self) -> (usize, u64) {
        (lock(&self.files).len(), self.fetched.load(Ordering::SeqCst))
    }

    /// What was inserted, and what failed meanwhile.
    pub fn into_files(self) -> (Vec<File>, Vec<String>) {
        let inner = |poisoned: PoisonError<_>| poisoned.into_inner();
        let failures = self.failures.into_inner().unwrap_or_else(PoisonError::into_inner);
        (self.files.into_inner().unwrap_or_else(inner), failures)
    }
}

/// Stops a load when it goes out of scope, so that a test that fails ends.
pub struct Stopping<'a>(pub &'a Load);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}
