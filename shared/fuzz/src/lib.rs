//! Fuzzing: many inputs, made out of good ones by breaking them, for code that must stand whatever comes from outside.
//!
//! A [`Target`] is a test of the name `...::fuzz::<target>`, beside the code it is about, where it reaches what is private. It gives
//! that code any bytes, and asserts what must be true of what becomes of them. `cargo test` runs some thousand inputs of each
//! target; `./scripts/fuzz` builds the same tests optimised, with overflow checks and debug assertions, and runs millions.
//!
//! The way of an input: one of the pool (what was written by hand, what was recorded, what once failed) is changed a few
//! times, as those do who look for holes: bits, cuts, repetitions, pieces of other inputs, words of the language, numbers at
//! the edges, escapes (`mutate`). What the code made of it, the outcome, is compared to all before: an input with an
//! outcome that is new joins the pool, so that what follows starts from farther in. The same seed makes the same inputs.
//!
//! An input that fails is made as small as it gets, written to `.herald/fuzz`, and named together with the command that tries
//! it again. Once mended, it is kept in `corpus/<target>`: all of that is tried first, each time.
//!
//! Not libFuzzer: that needs a nightly compiler, and can't be part of `cargo test`; the engine of `bolero` for the stable one
//! makes inputs out of nothing, and `proptest` out of a grammar, where what is wanted is real traffic, a little broken.

#![forbid(unsafe_code)]
#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "in a test, a failed step is a failed test, and its output is for people"
)]

mod attempt;
mod mutate;
mod pool;
mod settings;
mod watch;

use std::{
    hash::Hash,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use attempt::{attempt, escaped, shrink};
use mutate::Mutator;
use pool::Pool;
use settings::Settings;
use watch::Watch;

/// Longest input where a target says nothing else: as long as what it is about, and room for what is put in.
const LONGEST: usize = 2048;
/// How often the time is looked at, and somebody is told how far it is.
const LOOK: u64 = 4096;
/// How long a failing input is made smaller.
const SHRINKING: Duration = Duration::from_secs(20);

/// Code that is given inputs.
pub struct Target {
    name: &'static str,
    seeds: Vec<Vec<u8>>,
    tokens: Vec<Vec<u8>>,
    longest: usize,
}

impl Target {
    /// A target of that name, with what is kept of it in `corpus/<name>`.
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        let mut seeds: Vec<_> = files(&corpus().join(name)).iter().map(|file| read(file)).collect();
        // One that is empty is never forgotten.
        seeds.push(Vec::new());
        Self { name, seeds, tokens: Vec::new(), longest: LONGEST }
    }

    /// Inputs to begin with, which are good, or nearly so.
    #[must_use]
    pub fn seeds(mut self, seeds: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Self {
        self.seeds.extend(seeds.into_iter().map(|seed| seed.as_ref().to_vec()));
        self
    }

    /// Words that mean something to the code.
    #[must_use]
    pub fn tokens(mut self, tokens: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Self {
        self.tokens.extend(tokens.into_iter().map(|token| token.as_ref().to_vec()));
        self
    }

    /// How long inputs are at most, seeds aside.
    #[must_use]
    pub const fn longest(mut self, bytes: usize) -> Self {
        self.longest = bytes;
        self
    }

    /// Gives inputs to `check`, which panics where something is not as it must be. It returns what became of the input, in as few
    /// values as tell one way through the code from another.
    ///
    /// # Panics
    /// If an input fails, after it was written down.
    pub fn run<T: Hash>(self, mut check: impl FnMut(&[u8]) -> T) {
        let settings = Settings::read();
        let watch = Watch::start(self.name);
        let mut run = Run { watch, slowest: Duration::ZERO, count: 0 };
        if let Some(file) = &settings.input {
            run.one(self.name, &read(file), &mut check);
            println!("fuzz {}: {} stood", self.name, file.display());
            return;
        }
        let begun = Instant::now();
        let mut pool = Pool::new(self.seeds);
        for at in 0..pool.seeds() {
            let seed = pool.seed(at).to_vec();
            let outcome = run.one(self.name, &seed, &mut check);
            pool.note(outcome, &seed);
        }
        let mut mutator = Mutator::new(settings.seed, self.name, self.tokens, self.longest);
        let mut input = Vec::new();
        while run.count < settings.inputs {
            mutator.next(&pool, &mut input);
            let outcome = run.one(self.name, &input, &mut check);
            pool.note(outcome, &input);
            if run.count.is_multiple_of(LOOK) && settings.time.is_some_and(|time| begun.elapsed() >= time) {
                break;
            }
        }
        let seconds = begun.elapsed().as_secs_f64();
        println!(
            "fuzz {}: {} inputs by seed {} in {seconds:.1} s, {} outcomes, slowest {:.1} ms",
            self.name,
            run.count,
            settings.seed,
            pool.outcomes(),
            run.slowest.as_secs_f64() * 1000.0
        );
    }
}

struct Run {
    watch: Watch,
    slowest: Duration,
    count: u64,
}

impl Run {
    /// Tries one input; what became of it, as a number.
    fn one<T: Hash>(&mut self, target: &str, input: &[u8], check: &mut impl FnMut(&[u8]) -> T) -> u64 {
        self.watch.begins(input);
        let begun = Instant::now();
        match attempt(check, input) {
            Ok(outcome) => {
                self.slowest = self.slowest.max(begun.elapsed());
                self.count += 1;
                outcome
            }
            Err(why) => {
                let until = Instant::now() + SHRINKING;
                let small = shrink(input, |smaller| {
                    self.watch.begins(smaller);
                    Instant::now() < until && attempt(check, smaller).is_err()
                });
                let why = attempt(check, &small).err().unwrap_or(why);
                let file = write(target, &small);
                panic!(
                    "fuzz {target}: {why}\n  after {} inputs; input of {} bytes: \"{}\"\n  again: ./scripts/fuzz {target} --input {}\n  \
                     once mended: mv it to shared/fuzz/corpus/{target}/",
                    self.count,
                    small.len(),
                    escaped(&small),
                    file.display()
                );
            }
        }
    }
}

/// Where an input may be cut: everywhere, if it is short; else in some places, which depend on nothing but the input.
pub fn cuts(input: &[u8]) -> impl Iterator<Item = usize> + use<> {
    const ALL: usize = 40;
    const SOME: usize = 4;
    let len = input.len();
    let hash = attempt::hash(input);
    let all = if len <= ALL { 0..len + 1 } else { 0..0 };
    let some = if len <= ALL { 0..0 } else { 0..SOME };
    all.chain(some.map(move |at| ((hash.rotate_right(16 * at as u32) & 0xFFFF) as usize * (len + 1)) >> 16))
}

/// The lines of an input that is one line of text and bytes behind it; `None` where the line is no text.
#[must_use]
pub fn line(input: &[u8]) -> Option<(&str, &[u8])> {
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let text = std::str::from_utf8(&input[..end]).ok()?;
    Some((text, input.get(end + 1..).unwrap_or_default()))
}

fn repository() -> &'static Path {
    // shared/fuzz is two below it.
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the repository")
}

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

/// The files of a folder, sorted; none where there is no folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let mut files: Vec<_> =
        entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_file()).collect();
    files.sort();
    files
}

fn read(file: &Path) -> Vec<u8> {
    std::fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// Writes a failing input down; where to.
fn write(target: &str, input: &[u8]) -> PathBuf {
    let folder = repository().join(".herald/fuzz");
    std::fs::create_dir_all(&folder).expect("a folder for what failed");
    let file = folder.join(format!("{target}-{:08x}", attempt::hash(input) as u32));
    std::fs::write(&file, input).expect("what failed, written");
    file.strip_prefix(repository()).map_or(file.clone(), Path::to_owned)
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, panic::catch_unwind};

    use super::*;

    fn text(failure: Box<dyn std::any::Any + Send>) -> String {
        *failure.downcast::<String>().expect("a text")
    }

    #[test]
    fn what_fails_is_found_made_small_and_written_down() {
        let failure = catch_unwind(|| {
            Target::new("of-its-own").seeds(["some words, and then some"]).tokens(["NaN"]).run(|input| {
                assert!(!input.windows(3).any(|word| word == b"NaN"), "not a number");
            });
        });
        let failure = text(failure.expect_err("a failure"));
        assert!(failure.contains("not a number") && failure.contains("input of 3 bytes: \"NaN\""), "{failure}");
        let file = failure.split("--input ").nth(1).and_then(|rest| rest.split_whitespace().next()).expect("a file");
        let file = repository().join(file);
        assert_eq!(read(&file), b"NaN");
        std::fs::remove_file(file).expect("removed");
    }

    #[test]
    fn new_outcomes_lead_farther_than_chance() {
        // By chance alone, one input of many millions would get there.
        let failure = catch_unwind(|| {
            Target::new("deep").seeds(["....."]).run(|input| {
                let met = input.iter().zip(b"{:}<").take_while(|(one, other)| one == other).count();
                assert!(met < 4, "got there");
                met
            });
        });
        let failure = text(failure.expect_err("a failure"));
        assert!(failure.contains("got there"), "{failure}");
        let file = failure.split("--input ").nth(1).and_then(|rest| rest.split_whitespace().next()).expect("a file");
        std::fs::remove_file(repository().join(file)).expect("removed");
    }

    #[test]
    fn the_same_seed_makes_the_same_inputs() {
        let inputs = || {
            let all = RefCell::new(Vec::new());
            Target::new("twice").seeds(["one 1", "two 22"]).tokens(["three"]).longest(50).run(|input| {
                all.borrow_mut().push(input.to_vec());
                input.len()
            });
            all.into_inner()
        };
        let (one, other) = (inputs(), inputs());
        assert!(one.len() > 1000 && one == other);
        assert!(one.iter().all(|input| input.len() <= 50));
        let mut different = one.clone();
        different.sort();
        different.dedup();
        assert!(different.len() > one.len() / 2, "{} of {}", different.len(), one.len());
    }

    #[test]
    fn cuts_are_within_and_lines_are_text() {
        assert_eq!(cuts(b"abc").collect::<Vec<_>>(), [0, 1, 2, 3]);
        let long = [7; 1000];
        assert!(cuts(&long).count() == 4 && cuts(&long).all(|at| at <= 1000));
        assert_eq!(line(b"one\ntwo\nx"), Some(("one", &b"two\nx"[..])));
        assert_eq!((line(b"one"), line(b"\xff\n")), (Some(("one", &b""[..])), None));
    }
}
