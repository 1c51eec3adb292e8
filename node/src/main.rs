//! The `warren` program. Everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    warren_node::cli::main()
}
