//! Our programs, found beside the one that runs.

use std::{
    path::{Path, PathBuf},
    time::SystemTime,
};

/// What `--print-config` of one of our services prints where nothing configures it.
///
/// # Panics
/// If it prints none.
#[must_use]
pub fn printed_config(binary: &str) -> String {
    let output = std::process::Command::new(program(binary)).arg("--print-config").env_clear().output();
    let output = output.expect("the service");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// The program in the target folder that this program was built into, whichever profile that is.
pub(crate) fn program(name: &str) -> PathBuf {
    let me = std::env::current_exe().expect("a test program");
    let places =
        me.ancestors().skip(1).take(2).flat_map(|folder| [folder.join(name), folder.join("examples").join(name)]);
    let found = places.into_iter().find(|path| path.is_file());
    let build = build(name);
    let path = found.unwrap_or_else(|| panic!("{name} is not built: run `{build}` first"));
    if let Some(source) = newer_source(&path) {
        panic!("{name} is older than {}: run `{build}` first", source.display());
    }
    path
}

/// What builds it.
fn build(name: &str) -> String {
    match name.strip_suffix("-planted") {
        Some(service) => format!("cargo build --workspace --features {service}/planted-bugs --bin {name}"),
        None => "cargo build --workspace --bins --examples".to_owned(),
    }
}

/// A source that was changed after the program was built. Cargo lists a program's sources beside it, in Makefile form.
fn newer_source(program: &Path) -> Option<PathBuf> {
    let changed =
        |path: &Path| path.metadata().and_then(|metadata| metadata.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    let list = std::fs::read_to_string(program.with_added_extension("d")).ok()?;
    let built = changed(program);
    let (_, sources) = list.lines().next()?.split_once(": ")?;
    sources.split(' ').map(PathBuf::from).find(|source| changed(source) > built)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    #[should_panic(expected = "no-such-program is not built: run `cargo build")]
    fn a_program_that_was_not_built_is_named() {
        let _path = program("no-such-program");
    }

    #[test]
    fn a_program_older_than_its_sources_is_found_out() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        let write = |name: &str, seconds: u64| {
            std::fs::write(place(name), "").unwrap();
            let file = std::fs::File::options().write(true).open(place(name)).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
        };
        let (program, old, new) = (place("program"), place("old.rs"), place("new.rs"));
        std::fs::write(place("program.d"), format!("{}: {} {}\n", program.display(), old.display(), new.display()))
            .unwrap();
        for (name, seconds) in [("program", 100), ("old.rs", 99), ("new.rs", 100)] {
            write(name, seconds);
        }
        assert_eq!(newer_source(&program), None);
        write("new.rs", 101);
        assert_eq!(newer_source(&program), Some(new));
    }
}
