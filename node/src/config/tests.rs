use super::*;

fn error(text: &str) -> String {
    Config::parse(text, "warren.toml").unwrap_err().to_string()
}

#[test]
fn the_example_as_shipped_is_the_default() {
    assert_eq!(Config::parse(EXAMPLE, "example").unwrap(), Config::default());
}

#[test]
fn every_line_of_the_example_states_its_default() {
    let uncommented: String = EXAMPLE
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if !rest.starts_with(' ') => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let fields = uncommented
        .lines()
        .filter(|line| line.contains(" = ") && !line.starts_with('#'))
        .count();
    assert_eq!(
        fields, 27,
        "the example and the structure have the same number of fields"
    );
    assert_eq!(Config::parse(&uncommented, "example").unwrap(), Config::default());
}

#[test]
fn an_empty_file_is_the_default() {
    assert_eq!(Config::parse("", "empty").unwrap(), Config::default());
}

#[test]
fn an_unknown_field_is_named_with_its_line() {
    let message = error("[node]\nnetwork = \"x\"\nseed = []\n");
    assert!(
        message.contains("line 3") && message.contains("seed"),
        "{message}"
    );
    let message = error("[nodes]\n");
    assert!(
        message.contains("line 1") && message.contains("nodes"),
        "{message}"
    );
}

#[test]
fn a_wrong_type_is_named_with_its_line() {
    let message = error("[circuits]\nhops = \"three\"\n");
    assert!(message.contains("line 2"), "{message}");
    let message = error("[limits]\nlinks = 20\nup = \"fast\"\n");
    assert!(
        message.contains("line 3") && message.contains("500 KiB/s"),
        "{message}"
    );
    let message = error("[store]\nsize = \"ten gigs\"\n");
    assert!(
        message.contains("line 2") && message.contains("10 GiB"),
        "{message}"
    );
}

#[test]
fn impossible_values_say_what_would_be_right() {
    for (text, field) in [
        ("[circuits]\nhops = 6", "circuits.hops"),
        ("[store]\nsize = 5", "store.size"),
        ("[store]\ncache = \"1 MiB\"", "store.cache"),
        ("[node]\nnetwork = \"\"", "node.network"),
        ("[node]\nnetwork = \"My network\"", "node.network"),
        ("[node]\nseeds = [\"warren-node:\"]", "node.seeds"),
        ("[node]\nadvertise = [\"0.0.0.0:7420\"]", "node.advertise"),
        ("[node]\ndial_from = [\"0.0.0.0\"]", "node.dial_from"),
        (
            "[node]\ndial_from = [\"192.0.2.1\", \"192.0.2.2\"]",
            "node.dial_from",
        ),
        ("[limits]\nlinks = 3", "limits.links"),
        ("[limits]\nup = \"1 KiB/s\"", "limits.up"),
        ("[limits]\ndown = \"9999 TiB/s\"", "limits.down"),
        ("[limits]\nmonthly = \"1 MiB\"", "limits.monthly"),
        ("[access]\ndeny = [\"10.0.0.1/8\"]", "access.deny"),
        ("[limits]\nmemory = \"1 MiB\"", "limits.memory"),
        ("[proxy]\nlisten = \"0.0.0.0:8888\"", "proxy.allow_remote"),
        ("[control]\nlisten = \"192.168.0.4:1\"", "control.listen"),
    ] {
        let message = error(text);
        assert!(message.contains(field), "{message}");
    }
}

#[test]
fn a_proxy_for_others_needs_the_explicit_word() {
    assert!(Config::parse("[proxy]\nlisten = \"0.0.0.0:8888\"\nallow_remote = true", "x").is_ok());
}
