//! Network namespaces: each node has a machine's own network, and what is between them is two bridges, which carry packets to the nodes
//! of one side only.
//!
//! What a proxy between sockets cannot do happens here: packets vanish, connecting goes unanswered, and TCP repeats itself ever more slowly.
//! Nothing of it is seen outside of the namespaces, and it needs the rights of root.

use std::{
    net::IpAddr,
    path::PathBuf,
    process::{self, Command, Stdio},
};

/// Namespaces of `ip netns` are files here.
const FOLDER: &str = "/run/netns";

/// The bridges; nodes begin at the first.
const BRIDGES: [&str; 2] = ["one", "two"];

/// Namespaces that are gone when this goes out of scope.
pub struct Spaces {
    names: Vec<String>,
    hub: String,
}

/// Runs `ip`; whether it went well.
fn ip(words: &str) -> bool {
    let mut command = Command::new("ip");
    command.args(words.split(' ')).stdin(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Runs `ip`.
///
/// # Panics
/// When it does not go well.
fn must(words: &str) {
    assert!(ip(words), "ip {words}");
}

impl Spaces {
    /// Makes one for each of `count` nodes, and the bridges. `None` without the rights to.
    ///
    /// # Panics
    /// When root cannot make them either.
    pub fn make(count: usize) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        // Interfaces have names of 15 bytes at most, and these are inside of the namespaces; the namespaces' own are the machine's.
        let name = |what: &str| format!("warren-{}-{what}", process::id());
        let hub = name("hub");
        let mut spaces = Self {
            names: Vec::new(),
            hub: hub.clone(),
        };
        must(&format!("netns add {hub}"));
        for bridge in BRIDGES {
            must(&format!("-n {hub} link add {bridge} type bridge"));
            must(&format!("-n {hub} link set {bridge} up"));
        }
        for number in 0..count {
            let (name, address) = (name(&number.to_string()), spaces.address(number));
            must(&format!("netns add {name}"));
            spaces.names.push(name.clone());
            must(&format!(
                "-n {hub} link add node{number} type veth peer name eth0 netns {name}"
            ));
            must(&format!("-n {name} addr add {address}/16 dev eth0"));
            must(&format!("-n {name} link set lo up"));
            must(&format!("-n {name} link set eth0 up"));
            must(&format!("-n {hub} link set node{number} master {}", BRIDGES[0]));
            must(&format!("-n {hub} link set node{number} up"));
        }
        Some(spaces)
    }

    /// A node's address.
    ///
    /// # Panics
    /// When the number is out of range.
    pub fn address(&self, number: usize) -> IpAddr {
        IpAddr::from([10, 77, 0, u8::try_from(number + 1).unwrap()])
    }

    /// The file of a node's namespace.
    pub fn file(&self, number: usize) -> PathBuf {
        PathBuf::from(FOLDER).join(&self.names[number])
    }

    /// Moves a node to the second bridge, or back to the first.
    ///
    /// # Panics
    /// When it cannot be.
    pub fn set_apart(&self, number: usize, apart: bool) {
        let bridge = BRIDGES[usize::from(apart)];
        must(&format!("-n {} link set node{number} master {bridge}", self.hub));
    }
}

impl Drop for Spaces {
    fn drop(&mut self) {
        for name in self.names.iter().chain([&self.hub]) {
            // The interfaces go with them.
            ip(&format!("netns del {name}"));
        }
    }
}
