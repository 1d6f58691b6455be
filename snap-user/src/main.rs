//! `freezeframe`: snapshots of running processes.

#![deny(clippy::print_stderr, clippy::print_stdout)]

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser as _};
use freezeframe::cli::{Cli, Command, ManArgs, TakeArgs};
use freezeframe::exit::Exit;
use freezeframe::stream::sink::Destination;
use freezeframe::words::{causes, print, say};
use freezeframe::{disk, doctor, serve, take, tell, tools};

#[tokio::main]
async fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Take(args) => run_take(&args).await,
        Command::Serve(args) => serve::run(&args).await.map(|()| Exit::Ok),
        Command::Cancel(args) => serve::ask::cancel(&args.socket, args.snapshot)
            .await
            .map(|()| Exit::Ok),
        Command::Doctor(args) => doctor::run(&args),
        Command::Disk(command) => disk::cli::run(&command),
        Command::Tool(command) => tools::run(command).await,
        Command::Flatten(args) => tools::flatten::run(&args).await,
        Command::Man(args) => man(&args),
    };
    let exit = result.unwrap_or_else(|error| {
        tell!("{}", causes(&error));
        Exit::of(&error)
    });
    ExitCode::from(exit as u8)
}

/// The man pages say what `--help` says: both come from `cli.rs`.
fn man(args: &ManArgs) -> anyhow::Result<Exit> {
    clap_mangen::generate_to(Cli::command(), &args.folder)
        .with_context(|| format!("cannot write man pages to {}", args.folder.display()))?;
    Ok(Exit::Ok)
}

async fn run_take(args: &TakeArgs) -> anyhow::Result<Exit> {
    // Reading a parent's manifest may block, and run a runtime of its own.
    let request = tokio::task::block_in_place(|| args.request())?;
    let report = take::take(&request).await?;
    let text = if args.json {
        serde_json::to_string(&report).context("cannot print the report")? + "\n"
    } else {
        report.table()
    };
    // With the archive on standard output the report is the diagnostics.
    if request.destination == Some(Destination::Stdout) {
        say(&text);
    } else {
        print(&text).context("the snapshot was taken, but its report is lost")?;
    }
    Ok(Exit::Ok)
}
