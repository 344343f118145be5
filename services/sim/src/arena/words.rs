//! What the debaters say: invented texts, one set per language.

mod en;
mod fr;

use herald_protocol::record::Lang;

/// Names of debaters, enough for a game of ten rounds: four begin, one is born in each.
pub const NAMES: [&str; 20] = [
    "Aldo", "Basile", "Calixte", "Dorian", "Edwige", "Fanchon", "Gaspard", "Hedda", "Isaure", "Jonas", "Kerstin",
    "Lubin", "Maëlle", "Nestor", "Ottilie", "Prosper", "Quentin", "Romane", "Silas", "Thelma",
];

/// The texts of one language. `{name}`, `{other}`, `{n}`, `{title}`, `{round}`, `{names}` are filled in.
#[derive(Debug)]
pub struct Words {
    /// What an agent thinks in phase 1.
    pub thoughts: &'static [&'static str],
    /// Its address to the others in phase 2: how it begins, goes on, ends.
    pub speeches: [&'static [&'static str]; 3],
    /// What it makes of the others' in phase 3.
    pub revisions: &'static [&'static str],
    /// What an agent does in each phase.
    pub phases: [&'static str; 4],
    /// That it has done so.
    pub done: &'static str,
    /// Who is gone.
    pub eliminated: &'static str,
    /// Who is there.
    pub present: &'static str,
}

impl Words {
    /// The texts of a language.
    #[must_use]
    pub fn of(lang: Lang) -> &'static Self {
        match lang {
            Lang::Fr => &fr::WORDS,
            Lang::En => &en::WORDS,
        }
    }
}
