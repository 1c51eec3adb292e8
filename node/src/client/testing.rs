//! A network for tests of whole files: one map of blocks behind the door of a core.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use warren_keys::{Block, BlockId, BlockKind};
use warren_proto::core::api::{ClientCommand, ClientEvent, CoreInput, FetchFailure, InsertFailure};

use super::Client;
use crate::{
    inbox::Inbox,
    jobs::{JobFactory, Jobs},
};

/// Inputs that the core's queue takes, as in a node.
const CORE_INBOX: usize = 2048;

/// What the network does.
#[derive(Default)]
pub(crate) struct Ways {
    /// Gives only so many more blocks.
    pub(crate) spare: Option<usize>,
    /// Answers nothing.
    pub(crate) silent: bool,
    /// Answers that it could not be reached.
    pub(crate) unreachable: bool,
}

impl Ways {
    fn gives(&mut self) -> bool {
        let gives = self.spare != Some(0);
        self.spare = self.spare.map(|spare| spare.saturating_sub(1));
        gives
    }
}

/// The network, and a client of it.
#[derive(Clone)]
pub(crate) struct TestNet {
    pub(crate) client: Client,
    pub(crate) blocks: Arc<Mutex<BTreeMap<BlockId, Block>>>,
    pub(crate) ways: Arc<Mutex<Ways>>,
    pub(crate) jobs: Arc<Jobs>,
    core: Arc<Inbox<CoreInput>>,
    _folder: Arc<tempfile::TempDir>,
}

impl TestNet {
    /// Starts it on the present runtime.
    pub(crate) fn start() -> Self {
        let core = Arc::new(Inbox::new(CORE_INBOX));
        let jobs = Jobs::new(Arc::clone(&core), crate::memory::Memory::new(usize::MAX));
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let client = Client::new(JobFactory(Arc::clone(&jobs)), folder.path());
        let net = Self {
            client,
            blocks: Arc::default(),
            ways: Arc::default(),
            jobs,
            core,
            _folder: folder,
        };
        tokio::spawn(net.clone().run());
        net
    }

    /// Ends it as a node that shuts down does.
    pub(crate) fn stop(&self) {
        self.core.close();
        self.jobs.close();
    }

    async fn run(self) {
        let mut batch = Vec::new();
        while self.core.take(&mut batch).await.is_ok() {
            for input in batch.drain(..) {
                let CoreInput::Client(command) = input else {
                    panic!("only clients talk to this core")
                };
                if let Some(event) = self.answer(command) {
                    self.jobs.deliver(event);
                }
            }
        }
    }

    fn answer(&self, command: ClientCommand) -> Option<ClientEvent> {
        let mut ways = self.ways.lock().unwrap();
        if ways.silent {
            return None;
        }
        let mut blocks = self.blocks.lock().unwrap();
        match command {
            ClientCommand::Fetch { job, op, block, .. } => {
                let result = match blocks.get(&block) {
                    _ if ways.unreachable => Err(FetchFailure::Unreachable),
                    Some(found) if ways.gives() => Ok(found.clone()),
                    _ => Err(FetchFailure::NotFound),
                };
                Some(ClientEvent::Fetched { job, op, result })
            }
            ClientCommand::Insert { job, op, block, .. } => {
                let other = blocks.get(&block.id()).filter(|other| **other != block);
                let result = match other {
                    _ if ways.unreachable => Err(InsertFailure::Unreachable),
                    Some(other) if block.id().kind == BlockKind::Signed => {
                        Err(InsertFailure::Collision(other.clone()))
                    }
                    _ => Ok(5),
                };
                if result.is_ok() {
                    blocks.insert(block.id(), block);
                }
                Some(ClientEvent::Inserted { job, op, result })
            }
            ClientCommand::OpenJob { .. } | ClientCommand::SetBulk(_) | ClientCommand::CloseJob(_) => None,
        }
    }
}
