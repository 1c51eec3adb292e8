//! Settings that can be changed while a node runs: their form in the control interface, and how they become the node's.
//!
//! Invariant: what the node does, what is shown, and (where it was asked for) what the file says come from one checked [`Config`].

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};
use toml_edit::Value;

use crate::{
    config::{
        ByteLimit, ByteRate, Config,
        access::access,
        save::{Field, save},
    },
    node::{BandwidthLimits, NodeHandle, Settings},
};
use warren_proto::descriptor::Services;

/// The settings: `GET /v1/settings`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Document {
    /// Carry the circuits of others.
    pub relay: bool,
    /// Route requests for circuits that end here.
    pub exit: bool,
    /// Keep blocks for the network.
    pub store: bool,
    /// Bytes a second to other nodes.
    pub up: ByteRate,
    /// Bytes a second from other nodes.
    pub down: ByteRate,
    /// Bytes in a calendar month, both directions.
    pub monthly: ByteLimit,
    /// Most links at once.
    pub links: u16,
    /// With any entry, links only with who matches one.
    pub allow: Vec<String>,
    /// No link with who matches one.
    pub deny: Vec<String>,
}

/// What to change: `POST /v1/settings`. What is not named stays.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Change {
    /// See [`Document::relay`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relay: Option<bool>,
    /// See [`Document::exit`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit: Option<bool>,
    /// See [`Document::store`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<bool>,
    /// See [`Document::up`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub up: Option<ByteRate>,
    /// See [`Document::down`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub down: Option<ByteRate>,
    /// See [`Document::monthly`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub monthly: Option<ByteLimit>,
    /// See [`Document::links`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub links: Option<u16>,
    /// See [`Document::allow`]; the whole list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow: Option<Vec<String>>,
    /// See [`Document::deny`]; the whole list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deny: Option<Vec<String>>,
    /// Whether to write it to the configuration file too.
    pub save: bool,
}

impl Change {
    /// Puts the changes into a configuration; returns them as fields of its file.
    fn apply(&self, config: &mut Config) -> Vec<Field> {
        let mut fields = Vec::new();
        let mut set = |section, name, value: Option<Value>| {
            fields.extend(value.map(|value| (section, name, value)));
        };
        let services = &mut config.services;
        set("services", "relay", put(&mut services.relay, self.relay));
        set("services", "exit", put(&mut services.exit, self.exit));
        set("services", "store", put(&mut services.store, self.store));
        let limits = &mut config.limits;
        let text = |value: Option<String>| value.map(Value::from);
        limits.up = self.up.unwrap_or(limits.up);
        set("limits", "up", text(self.up.map(|rate| exact(rate.0, "/s"))));
        limits.down = self.down.unwrap_or(limits.down);
        set("limits", "down", text(self.down.map(|rate| exact(rate.0, "/s"))));
        limits.monthly = self.monthly.unwrap_or(limits.monthly);
        set(
            "limits",
            "monthly",
            text(self.monthly.map(|limit| exact(limit.0, ""))),
        );
        limits.links = self.links.unwrap_or(limits.links);
        set(
            "limits",
            "links",
            self.links.map(|links| Value::from(i64::from(links))),
        );
        let access = &mut config.access;
        for (name, present, wanted) in [
            ("allow", &mut access.allow, &self.allow),
            ("deny", &mut access.deny, &self.deny),
        ] {
            if let Some(wanted) = wanted {
                present.clone_from(wanted);
                set("access", name, Some(Value::from_iter(wanted)));
            }
        }
        fields
    }
}

fn put(present: &mut bool, wanted: Option<bool>) -> Option<Value> {
    *present = wanted.unwrap_or(*present);
    wanted.map(Value::from)
}

/// A limit for the file: round where that loses nothing.
fn exact(limit: Option<u64>, per: &str) -> String {
    let Some(bytes) = limit else {
        return "unlimited".to_owned();
    };
    let units = [
        ("TiB", 1_u64 << 40),
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("KiB", 1 << 10),
    ];
    match units.iter().find(|(_, unit)| bytes % unit == 0 && bytes > 0) {
        Some((name, unit)) => format!("{} {name}{per}", bytes / unit),
        None => format!("{bytes} B{per}"),
    }
}

/// The settings of one running node.
pub(crate) struct Live {
    config: Mutex<Config>,
    /// Where they are saved, if anywhere.
    file: Option<PathBuf>,
}

impl Live {
    /// As the configuration at `file` says.
    pub(crate) fn new(config: Config, file: Option<&Path>) -> Self {
        Self {
            config: Mutex::new(config),
            file: file.map(Path::to_owned),
        }
    }

    /// The settings now.
    pub(crate) fn show(&self) -> Document {
        let config = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        let (services, limits) = (&config.services, &config.limits);
        Document {
            relay: services.relay,
            exit: services.exit,
            store: services.store,
            up: limits.up,
            down: limits.down,
            monthly: limits.monthly,
            links: limits.links,
            allow: config.access.allow.clone(),
            deny: config.access.deny.clone(),
        }
    }

    /// Changes them for a node, and in the file where that is wanted. Blocking.
    ///
    /// # Errors
    /// What is wrong with the change, for its author.
    pub(crate) fn change(&self, node: &NodeHandle, change: &Change) -> Result<(), String> {
        let mut present = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        let mut config = present.clone();
        let fields = change.apply(&mut config);
        let wrong = |(field, problem)| format!("{field} {problem}");
        config.check().map_err(wrong)?;
        let settings = settings(&config).map_err(wrong)?;
        // Saved first: a change that should last and cannot is none.
        if change.save {
            let file = self.file.as_ref().ok_or("this node has no configuration file")?;
            save(file, &fields).map_err(|error| format!("nothing is changed: {error}"))?;
        }
        node.change(&settings);
        *present = config;
        Ok(())
    }
}

/// What a configuration means for a running node.
///
/// # Errors
/// The field, and what is wrong with it.
pub(crate) fn settings(config: &Config) -> Result<Settings, (&'static str, String)> {
    Ok(Settings {
        services: Services {
            relay: config.services.relay,
            exit: config.services.exit,
            store: config.services.store,
        },
        bandwidth: BandwidthLimits {
            up: config.limits.up.0,
            down: config.limits.down.0,
            monthly: config.limits.monthly.0,
        },
        links: usize::from(config.limits.links),
        access: access(&config.access.allow, &config.access.deny)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_of_what_it_names() {
        let change: Change =
            serde_json::from_str("{\"relay\": false, \"up\": \"500 KiB/s\", \"monthly\": 5}").unwrap();
        let mut config = Config::default();
        let fields = change.apply(&mut config);
        let names: Vec<_> = fields
            .iter()
            .map(|(section, name, _)| (*section, *name))
            .collect();
        assert_eq!(
            names,
            [("services", "relay"), ("limits", "up"), ("limits", "monthly")]
        );
        assert!(!config.services.relay && config.services.exit);
        assert_eq!(config.limits.up.0, Some(500 << 10));
        assert!(config.check().is_err(), "five bytes a month");
        assert!(serde_json::from_str::<Change>("{\"rely\": false}").is_err());
    }

    #[test]
    fn limits_are_saved_to_the_byte() {
        for (limit, text) in [
            (Some(500 << 10), "500 KiB/s"),
            (Some(2 << 30), "2 GiB/s"),
            (Some(100_001), "100001 B/s"),
            (None, "unlimited"),
        ] {
            assert_eq!(exact(limit, "/s"), text);
            assert_eq!(ByteRate::parse(text).unwrap().0, limit);
        }
    }
}
