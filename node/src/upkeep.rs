//! What a running node does by the clock: saves what it knows of the network and has counted, has its descriptor signed anew,
//! keeps to the month's volume, looks up the seeds that are named by host, and says when the clock itself is wrong.

use std::{
    collections::hash_map::DefaultHasher,
    hash::{Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::lookup_host,
    time::{interval, sleep},
};
use warren_proto::{
    core::api::DialTarget,
    descriptor::{Host, NodeReference},
    repair::RepairMemory,
};

use crate::{
    core_task::Desk,
    net::{
        Net,
        bandwidth::volume::{Allowance, Month, Volume},
    },
    own::Own,
    state::{Remembered, State},
};

/// How often the clock is looked at. Coarse: a crash loses what was learned in this time, and the network tells it again.
const INTERVAL: Duration = Duration::from_secs(60);

/// How often others' view of this node is looked at: its address, so that a node that can be reached says so soon after it has joined,
/// and its clock.
const LOOK: Duration = Duration::from_secs(5);

/// Addresses of one name that are tried.
const MAX_RESOLVED: usize = 8;

pub(crate) struct Upkeep {
    net: Arc<Net>,
    state: Arc<State>,
    desk: Arc<Desk>,
    own: Arc<Own>,
    unresolved: Vec<NodeReference>,
    /// What was said last about the clock.
    clock_is_wrong: bool,
    /// Of what was saved last.
    saved: Option<u64>,
    counted: Option<Volume>,
    /// Hours of uptime when repair's memory was saved last.
    saved_repair: Option<u64>,
}

impl Upkeep {
    pub(crate) fn new(
        net: Arc<Net>,
        state: Arc<State>,
        desk: Arc<Desk>,
        own: Arc<Own>,
        unresolved: Vec<NodeReference>,
    ) -> Self {
        Self {
            net,
            state,
            desk,
            own,
            unresolved,
            clock_is_wrong: false,
            saved: None,
            counted: None,
            saved_repair: None,
        }
    }

    /// Runs until the node stops.
    pub(crate) async fn run(mut self) {
        let stop = self.net.stop.clone();
        // Cut off anywhere: each step is whole or has no effect.
        stop.run_until_cancelled(async {
            loop {
                self.resolve().await;
                self.watch(INTERVAL).await;
                self.own.renew();
                self.save_traffic().await;
                self.save().await;
            }
        })
        .await;
    }

    /// Looks after the month's volume, and how others see this node, for so long.
    async fn watch(&mut self, time: Duration) {
        let end = sleep(time);
        tokio::pin!(end);
        let mut look = interval(LOOK);
        loop {
            self.review();
            tokio::select! {
                () = &mut end => return,
                () = self.net.bandwidth.changed.notified() => continue,
                _ = look.tick() => {}
            }
            self.look_at_clock();
            // Fails only when the node stops.
            if let Ok(seen) = self.desk.seen(&self.net.core).await {
                self.own.set_seen(seen);
            }
        }
    }

    /// Says when this machine's clock turns out to be wrong, and when it is right again.
    fn look_at_clock(&mut self) {
        let wrong = self.net.wrong_clock();
        match wrong {
            Some(wrong) if !self.clock_is_wrong => tracing::warn!("{wrong}"),
            None if self.clock_is_wrong => {
                tracing::warn!("this machine's clock agrees with those of the other nodes again");
            }
            _ => {}
        }
        self.clock_is_wrong = wrong.is_some();
    }

    async fn resolve(&mut self) {
        let mut later = Vec::new();
        for seed in std::mem::take(&mut self.unresolved) {
            let Host::Name(name) = &seed.host else { continue };
            let found = lookup_host((name.as_str(), seed.port)).await;
            match found.map(|addresses| addresses.take(MAX_RESOLVED).collect::<Vec<_>>()) {
                Ok(addresses) => {
                    let (node, link_key) = (seed.node, seed.link_key);
                    self.desk.add_seed(
                        &self.net.core,
                        DialTarget {
                            node,
                            link_key,
                            addresses,
                        },
                    );
                }
                Err(error) => {
                    tracing::warn!(%error, "a seed's host name cannot be looked up; trying again in a minute");
                    later.push(seed);
                }
            }
        }
        self.unresolved = later;
    }

    /// Keeps to what the month's volume allows.
    fn review(&self) {
        let month = Month::of(self.net.clock.wall());
        let allowance = self.net.bandwidth.review(month);
        if !self.own.set_allowance(allowance) {
            return;
        }
        match allowance {
            Allowance::Full => tracing::info!("the month's volume allows everything again"),
            Allowance::Own => tracing::warn!(
                "the month's volume is used up but for the part that is kept for this node's own user: nothing is done for others until \
                 the month ends or the limit is raised (warren set monthly …)"
            ),
            Allowance::Nothing => tracing::warn!(
                "the month's volume is used up: no links until the month ends or the limit is raised (warren set monthly …)"
            ),
        }
    }

    /// The count of a month that a crash loses is what was moved since the last save.
    async fn save_traffic(&mut self) {
        let volume = self.net.bandwidth.volume();
        if self.counted == Some(volume) {
            return;
        }
        let state = Arc::clone(&self.state);
        let written = tokio::task::spawn_blocking(move || state.remember_traffic(&volume));
        match written.await {
            Ok(Ok(())) => self.counted = Some(volume),
            Ok(Err(error)) => tracing::warn!(%error, "the month's count of traffic cannot be saved"),
            Err(_) => tracing::warn!("saving the month's count of traffic failed inside the program"),
        }
    }

    async fn save_repair(&mut self, memory: &RepairMemory) {
        let hours = memory.uptime / REPAIR_INTERVAL;
        if self.saved_repair == Some(hours) {
            return;
        }
        let (state, memory) = (Arc::clone(&self.state), memory.clone());
        match tokio::task::spawn_blocking(move || state.remember_repair(&memory)).await {
            Ok(Ok(())) => self.saved_repair = Some(hours),
            Ok(Err(error)) => tracing::warn!(%error, "what is known of the nodes around cannot be saved"),
            Err(_) => tracing::warn!("saving what is known of the nodes around failed inside the program"),
        }
    }

    async fn save(&mut self) {
        let Ok(report) = self.desk.report(&self.net.core).await else {
            return;
        };
        self.save_repair(&report.remembered.repair).await;
        let digest = digest(&report.remembered);
        if self.saved == Some(digest) {
            return;
        }
        let (state, net) = (Arc::clone(&self.state), Arc::clone(&self.net));
        let written = tokio::task::spawn_blocking(move || {
            state.remember(&report.remembered)?;
            state.remember_replays(&net.replays())
        });
        match written.await {
            Ok(Ok(())) => self.saved = Some(digest),
            Ok(Err(error)) => tracing::warn!(%error, "what is known of the network cannot be saved"),
            Err(_) => tracing::warn!("saving what is known of the network failed inside the program"),
        }
    }
}

/// Seconds of uptime after which repair's memory is saved again. It changes all the time, and what an hour adds is soon learnt
/// again.
const REPAIR_INTERVAL: u64 = 3600;

/// Tells whether anything worth saving has changed; compared only within one run.
fn digest(remembered: &Remembered) -> u64 {
    let mut hasher = DefaultHasher::new();
    for entry in &remembered.entries {
        (entry.node, entry.left, entry.failed_days).hash(&mut hasher);
    }
    for descriptor in &remembered.descriptors {
        (descriptor.identity, descriptor.published).hash(&mut hasher);
    }
    hasher.finish()
}
