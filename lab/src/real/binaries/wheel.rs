//! What comes in Python packages, which pip checks and unpacks: a program, or modules.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use super::super::{Error, Result};
use super::build::{Job, run};

/// Lets pip unpack what `requirements` pins by hash, and returns the program in it.
pub(super) fn program(job: &Job<'_>, requirements: &str, path: &str) -> Result<PathBuf> {
    let program = unpack(job, requirements, &["--require-hashes"])?.join(path);
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))
        .map_err(Error::path("make executable", &program))?;
    Ok(program)
}

/// Lets pip unpack what `requirements` pins by version, and returns the folder of modules, for `PYTHONPATH`.
pub(super) fn packages(job: &Job<'_>, requirements: &str) -> Result<PathBuf> {
    unpack(job, requirements, &[])
}

fn unpack(job: &Job<'_>, requirements: &str, flags: &[&str]) -> Result<PathBuf> {
    let pins = job.scratch.join("requirements.txt");
    fs::write(&pins, requirements).map_err(Error::path("write", &pins))?;
    let folder = job.scratch.join("unpacked");
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"])
        .args(["--only-binary", ":all:"])
        .args(flags)
        .arg("--target")
        .arg(&folder)
        .arg("--requirement")
        .arg(&pins)
        .current_dir(job.scratch);
    run(job, &mut pip, |error| match error.kind() {
        io::ErrorKind::NotFound => Error::MissingPython {
            program: job.recipe.program,
            version: job.recipe.version,
            cache: job.cache.to_owned(),
        },
        _ => Error::io("run pip")(error),
    })?;
    Ok(folder)
}
