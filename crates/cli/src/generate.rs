//! `countersign generate`: what a package ships beside the program.

use std::fs;
use std::io;
use std::path::Path;

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::args::{Countersign, GenerateCommand};
use crate::failure::Failure;

pub(crate) fn run(command: &GenerateCommand) -> Result<(), Failure> {
    let (folder, written) = match command {
        GenerateCommand::Man { folder } => (folder, man(folder)),
        GenerateCommand::Completions { folder } => (folder, completions(folder)),
    };
    written.map_err(|error| {
        Failure::broken(format!("cannot write into {}: {error}", folder.display()))
    })
}

fn man(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    clap_mangen::generate_to(Countersign::command(), folder)
}

fn completions(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut Countersign::command(), "countersign", folder)?;
    }
    Ok(())
}
