//! Programs of this repository, built by cargo for a program that cargo built itself.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// Builds what these arguments of `cargo build` name, beside this program.
///
/// # Errors
/// There is no cargo, or it does not build.
pub fn build(repository: &Path, arguments: &[&str]) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    // What cargo told this program about itself is not about the other one: build scripts that look at it, that of `ring`
    // among them, would run anew each time, and all that needs them be compiled anew.
    for (name, _) in std::env::vars_os() {
        let ours = name
            .to_str()
            .is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"));
        if ours {
            command.env_remove(name);
        }
    }
    let status = command
        .arg("build")
        .args(arguments)
        .arg("--target-dir")
        .arg(target_folder()?)
        .current_dir(repository)
        .stdin(Stdio::null())
        // What this program says may be for machines to read.
        .stdout(Stdio::from(std::io::stderr()))
        .status();
    let status = status.context("run cargo, which has to be there to build programs")?;
    ensure!(status.success(), "cargo build: {status}");
    Ok(())
}

/// The folder that this program was built into, with a folder for each profile.
///
/// # Errors
/// It is in none, as when it was copied elsewhere.
pub fn target_folder() -> Result<PathBuf> {
    let this = std::env::current_exe()?;
    let profile = this.parent().context("this program is in no folder")?;
    // Tests are one folder deeper.
    let profile = if profile.ends_with("deps") { profile.parent() } else { Some(profile) };
    let target = profile.and_then(Path::parent).context("this program is in no target folder")?;
    Ok(target.to_owned())
}

/// Builds the controller's program and the demo as `cargo test --workspace` builds what it needs, so that after that nothing
/// is compiled twice; the folder that both are in.
///
/// # Errors
/// As of [`build`].
pub fn build_programs(repository: &Path) -> Result<PathBuf> {
    // An example brings the features that tests have.
    build(repository, &["--workspace", "--bin", "sluice", "--example", "demo"])?;
    Ok(target_folder()?.join("debug"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_knows_where_it_was_built() {
        let this = std::env::current_exe().unwrap();
        let target = target_folder().unwrap();
        let below = this.strip_prefix(&target).unwrap();
        let folders: Vec<_> = below.iter().collect();
        assert_eq!(folders.len(), 3, "a profile, deps, and the test: {below:?}");
        assert_eq!(folders[1], "deps");
    }
}
