//! The simulator itself: every experiment runs, its figures make sense, and the same seed gives the same run.

use warren_tests::sim::{report::Report, run::perform, scenario::Scenario};

fn simulate(text: &str) -> Report {
    let scenario = Scenario::parse(text).unwrap();
    perform("test", &scenario, |at| format!("byte {at}")).unwrap()
}

/// A small network with this seed and these sections.
fn network(nodes: usize, seed: u64, sections: &str) -> Report {
    simulate(&format!(
        "about = 'a test'\nseed = {seed}\nnodes = {nodes}\n{sections}"
    ))
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let line = "network = { jitter_ms = 20, loss = 0.01, upload_kib = 500 }\n";
    for experiment in [
        "lookup = { blocks = 20, dead = 0.2 }",
        "missing = { searches = 10 }",
        "hot = { asks = 50 }",
        "hostile = { blocks = 5, inserts = 2, fault = { dead = 0.1, byzantine = 0.1, swallow = 'path' } }",
        "file = { megabytes = 1, files = 1, fault = { byzantine = 0.1, swallow = 'never' } }",
        "sybil = { identities = 4, keys = 1, searches = 2 }",
        "churn = { days = 2, blocks = 20, online_h = 8, offline_h = 8, gone_per_week = 0.1, fetches_per_hour = 1 }",
        "crowd = { within_s = 3.0, settle_s = 10 }",
        "joined = { seeds = 2, rate = 20.0, settle_s = 10, blocks = 5 }",
        "anonymity = { fractions = [0.1], hops = [0, 3], circuits = 3, clients = 2, draws = 3 }",
        "latency = { droppers = 0.1, clients = 2, pages = 2, blocks = 2 }",
    ] {
        let sections = format!("{line}{experiment}\n");
        let one = network(60, 1, &sections);
        let again = network(60, 1, &sections);
        let other = network(60, 2, &sections);
        assert_eq!(
            (&one.trace, &one.figures),
            (&again.trace, &again.figures),
            "{experiment}"
        );
        assert_ne!(one.trace, other.trace, "{experiment}");
    }
}

#[test]
fn honest_networks_find_what_is_there_in_few_hops() {
    let report = network(500, 1, "lookup = { blocks = 200 }\n");
    assert!(report.figures["success"] >= 1.0, "{report}");
    assert!((1.0..3.0).contains(&report.figures["hops, mean"]), "{report}");
    let report = network(500, 1, "missing = { searches = 50 }\n");
    assert!(report.figures["messages both ways, mean"] < 32.0, "{report}");
}

#[test]
fn hostile_nodes_cost_something_and_further_exits_make_up_for_it() {
    let fault = "{ dead = 0.2, byzantine = 0.1, swallow = 'sink' }";
    let report = network(
        500,
        1,
        &format!("hostile = {{ blocks = 60, inserts = 2, fault = {fault} }}\n"),
    );
    let (first, third) = (
        report.figures["found by one exit"],
        report.figures["found by up to three exits"],
    );
    assert!(first > 0.7 && third >= first && third > 0.9, "{report}");
    let report = network(
        500,
        1,
        &format!("file = {{ megabytes = 8, files = 1, fault = {fault} }}\n"),
    );
    assert!(report.figures["whole"] >= 1.0, "{report}");
    assert!(
        report.figures["content blocks found by one exit"] < 1.0,
        "{report}"
    );
}

#[test]
fn ground_identities_can_nearly_hide_one_block_and_not_a_root() {
    let report = network(300, 1, "sybil = { identities = 16, keys = 1, searches = 5 }\n");
    // Inserts aim beside the key, so some get past.
    let block = "block found, before the insert, 3 branches, 1 exits";
    assert!(report.figures[block] <= 0.2, "{report}");
    let root = "root found at one of 3 places, before the insert, 8 branches, 3 exits";
    assert!(report.figures[root] >= 1.0, "{report}");
}

#[test]
fn nodes_that_know_a_seed_become_full_members_and_find_each_others_blocks() {
    let report = network(60, 1, "crowd = { within_s = 10.0, settle_s = 60 }\n");
    assert!(report.figures["full members, share"] >= 1.0, "{report}");
    assert!(report.figures["near links right, share"] >= 1.0, "{report}");
    let joined = "joined = { seeds = 2, rate = 10.0, settle_s = 40, blocks = 30 }\n";
    let report = network(60, 1, joined);
    assert!(report.figures["success"] >= 1.0, "{report}");
    assert!((0.1..2.0).contains(&report.figures["hops, mean"]), "{report}");
}

#[test]
fn repair_keeps_blocks_while_nodes_come_and_go() {
    let life = "online_h = 8, offline_h = 8, gone_per_week = 0.1";
    let churn = format!("churn = {{ days = 4, blocks = 60, {life}, fetches_per_hour = 1 }}\n");
    let report = network(60, 1, &churn);
    assert!(report.figures["online at a holder"] > 0.85, "{report}");
    assert!(
        report.figures["online at a holder within 24 h"] > 0.95,
        "{report}"
    );
    assert!(
        (3.0..9.0).contains(&report.figures["copies of a block, mean"]),
        "{report}"
    );
}

#[test]
fn pinned_entries_bound_what_an_adversary_learns() {
    let report = network(
        200,
        1,
        "anonymity = { fractions = [0.1], hops = [3], circuits = 40, clients = 10, draws = 100 }\n",
    );
    let pinned = report.figures["f 0.10, 3 hops, pinned entry, 40 circuits, entry and any"];
    let fresh = report.figures["f 0.10, 3 hops, fresh entries, 40 circuits, both ends"];
    assert!(pinned < 0.15 && fresh > 0.25, "{report}");
    assert!(
        report.figures["largest difference from a closed form"] < 0.06,
        "{report}"
    );
}

#[test]
fn a_target_is_judged_and_must_name_a_figure() {
    let target = |name: &str, bound: &str| {
        format!("hot = {{ asks = 5 }}\n[[targets]]\nname = 't'\nfigure = '{name}'\n{bound}\n")
    };
    assert!(network(20, 1, &target("success", "at_least = 1.0")).met());
    assert!(!network(20, 1, &target("success", "at_most = 0.5")).met());
    let text = format!(
        "about = 'x'\nseed = 1\nnodes = 20\n{}",
        target("sucess", "at_most = 1.0")
    );
    let error = perform("test", &Scenario::parse(&text).unwrap(), |at| {
        format!("byte {at}")
    })
    .unwrap_err();
    assert!(error.to_string().contains("sucess"), "{error}");
}
