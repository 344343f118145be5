//! One input: whether the code stands it, and what is left of one that it does not stand.

use std::{
    cell::{Cell, RefCell},
    hash::{DefaultHasher, Hash, Hasher},
    panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook},
    sync::Once,
};

thread_local! {
    /// Whether this thread is trying something that may panic.
    static TRYING: Cell<bool> = const { Cell::new(false) };
    /// The words and the place of its last panic.
    static SAID: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Gives `input` to `check`. What became of it, as a number, or the words and the place of the panic.
pub(crate) fn attempt<T: Hash>(check: &mut impl FnMut(&[u8]) -> T, input: &[u8]) -> Result<u64, String> {
    listen();
    TRYING.set(true);
    let outcome = catch_unwind(AssertUnwindSafe(|| hash(check(input))));
    TRYING.set(false);
    outcome.map_err(|panic| {
        let said = SAID.take();
        // Where another hook was put in front of ours.
        if said.is_empty() {
            panic.downcast::<String>().map_or_else(|_| "a panic".to_owned(), |text| *text)
        } else {
            said
        }
    })
}

/// The same number for the same value, in every process.
pub(crate) fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Has panics of those who try something kept, instead of printed: while an input is made smaller there are hundreds.
fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let others = take_hook();
        set_hook(Box::new(move |info| {
            if TRYING.get() {
                SAID.set(info.to_string());
            } else {
                others(info);
            }
        }));
    });
}

/// An input as small as it gets that still `fails`: pieces are left out, the large ones first, then bytes made plain.
pub(crate) fn shrink(input: &[u8], mut fails: impl FnMut(&[u8]) -> bool) -> Vec<u8> {
    let mut small = input.to_vec();
    let mut piece = small.len().next_power_of_two();
    while piece > 0 {
        let (mut at, before) = (0, small.len());
        while at < small.len() {
            let without = [&small[..at], &small[(at + piece).min(small.len())..]].concat();
            if fails(&without) { small = without } else { at += piece }
        }
        // As long as single bytes can be left out, others may have become so.
        if piece > 1 || small.len() == before {
            piece /= 2;
        }
    }
    for at in 0..small.len() {
        for plain in [b'a', b'0'] {
            let was = std::mem::replace(&mut small[at], plain);
            if was == plain || fails(&small) {
                break;
            }
            small[at] = was;
        }
    }
    small
}

/// An input as it can be shown.
pub(crate) fn escaped(input: &[u8]) -> String {
    const SHOWN: usize = 2000;
    let more = if input.len() > SHOWN { "..." } else { "" };
    format!("{}{more}", input[..input.len().min(SHOWN)].escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_is_made_as_small_as_it_still_fails() {
        let fails = |input: &[u8]| input.contains(&b'(') && input.ends_with(b")");
        assert_eq!(shrink(b"before (within) behind (and again)", fails), b"()");
        assert_eq!(shrink(b"xyz", |input| input.len() > 1), b"aa");
        assert_eq!(shrink(b"", |_| true), b"");
    }

    #[test]
    fn a_panic_is_told_with_its_place_and_others_are_left_alone() {
        let told = attempt(&mut |_: &[u8]| assert_eq!(1, 2, "not so"), b"").unwrap_err();
        assert!(told.contains("attempt.rs") && told.contains("not so"), "{told}");
        assert_eq!(attempt(&mut <[u8]>::len, b"abc"), attempt(&mut |_: &[u8]| 3_usize, b""));
    }
}
