//! What comes by Go: a program that is built, or a file of a module.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::super::{Error, Result};
use super::build::{Job, run};
use super::recipe::{Module, Recipe};

/// Builds the program of a package.
pub(super) fn program(job: &Job<'_>, module: &Module, package: &str) -> Result<PathBuf> {
    let built = job.scratch.join(job.recipe.program);
    let mut go = go(job, module)?;
    go.args(["build", "-mod=readonly", "-trimpath"])
        .arg(format!("-ldflags=-s -w {}", job.recipe.ldflags))
        .args(job.recipe.flags)
        .args([OsStr::new("-o"), built.as_os_str(), OsStr::new(package)]);
    run(job, &mut go, |error| missing_go(error, job, module))?;
    Ok(built)
}

/// Copies a file of a module that ours requires.
pub(super) fn file(job: &Job<'_>, module: &Module, of: &str, path: &str) -> Result<PathBuf> {
    // A module that is in the cache already is not downloaded again, and its folder is told in any case.
    let told = job.scratch.join("folder");
    let output = fs::File::create(&told).map_err(Error::path("create", &told))?;
    run(job, go(job, module)?.args(["mod", "download", of]), |error| missing_go(error, job, module))?;
    let mut list = go(job, module)?;
    list.args(["list", "-mod=readonly", "-m", "-f", "{{.Dir}}", of]).stdout(output);
    let status = list.status().map_err(Error::io("run go list"))?;
    let folder = fs::read_to_string(&told).map_err(Error::path("read", &told))?;
    if !status.success() || folder.trim().is_empty() {
        return Err(Error::Build {
            program: job.recipe.program,
            status,
            output: format!("no folder of {of}"),
        });
    }
    let (from, to) = (Path::new(folder.trim()).join(path), job.scratch.join(job.recipe.program));
    // Read and written, because what Go keeps is read-only and a copy would be, too.
    let content = fs::read(&from).map_err(Error::path("read", &from))?;
    fs::write(&to, content).map_err(Error::path("write", &to))?;
    Ok(to)
}

fn go(job: &Job<'_>, module: &Module) -> Result<Command> {
    for (name, text) in [("go.mod", module.go_mod), ("go.sum", module.go_sum)] {
        let path = job.scratch.join(name);
        fs::write(&path, text).map_err(Error::path("write", &path))?;
    }
    let mut go = Command::new("go");
    go.current_dir(job.scratch)
        .env("CGO_ENABLED", "0")
        // A workspace file in a folder above would replace our pins.
        .env("GOWORK", "off");
    Ok(go)
}

fn missing_go(error: io::Error, job: &Job<'_>, module: &Module) -> Error {
    let Recipe { program, version, .. } = *job.recipe;
    match error.kind() {
        io::ErrorKind::NotFound => {
            Error::MissingProgram { program, version, go: module.go, cache: job.cache.to_owned() }
        }
        _ => Error::io("run go")(error),
    }
}
