//! The command line: one module for each command or pair of commands, and what they share.
//!
//! `warren put`, `get`, `status`, `peers` and `set` talk to a running node over its control interface; `run` and `demo` are nodes; `init`, `wipe` and
//! `store` work on the data directory of a node that is not running.

pub mod args;
mod demo;
mod files;
mod inspect;
mod keygen;
mod outcome;
mod run;
mod set;
mod setup;
mod status;
mod terminal;

use std::process::ExitCode;

use clap::Parser;

pub use outcome::{Exit, Failure};

use self::{
    args::{Cli, Command},
    terminal::Terminal,
};

/// The whole program: parses the command line, does what it says, and prints why it could not.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let terminal = Terminal { json: cli.json };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            terminal.failure(&Failure::io("the asynchronous runtime", &error));
            return Exit::Failed.into();
        }
    };
    match runtime.block_on(dispatch(terminal, cli)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            terminal.failure(&failure);
            failure.exit.into()
        }
    }
}

async fn dispatch(terminal: Terminal, cli: Cli) -> Result<(), Failure> {
    let data_dir = || setup::data_dir(cli.data_dir);
    match cli.command {
        Command::Init(args) => setup::init(terminal, data_dir()?, args).await,
        Command::Run(args) => run::run(terminal, data_dir()?, args).await,
        Command::Put(args) => files::put(terminal, &data_dir()?, args).await,
        Command::Get(args) => files::get(terminal, &data_dir()?, args).await,
        Command::Keygen => keygen::keygen(terminal),
        Command::Status => status::status(terminal, &data_dir()?).await,
        Command::Peers(args) => status::peers(terminal, &data_dir()?, args).await,
        Command::Set(args) => set::set(terminal, &data_dir()?, args).await,
        Command::Wipe(args) => setup::wipe(terminal, &data_dir()?, &args),
        Command::Demo(args) => demo::demo(terminal, args).await,
        Command::Store(args) => inspect::store(terminal, &data_dir()?, &args),
    }
}
