//! `warren set`: settings of the running node.

use std::{fmt::Write, path::Path};

use super::{Failure, args::SetArgs, terminal::Terminal};
use crate::{
    config::{ByteLimit, ByteRate},
    control::ControlClient,
    settings::{Change, Document},
};

/// Shows or changes the settings of the running node.
///
/// # Errors
/// When none is running, or the setting or its value does not exist.
pub(super) async fn set(terminal: Terminal, data_dir: &Path, args: SetArgs) -> Result<(), Failure> {
    // Understood before a node is looked for: a mistake in the command is the command's.
    let wanted = args.name.as_deref().map(|name| parse(name, &args)).transpose()?;
    let node = ControlClient::find(data_dir)?;
    let Some(wanted) = wanted else {
        let settings = node.get("/v1/settings").await?;
        terminal.result(&settings, &table(&settings));
        return Ok(());
    };
    let mut change = wanted.change;
    if let Some(list) = wanted.list {
        let present: Document = node.get("/v1/settings").await?;
        list.apply(present, &mut change)?;
    }
    let settings = node.change(&change).await?;
    let lasting = if change.save {
        "It holds from now on, and is written to the configuration."
    } else {
        "It holds from now on until the node ends; --save writes it to the configuration too."
    };
    terminal.result(&settings, &format!("{}\n{lasting}", table(&settings)));
    Ok(())
}

fn table(settings: &Document) -> String {
    let switch = |on| if on { "on" } else { "off" }.to_owned();
    let rows = [
        ("relay", switch(settings.relay)),
        ("exit", switch(settings.exit)),
        ("store", switch(settings.store)),
        ("up", settings.up.to_string()),
        ("down", settings.down.to_string()),
        ("monthly", settings.monthly.to_string()),
        ("links", settings.links.to_string()),
        ("allow", list(&settings.allow, "everybody")),
        ("deny", list(&settings.deny, "nobody")),
    ];
    let mut text = String::new();
    for (name, value) in rows {
        // Writing to a String does not fail.
        let _ = writeln!(text, "{name:>8}  {value}");
    }
    text.truncate(text.trim_end().len());
    text
}

fn list(items: &[String], none: &str) -> String {
    if items.is_empty() {
        none.to_owned()
    } else {
        items.join(", ")
    }
}

/// What a command wants.
#[derive(Debug)]
struct Wanted {
    change: Change,
    list: Option<ListChange>,
}

/// A change of a list, which depends on what is in it.
#[derive(Debug)]
struct ListChange {
    deny: bool,
    values: Vec<String>,
    remove: bool,
}

impl ListChange {
    fn apply(self, present: Document, change: &mut Change) -> Result<(), Failure> {
        let mut list = if self.deny { present.deny } else { present.allow };
        for value in self.values {
            let place = list.iter().position(|item| *item == value);
            match (place, self.remove) {
                (Some(place), true) => drop(list.remove(place)),
                (None, true) => return Err(Failure::usage(format!("{value:?} is not in the list"))),
                (None, false) => list.push(value),
                (Some(_), false) => {}
            }
        }
        *(if self.deny {
            &mut change.deny
        } else {
            &mut change.allow
        }) = Some(list);
        Ok(())
    }
}

fn parse(name: &str, args: &SetArgs) -> Result<Wanted, Failure> {
    let value = args.values.join(" ");
    if value.is_empty() {
        return Err(Failure::usage(format!(
            "{name}: to what? `warren set` shows the present settings"
        )));
    }
    let switch = || match value.as_str() {
        "on" | "true" | "yes" => Ok(Some(true)),
        "off" | "false" | "no" => Ok(Some(false)),
        other => Err(Failure::usage(format!("{name} is on or off, not {other:?}"))),
    };
    let rate = || ByteRate::parse(&value).map(Some).map_err(Failure::usage);
    let mut change = Change {
        save: args.save,
        ..Change::default()
    };
    let is_list = matches!(name, "allow" | "deny");
    if args.remove && !is_list {
        return Err(Failure::usage(format!(
            "{name} is no list to remove something from"
        )));
    }
    let list = is_list.then(|| ListChange {
        deny: name == "deny",
        values: args.values.clone(),
        remove: args.remove,
    });
    match name {
        "allow" | "deny" => {}
        "relay" => change.relay = switch()?,
        "exit" => change.exit = switch()?,
        "store" => change.store = switch()?,
        "up" => change.up = rate()?,
        "down" => change.down = rate()?,
        "monthly" => change.monthly = ByteLimit::parse(&value).map(Some).map_err(Failure::usage)?,
        "links" => {
            let links = value.parse();
            change.links =
                Some(links.map_err(|_| Failure::usage(format!("{value:?} is not a number of links")))?);
        }
        other => {
            return Err(Failure::usage(format!(
                "there is no setting {other:?} that can be changed in a running node; `warren set --help` lists them, and the others are in \
                 warren.toml"
            )));
        }
    }
    Ok(Wanted { change, list })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::{
        super::args::{Cli, Command},
        *,
    };

    fn wanted(words: &str) -> Result<Wanted, String> {
        let cli = Cli::parse_from(["warren", "set"].into_iter().chain(words.split(' ')));
        let Command::Set(args) = cli.command else {
            panic!("not set")
        };
        parse(args.name.as_deref().unwrap(), &args).map_err(|failure| failure.message)
    }

    fn change(words: &str) -> Result<Change, String> {
        wanted(words).map(|wanted| wanted.change)
    }

    #[test]
    fn lists_grow_and_shrink() {
        let present = || Document {
            relay: true,
            exit: true,
            store: true,
            up: ByteRate(None),
            down: ByteRate(None),
            monthly: ByteLimit(None),
            links: 9,
            allow: Vec::new(),
            deny: vec!["10.0.0.0/8".to_owned()],
        };
        let apply = |words: &str| {
            let Wanted { mut change, list } = wanted(words).unwrap();
            list.unwrap().apply(present(), &mut change).map(|()| change)
        };
        let more = apply("deny ::1 10.0.0.0/8").unwrap();
        assert_eq!(more.deny.unwrap(), ["10.0.0.0/8", "::1"]);
        assert_eq!(apply("deny 10.0.0.0/8 --remove").unwrap().deny.unwrap(), [""; 0]);
        let allow = apply("allow ::1").unwrap();
        assert_eq!((allow.allow.unwrap(), allow.deny), (vec!["::1".to_owned()], None));
        assert!(apply("deny ::1 --remove").unwrap_err().message.contains("::1"));
    }

    #[test]
    fn settings_are_written_as_people_do() {
        assert_eq!(change("relay off").unwrap().relay, Some(false));
        let up = change("up 500 KiB/s --save").unwrap();
        assert_eq!((up.up, up.save), (Some(ByteRate(Some(500 << 10))), true));
        assert_eq!(
            change("monthly unlimited").unwrap().monthly,
            Some(ByteLimit(None))
        );
        assert_eq!(change("links 40").unwrap().links, Some(40));
    }

    #[test]
    fn mistakes_say_what_would_be_right() {
        for (words, right) in [
            ("relay perhaps", "on or off"),
            ("up fast", "500 KiB/s"),
            ("relay on --remove", "no list"),
            ("links many", "number of links"),
            ("hops 3", "warren set --help"),
            ("relay", "to what"),
        ] {
            let message = change(words).unwrap_err();
            assert!(message.contains(right), "{words}: {message}");
        }
    }
}
