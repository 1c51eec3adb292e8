//! Tests of the program `warren` as it is used and abused: separate processes, real sockets, real files.

mod chaos;
mod cli;
mod demo;
mod disk;
mod edge;
mod kill;
mod liar;
mod limits;
mod probe;
mod sizes;
mod survive;
mod waiting;
mod wire;

/// A text that compresses, and of which every line can be recognised.
fn text() -> &'static str {
    static TEXT: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    TEXT.get_or_init(|| {
        let line = |number| format!("line {number} of a text that nobody but its readers may see\n");
        (0..2000).map(line).collect()
    })
}
