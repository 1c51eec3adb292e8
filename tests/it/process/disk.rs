//! What a node leaves on its disk says nothing of what passed through it, nor of what its own user did.

use std::{
    fs,
    path::{Path, PathBuf},
};

use warren_tests::process::{
    command,
    data::RandomFile,
    http,
    network::{NODES, Network},
    search::Needles,
    secrets,
};

use super::text;

const NETWORK: &str = "network-of-the-disk-test";

fn files(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            files(&entry.path(), into);
        } else {
            into.push(entry.path());
        }
    }
}

#[test]
fn nothing_that_was_sent_is_found_in_any_file_of_any_node() {
    let mut network = Network::start(NETWORK, NODES, |_, settings| {
        settings.store = "32 MiB";
        settings.log = "trace";
    });
    let mut needles = Needles::default();

    // Outside of the folder that is searched.
    let outside = tempfile::tempdir().unwrap();
    let random = RandomFile::new(21, 300_000).bytes();
    let name = "an-unmistakable-name.bin";
    let path = outside.path().join(name);
    fs::write(&path, &random).unwrap();
    let ended = network[1].home.run(&["put", path.to_str().unwrap()]).success();
    let chk = ended.json()["key"].as_str().unwrap().to_owned();
    secrets::add_file(&mut needles, &chk, &random, &[name]);
    secrets::add_blocks(&mut needles, &random);

    let words = "unmistakable-words";
    let ksk = format!("KSK@{words}");
    let mut put = network[2].home.warren(&["put", "-", "--key", &ksk]);
    command::run(&mut put, text().as_bytes()).success();
    secrets::add_file(&mut needles, &ksk, text().as_bytes(), &[words]);

    let pair = network[3].home.run(&["keygen"]).success().json();
    let (insert, request) = (
        pair["insert"].as_str().unwrap(),
        pair["request"].as_str().unwrap(),
    );
    let document = "unmistakable-document.html";
    let answer = http::request(
        network[3].proxy,
        "PUT",
        &format!("/{insert}{document}"),
        &[],
        &random[..20_000],
    );
    let answer = answer.unwrap();
    assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(&answer.body));
    needles.add("a private key", &insert[4..40]);
    let ssk = format!("{request}{document}");
    secrets::add_file(&mut needles, &ssk, &random[..20_000], &[document]);

    for (key, content) in [
        (&chk, random.as_slice()),
        (&ksk, text().as_bytes()),
        (&ssk, &random[..20_000]),
    ] {
        let fetched = network[6].home.run(&["get", key, "-o", "-"]).success();
        assert!(fetched.stdout == content);
        let fetched = http::request(network[5].proxy, "GET", &format!("/{key}"), &[], b"").unwrap();
        assert_eq!(fetched.status, 200);
        assert!(fetched.body == content);
    }
    for node in network.iter() {
        needles.add(
            "a control token",
            node.control.authorization.trim_start_matches("Bearer "),
        );
    }

    // An upload of which a part is in a temporary file when the node is killed.
    let large = RandomFile::new(22, 12 << 20).bytes();
    needles.add_content("the start of an unfinished upload", &large[..1 << 20]);
    needles.add_content(
        "the end of an unfinished upload",
        &large[large.len() - (1 << 20)..],
    );
    let dying = network.remove(7);
    send_in_part(dying.proxy, &large);
    let token = dying.control.authorization.clone();
    let home = dying.kill();
    assert!(
        token.ends_with(&control_token(home.folder())),
        "a kill leaves the token, which is dead"
    );
    fs::remove_file(home.folder().join("control.json")).unwrap();

    let folder = network.terminate();
    let mut paths = Vec::new();
    files(folder.path(), &mut paths);
    let mut bytes = 0;
    // That the search sees what is there: the configuration says which network it is.
    let mut control = Needles::default();
    control.add("the network's name", NETWORK);
    assert!(
        paths
            .iter()
            .any(|path| control.find_in_file(path).unwrap().is_some())
    );
    for path in &paths {
        bytes += fs::metadata(path).unwrap().len();
        let found = needles.find_in_file(path).unwrap();
        assert_eq!(found, None, "in {}", path.display());
        let shown = path.to_string_lossy();
        assert_eq!(needles.find(shown.as_bytes()), None, "in the name {shown}");
    }
    println!(
        "{} strings looked for in {} files, {bytes} bytes",
        needles.len(),
        paths.len()
    );
    assert!(
        paths.len() >= NODES * 5,
        "configuration, key, state, store and log of each: {paths:?}"
    );
}

fn control_token(folder: &Path) -> String {
    let text = fs::read_to_string(folder.join("control.json")).unwrap();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    value["token"].as_str().unwrap().to_owned()
}

/// Begins an upload to a proxy; returns when the node has taken most of it.
fn send_in_part(proxy: std::net::SocketAddr, body: &[u8]) {
    use std::io::Write;
    let mut stream = std::net::TcpStream::connect(proxy).unwrap();
    let head = format!(
        "PUT / HTTP/1.1\r\nHost: {proxy}\r\nContent-Length: {}\r\n\r\n",
        body.len() + 1
    );
    stream.write_all(head.as_bytes()).unwrap();
    // What the sockets' buffers can hold is at most a part of it.
    stream.write_all(body).unwrap();
}
