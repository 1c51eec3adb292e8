//! The configuration file.

use warren_node::config::{ByteSize, Config, EXAMPLE};
use warren_proto::{descriptor::NodeReference, network::Network};

use crate::{Input, Seed};

/// The first byte chooses between a whole file, a size, and lines that replace those of the example.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.u8() % 3 {
        0 => parse(&input.text()),
        1 => size(&input.text()),
        _ => {
            let line = input.below(EXAMPLE.lines().count());
            let text = input.text();
            let lines: Vec<&str> = EXAMPLE
                .lines()
                .enumerate()
                .map(|(n, old)| if n == line { &text } else { old })
                .collect();
            parse(&lines.join("\n"));
        }
    }
}

fn parse(text: &str) {
    match Config::parse(text, "warren.toml") {
        Ok(config) => {
            assert!(
                config.node.network.parse::<Network>().is_ok(),
                "a network that no node can join"
            );
            assert!(
                config
                    .node
                    .seeds
                    .iter()
                    .all(|seed| seed.parse::<NodeReference>().is_ok()),
                "a malformed reference"
            );
            assert!(config.circuits.hops <= 5);
            assert!(config.control.listen.ip().is_loopback());
            assert!(config.proxy.listen.ip().is_loopback() || config.proxy.allow_remote);
        }
        Err(error) => assert!(
            error.to_string().starts_with("warren.toml: "),
            "an error that does not say where: {error}"
        ),
    }
}

fn size(text: &str) {
    match ByteSize::parse(text) {
        Ok(size) => {
            // What is printed is rounded down to tenths of its unit.
            let again = ByteSize::parse(&size.to_string()).expect("what is printed can be read");
            assert!(again <= size && size.0 - again.0 <= size.0 / 10);
        }
        Err(message) => assert!(!message.is_empty()),
    }
}

/// The example, its sections with values, sizes.
#[must_use]
pub fn seeds() -> Vec<Seed> {
    let files = [
        EXAMPLE,
        "",
        "[node]\nnetwork = \"main\"\nlisten = [\"0.0.0.0:7420\", \"[::]:7420\"]\nadvertise = [\"192.0.2.1:7420\"]\nallow_private = true\n",
        "[store]\nsize = \"20 GiB\"\ncache = 17000000\n[circuits]\nhops = 6\n",
        "[proxy]\nlisten = \"192.0.2.1:8888\"\nallow_remote = true\nhosts = [\"warren.example\"]\n[control]\nlisten = \"127.0.0.1:0\"\n",
        "[services]\nrelay = false\nunknown = 1\n",
        "[limits]\nlinks = 3\nmemory = \"1 GiB\"\n",
        "[node]\nseeds = [\"warren-node:\"]\n",
    ];
    let sizes = [
        "10 GiB",
        "1.5 TiB",
        "17 MB",
        "0",
        "18446744073709551615",
        "1.2345 kB",
        "-1",
        "99999999 TiB",
    ];
    let files = files.iter().map(|text| [&[0][..], text.as_bytes()].concat());
    let sizes = sizes.iter().map(|text| [&[1][..], text.as_bytes()].concat());
    let lines = (0..8).map(|line| [&[2, line * 7][..], b"listen = [\"127.0.0.1:1\"]"].concat());
    crate::seed::numbered("file", files)
        .chain(crate::seed::numbered("size", sizes))
        .chain(crate::seed::numbered("line", lines))
        .collect()
}
