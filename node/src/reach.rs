//! Whether others can reach a node, in words for its owner: where, or why not and what to do about it.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use warren_proto::topology::Reachability;

use crate::node::{Mapping, NodeStatus};

/// Whether others can dial a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Somebody has, within the last hour.
    Reachable,
    /// Some tried, and could not.
    Unreachable,
    /// Nobody has tried yet.
    Unknown,
    /// A state that this version of the program does not know.
    #[serde(other)]
    Other,
}

/// How others reach a node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Reach {
    /// In a word.
    pub state: State,
    /// In a sentence or two.
    pub text: String,
    /// The addresses that it publishes.
    pub addresses: Vec<String>,
    /// How port mapping stands.
    pub port_mapping: String,
}

impl Reach {
    /// Of a node.
    #[must_use]
    pub fn of(status: &NodeStatus) -> Self {
        let facts = Facts {
            reachability: status.core.reachability,
            listening: &status.listening,
            addresses: &status.addresses,
            announced: status.announced,
            mapping: &status.mapping,
        };
        facts.reach()
    }
}

struct Facts<'a> {
    reachability: Reachability,
    listening: &'a [SocketAddr],
    addresses: &'a [SocketAddr],
    announced: bool,
    mapping: &'a Mapping,
}

impl Facts<'_> {
    fn reach(&self) -> Reach {
        let (state, text) = self.words();
        Reach {
            state,
            text,
            addresses: self.addresses.iter().map(ToString::to_string).collect(),
            port_mapping: mapping(self.mapping),
        }
    }

    fn words(&self) -> (State, String) {
        let Some(port) = self.listening.first().map(SocketAddr::port) else {
            let text = "it listens nowhere, so others cannot dial it; it works over the links that it dials. An address under node.listen \
                        in warren.toml changes that";
            return (State::Unreachable, text.to_owned());
        };
        let list: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
        let list = list.join(", ");
        match self.reachability {
            Reachability::Reachable if list.is_empty() => (
                State::Reachable,
                "reachable, but it is not known yet under which address".to_owned(),
            ),
            Reachability::Reachable => (State::Reachable, format!("reachable at {list}{}", self.by())),
            Reachability::NotReachable => {
                let although = if self.announced {
                    format!(", although it is announced at {list}")
                } else {
                    String::new()
                };
                let text = format!(
                    "not reachable from outside{although}: others cannot dial it, and it works over the links that it dials. To change that, \
                     forward TCP port {port} on your router to this machine, and open it in the firewall; others try again every ten \
                     minutes. Port mapping: {}",
                    mapping(self.mapping)
                );
                (State::Unreachable, text)
            }
            Reachability::Unknown => {
                let says = if list.is_empty() {
                    String::new()
                } else {
                    format!("; it says that it is at {list}")
                };
                (
                    State::Unknown,
                    format!("not known yet: no other node has tried to dial it{says}"),
                )
            }
        }
    }

    fn by(&self) -> String {
        match self.mapping {
            Mapping::Open { protocol, .. } => format!(" (the router lets others in, by {protocol})"),
            Mapping::Off | Mapping::Asking | Mapping::Refused(_) => String::new(),
        }
    }
}

fn mapping(mapping: &Mapping) -> String {
    match mapping {
        Mapping::Off => "off, or of no use here".to_owned(),
        Mapping::Asking => "asking the router".to_owned(),
        Mapping::Refused(why) => format!("none ({why})"),
        Mapping::Open { outside, protocol } => {
            format!("port {} on the router, by {protocol}", outside.port())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(
        reachability: Reachability,
        addresses: &[&str],
        announced: bool,
        mapping: &Mapping,
    ) -> (State, String) {
        let addresses: Vec<SocketAddr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
        let facts = Facts {
            reachability,
            listening: &["0.0.0.0:7420".parse().unwrap()],
            addresses: &addresses,
            announced,
            mapping,
        };
        let Reach { state, text, .. } = facts.reach();
        (state, text)
    }

    #[test]
    fn each_case_has_its_words() {
        let here = &["1.2.3.4:9000"][..];
        let (state, text) = words(Reachability::Reachable, here, false, &Mapping::Off);
        assert_eq!(
            (state, text.as_str()),
            (State::Reachable, "reachable at 1.2.3.4:9000")
        );
        let open = Mapping::Open {
            outside: "1.2.3.4:9000".parse().unwrap(),
            protocol: "UPnP",
        };
        assert!(
            words(Reachability::Reachable, here, false, &open)
                .1
                .ends_with("by UPnP)")
        );
        assert!(
            words(Reachability::Unknown, here, false, &Mapping::Off)
                .1
                .contains("says that it is at 1.2.3.4")
        );

        let refused = Mapping::Refused("no default route".to_owned());
        let (state, text) = words(Reachability::NotReachable, &[], false, &refused);
        assert_eq!(state, State::Unreachable);
        for part in [
            "not reachable from outside",
            "cannot dial it",
            "forward TCP port 7420",
            "no default route",
        ] {
            assert!(text.contains(part), "{text}");
        }
        let (_, text) = words(Reachability::NotReachable, here, true, &refused);
        assert!(
            text.contains("although it is announced at 1.2.3.4:9000"),
            "{text}"
        );
        let nowhere = Facts {
            reachability: Reachability::Unknown,
            listening: &[],
            addresses: &[],
            announced: false,
            mapping: &Mapping::Off,
        };
        assert_eq!(nowhere.reach().state, State::Unreachable);
    }
}
