//! The log policy, held against what is really written at the most talkative level.

use std::{
    io,
    sync::{Arc, Mutex},
};

use tracing_subscriber::fmt::MakeWriter;
use warren_proto::core::api::ClientEvent;

use crate::helpers::{Network, block, soon};

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Captured {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// The ways in which 32 bytes get into a text by mistake.
fn spellings(key: &[u8; 32]) -> [String; 3] {
    let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    let list = format!("{key:?}");
    let list = list.trim_matches(['[', ']']).to_owned();
    [
        warren_keys::base64::encode(key)[..12].to_owned(),
        hex[..12].to_owned(),
        list[..24].to_owned(),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_a_request_is_logged_at_any_level() {
    let captured = Captured::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(captured.clone())
        .finish();
    // For the whole process: the nodes' tasks run on several threads.
    tracing::subscriber::set_global_default(subscriber).unwrap();

    let network = Network::linked(4).await;
    let wanted = block(200);
    let mut job = network.nodes[0].jobs().open(false).await.unwrap();
    job.insert(job.next_op(), wanted.clone(), 1, false).await.unwrap();
    let mut events = Vec::new();
    soon("an insert", job.events(&mut events)).await.unwrap();
    job.fetch(job.next_op(), wanted.id(), false, std::time::Duration::ZERO)
        .await
        .unwrap();
    soon("a fetch", job.events(&mut events)).await.unwrap();
    assert!(matches!(
        events[..],
        [
            ClientEvent::Inserted { .. },
            ClientEvent::Fetched { result: Ok(_), .. }
        ]
    ));
    drop(job);
    network.shutdown().await;

    let text = String::from_utf8_lossy(&captured.0.lock().unwrap()).to_lowercase();
    assert!(text.contains("link"), "nothing was captured");
    for spelling in spellings(wanted.key().as_bytes()) {
        assert!(
            !text.contains(&spelling.to_lowercase()),
            "a routing key is in the log"
        );
    }
    for word in ["chk@", "ssk@", "ksk@", "usk@"] {
        assert!(!text.contains(word), "{word} is in the log");
    }
}
