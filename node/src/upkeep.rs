//! What a running node does by the clock: saves what it knows of the network, signs its descriptor anew, looks up the seeds that
//! are named by host, and says when the clock itself is wrong.

use std::{
    collections::hash_map::DefaultHasher,
    hash::{Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use tokio::{net::lookup_host, time::sleep};
use warren_proto::{
    core::api::DialTarget,
    descriptor::{Host, NodeReference, Statement, is_due, next_date},
};

use crate::{
    core_task::Desk,
    net::Net,
    state::{Remembered, State},
};

/// How often the clock is looked at. Coarse: a crash loses what was learned in this time, and the network tells it again.
const INTERVAL: Duration = Duration::from_secs(60);

/// How often this machine's clock is compared with those of others.
const CLOCK_INTERVAL: Duration = Duration::from_secs(5);

/// Addresses of one name that are tried.
const MAX_RESOLVED: usize = 8;

pub(crate) struct Upkeep {
    net: Arc<Net>,
    state: Arc<State>,
    desk: Arc<Desk>,
    unresolved: Vec<NodeReference>,
    /// What was said last about the clock.
    clock_is_wrong: bool,
    /// Of what was saved last.
    saved: Option<u64>,
}

impl Upkeep {
    pub(crate) fn new(
        net: Arc<Net>,
        state: Arc<State>,
        desk: Arc<Desk>,
        unresolved: Vec<NodeReference>,
    ) -> Self {
        Self {
            net,
            state,
            desk,
            unresolved,
            clock_is_wrong: false,
            saved: None,
        }
    }

    /// Runs until the node stops.
    pub(crate) async fn run(mut self) {
        let stop = self.net.stop.clone();
        // Cut off anywhere: each step is whole or has no effect.
        stop.run_until_cancelled(async {
            loop {
                self.resolve().await;
                self.watch_clock().await;
                self.renew();
                self.save().await;
            }
        })
        .await;
    }

    /// Until [`INTERVAL`] has passed, says when this machine's clock turns out to be wrong, and when it is right again.
    async fn watch_clock(&mut self) {
        let mut passed = Duration::ZERO;
        while passed < INTERVAL {
            sleep(CLOCK_INTERVAL).await;
            passed += CLOCK_INTERVAL;
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

    fn renew(&self) {
        let (now, old) = (self.net.clock.wall(), self.net.descriptor());
        if !is_due(now, old.published) {
            return;
        }
        let statement = Statement {
            published: next_date(now, old.published),
            ..Statement::clone(&old)
        };
        let descriptor = self.net.secrets.sign(statement, &self.net.network);
        self.net.set_descriptor(Arc::new(descriptor.clone()));
        self.desk.set_descriptor(&self.net.core, descriptor);
    }

    async fn save(&mut self) {
        let Ok(report) = self.desk.report(&self.net.core).await else {
            return;
        };
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

/// Tells whether anything worth saving has changed; compared only within one run.
fn digest(remembered: &Remembered) -> u64 {
    let mut hasher = DefaultHasher::new();
    for entry in &remembered.entries {
        (entry.node, entry.expires, entry.failed_days).hash(&mut hasher);
    }
    for descriptor in &remembered.descriptors {
        (descriptor.identity, descriptor.published).hash(&mut hasher);
    }
    hasher.finish()
}
