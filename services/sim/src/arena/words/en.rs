//! English texts, all invented.

use super::Words;

pub(super) const WORDS: Words = Words {
    thoughts: &[
        "{name} counts one date, one figure and three adverbs: two too many. Credit given: {n} of 5.",
        "At first reading {name} finds the story well dressed. Too well, perhaps. Credit given: {n} of 5.",
        "{name} has heard worse, and from more serious people. Credit given: {n} of 5.",
        "Nothing proves it false, notes {name}, underlining 'proves'. Credit given: {n} of 5.",
    ],
    speeches: [
        &[
            "**Dear neighbours at this table**, {name} speaking. '{title}' is served to us like a dish under a cover.",
            "**Hear me for a minute**, on the word of {name}, only one: '{title}', that is all anybody knows.",
            "**Let me begin at the end**: I, {name}, will not sign. Not yet. '{title}', they say.",
        ],
        &[
            "Lift the cover: a source that quotes itself, an expert without a first name, a chart without an axis. I do not ask for the truth, I ask for the address where it can be checked.",
            "Who gains if we believe it? Who loses if we laugh? Ask both in this order, then in the other: you will see that {other} has chosen sides already.",
            "I am willing to be convinced, provided I am given time to be difficult. Doubt is not an opinion, it is a delay. I ask for a delay.",
        ],
        &[
            "And if I am wrong, let it be out loud. 🕯️",
            "Let {other} answer me, I am waiting with a chair. 🪑",
            "The rest is wallpaper. 🧻",
        ],
    ],
    revisions: &[
        "After {other} I move by one step: the form holds, the substance still limps. Credit: {n} of 5.",
        "{other} speaks well, which worries me. I keep my view and write it in pencil. Credit: {n} of 5.",
        "I was wrong on a detail and right on the whole; {name} stays put. Credit: {n} of 5.",
        "Here we are, four of us doubting different things: that is nearly agreement. Credit: {n} of 5.",
    ],
    phases: ["Phase 1: thought", "Phase 2: platform", "Phase 3: second look", "Phase 4: ballot"],
    done: "Phase {n} done",
    eliminated: "{name} left the table in round {round}.",
    present: "At the table: {names}",
};
