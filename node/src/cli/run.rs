//! `warren run`: the node until it is told to stop.

use std::{
    io::IsTerminal,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;
use warren_proto::descriptor::{NodeReference, Services};

use super::{Failure, args::RunArgs, setup, terminal::Terminal};
use crate::{
    client::Client,
    config::{CONFIG_FILE, Config, access, seeds},
    control::Control,
    node::{BandwidthLimits, Node, NodeConfig, NodeHandle},
    overview::Overview,
    proxy,
};

/// Sends log lines to standard error.
///
/// # Errors
/// A filter that cannot be read.
pub(super) fn start_log(filter: &str) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(filter)
        .map_err(|error| Failure::usage(format!("{filter:?} is not a log filter: {error}")))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init()
        .map_err(Failure::new)
}

/// What the configuration means for the node in `data_dir`.
///
/// # Errors
/// A seed that is not a node reference.
pub(super) fn node_config(config: &Config, data_dir: PathBuf) -> Result<NodeConfig, Failure> {
    let mut seeds = config
        .node
        .seeds
        .iter()
        .map(|text| reference(text))
        .collect::<Result<Vec<_>, _>>()?;
    if !config.node.seeds_file.as_os_str().is_empty() {
        let path = data_dir.join(&config.node.seeds_file);
        seeds.extend(seeds::read(&path).map_err(Failure::usage)?);
    }
    let bounded = |size: u64| usize::try_from(size).unwrap_or(usize::MAX);
    Ok(NodeConfig {
        network: config.node.network.clone(),
        listen: config.node.listen.clone(),
        advertise: config.node.advertise.clone(),
        dial_from: config.node.dial_from.clone(),
        seeds,
        services: Services {
            relay: config.services.relay,
            exit: config.services.exit,
            store: config.services.store,
        },
        links: usize::from(config.limits.links),
        memory: bounded(config.limits.memory.0),
        bandwidth: BandwidthLimits {
            up: config.limits.up.0,
            down: config.limits.down.0,
            monthly: config.limits.monthly.0,
        },
        access: access::access(&config.access.allow, &config.access.deny)
            .map_err(|(field, problem)| Failure::usage(format!("{field} {problem}")))?,
        port_mapping: config.node.port_mapping,
        hops: usize::from(config.circuits.hops),
        store_size: config.store.size.0,
        cache_size: config.store.cache.0,
        sparse: !config.store.reserve,
        allow_private: config.node.allow_private,
        ..NodeConfig::new(data_dir)
    })
}

fn reference(text: &str) -> Result<NodeReference, Failure> {
    text.parse()
        .map_err(|error| Failure::usage(format!("{text:?} is not a node reference: {error}")))
}

/// Runs the node of `data_dir` until Ctrl-C or SIGTERM.
///
/// # Errors
/// Whatever keeps it from starting.
pub(super) async fn run(terminal: Terminal, data_dir: PathBuf, args: RunArgs) -> Result<(), Failure> {
    start_log(&args.log)?;
    let path = data_dir.join(CONFIG_FILE);
    if !path.exists() {
        return Err(Failure::usage(format!(
            "no node is set up in {}; `warren init` does that",
            data_dir.display()
        )));
    }
    let config = Config::load(&path).map_err(Failure::new)?;
    let mut node_config = node_config(&config, data_dir.clone())?;
    for seed in &args.seeds {
        node_config.seeds.push(reference(seed)?);
    }
    for path in &args.seed_files {
        node_config
            .seeds
            .extend(seeds::read(path).map_err(Failure::usage)?);
    }
    node_config.passphrase = setup::passphrase_for(terminal, &data_dir)?;
    if config.circuits.hops < 2 {
        tracing::warn!(
            hops = config.circuits.hops,
            "circuits this short do not hide what this node's user does"
        );
    }
    // Before anything else can take time: a signal during start-up ends the start cleanly too.
    let stop = stop_signal()?;
    let node = Node::start(node_config).await.map_err(Failure::new)?;
    let node = Arc::new(node);
    let client = Client::new(node.jobs(), data_dir.clone()).with_neighbours(node.neighbours());
    let overview =
        Overview::new(Arc::clone(&node), config.node.network.clone()).with_config(&path, config.clone());

    let control = Control::bind(config.control.listen, data_dir.clone())
        .await
        .map_err(|error| Failure::io("the control interface", &error))?;
    let refusals = overview.refusals();
    let control = tokio::spawn(control.serve(client.clone(), overview.clone(), refusals, stop.clone()));
    let proxy = if config.proxy.enabled {
        Some(
            serve_proxy(
                config.proxy.listen,
                &config.proxy.hosts,
                &client,
                &overview,
                &stop,
            )
            .await?,
        )
    } else {
        None
    };

    let reference = node.references().first().map(ToString::to_string);
    announce(
        terminal,
        reference.as_deref(),
        proxy.as_ref().map(|(address, _)| *address),
        &data_dir,
    );
    sd_notify::notify(&[sd_notify::NotifyState::Ready]).ok();
    stop.cancelled().await;
    sd_notify::notify(&[sd_notify::NotifyState::Stopping]).ok();
    tracing::info!("stopping; after a large insert the datastore may take some seconds to reach the disk");
    if let Some((_, proxy)) = proxy {
        proxy.await.ok();
    }
    control.await.ok();
    drop((client, overview));
    shutdown(node).await
}

/// Ends a node once nobody else holds it.
///
/// # Errors
/// What could not be saved.
pub(super) async fn shutdown(node: Arc<NodeHandle>) -> Result<(), Failure> {
    match Arc::into_inner(node) {
        Some(node) => node.shutdown().await.map_err(Failure::new),
        // A transfer that is being cut off still holds it: dropping the last share ends the node as a kill would, which loses nothing.
        None => Ok(()),
    }
}

/// A proxy that is being served.
pub(super) type Served = tokio::task::JoinHandle<std::io::Result<()>>;

/// Serves the proxy of a node until `stop`.
///
/// # Errors
/// When the address is taken.
pub(super) async fn serve_proxy(
    address: SocketAddr,
    hosts: &[String],
    client: &Client,
    overview: &Overview,
    stop: &CancellationToken,
) -> Result<(SocketAddr, Served), Failure> {
    let listener = TcpListener::bind(address)
        .await
        .map_err(|error| Failure::io(format!("the proxy cannot listen on {address}"), &error))?;
    let bound = listener
        .local_addr()
        .map_err(|error| Failure::io("the proxy", &error))?;
    let mut token_seed = [0; 32];
    getrandom::fill(&mut token_seed).map_err(Failure::new)?;
    let settings = proxy::Settings {
        hosts: hosts.to_vec(),
        refusals: overview.refusals(),
        ..proxy::Settings::default()
    };
    let overview = overview.clone();
    let status = move || {
        let overview = overview.clone();
        async move { overview.page().await }
    };
    let proxy = proxy::Proxy::new(client.clone(), status, settings, &token_seed);
    let served = tokio::spawn(proxy::serve(listener, proxy, stop.clone()));
    Ok((bound, served))
}

fn announce(terminal: Terminal, reference: Option<&str>, proxy: Option<SocketAddr>, data_dir: &Path) {
    let proxy = proxy.map(|address| format!("http://{address}/"));
    let value = serde_json::json!({
        "ready": { "reference": reference, "proxy": proxy, "data_dir": data_dir.display().to_string() }
    });
    let mut text = String::from("The node is running.");
    if let Some(reference) = reference {
        text.push_str(&format!("\nIts reference, for others: {reference}"));
    }
    if let Some(url) = proxy {
        text.push_str(&format!("\nIts web page and proxy:    {url}"));
    }
    text.push_str("\nCtrl-C stops it.");
    terminal.result(&value, &text);
}

/// Cancelled at the first Ctrl-C or SIGTERM. A second one ends the process at once.
///
/// # Errors
/// When signals cannot be caught.
pub(super) fn stop_signal() -> Result<CancellationToken, Failure> {
    let catch = |kind| signal(kind).map_err(|error| Failure::io("signals", &error));
    let mut interrupt = catch(SignalKind::interrupt())?;
    let mut terminate = catch(SignalKind::terminate())?;
    let stop = CancellationToken::new();
    let token = stop.clone();
    tokio::spawn(async move {
        let mut first = true;
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if !std::mem::take(&mut first) {
                std::process::exit(130);
            }
            token.cancel();
        }
    });
    Ok(stop)
}
