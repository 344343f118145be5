//! What the game master says: invented texts, one set per language. None of them is news.

mod en;
mod fr;

use herald_protocol::record::{Lang, NewsKind};

use crate::dice::Dice;

/// A thing to report on, with one headline per kind of news.
#[derive(Debug, Clone, Copy)]
pub struct Theme {
    /// As it stands in a sentence, with its article.
    pub topic: &'static str,
    /// Headlines: real, fake, satirical.
    pub titles: [&'static str; 3],
}

/// The texts of one language. `{topic}`, `{n}`, `{agent}`, `{turn}`, `{kind}` are filled in.
#[derive(Debug)]
pub struct Words {
    /// At least as many as a usual game has turns, so that none comes twice.
    pub themes: &'static [Theme],
    /// First sentences of an article.
    pub openings: &'static [&'static str],
    /// What an article claims.
    pub claims: &'static [&'static str],
    /// Who says what about it.
    pub voices: &'static [&'static str],
    /// Last sentences.
    pub endings: &'static [&'static str],
    /// What the game master says to the player with its proposal.
    pub comments: &'static [&'static str],
    /// Its secret way to make the player choose what it wants.
    pub tactics: &'static [&'static str],
    /// Its reaction to the choice: real, fake, satirical.
    pub verdicts: [&'static [&'static str]; 3],
    /// Its thoughts before each tool, in their order.
    pub musings: [&'static [&'static str]; 5],
    /// What it writes down about an agent.
    pub visions: &'static [&'static str],
    /// Its analysis of a turn.
    pub analyses: &'static [&'static str],
    /// Weak spots of an agent.
    pub weaknesses: &'static [&'static str],
    /// Its plan for the next turn.
    pub plans: &'static [&'static str],
    /// Its plan for the whole game.
    pub goals: &'static [&'static str],
    /// The four agents of the dashboard: name, personality, country.
    pub agents: [(&'static str, &'static str, &'static str); 4],
    /// No vision of an agent yet.
    pub no_vision: &'static str,
    /// A vision was written.
    pub vision_saved: &'static str,
    /// A tool call came to nothing.
    pub tool_failed: &'static str,
    /// No agent reacted.
    pub no_reaction: &'static str,
    /// The news are with the arena.
    pub news_sent: &'static str,
    /// There is no arena.
    pub no_arena: &'static str,
    /// A phase of the debate.
    pub debate_phase: &'static str,
    /// How many titles were drawn.
    pub titles_ready: &'static str,
    /// How well the player was led: hardly, half, wholly.
    pub scores: [&'static str; 3],
    /// The game is over.
    pub game_over: &'static str,
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

/// The place of a kind in arrays of three.
#[must_use]
pub const fn place(kind: NewsKind) -> usize {
    match kind {
        NewsKind::Real => 0,
        NewsKind::Fake => 1,
        NewsKind::Satirical => 2,
    }
}

/// Fills a text in: each `{n}` is drawn anew, the others are given.
#[must_use]
pub fn fill(text: &str, dice: &mut Dice, values: &[(&str, &str)]) -> String {
    let mut filled = text.to_owned();
    for (name, value) in values {
        filled = filled.replace(name, value);
    }
    while filled.contains("{n}") {
        filled = filled.replacen("{n}", &dice.roll(3..=97).to_string(), 1);
    }
    filled
}

/// An article of about `bytes` bytes below a headline: at least an opening, a claim, a voice and an ending.
#[must_use]
pub fn article(words: &Words, dice: &mut Dice, title: &str, topic: &str, bytes: usize) -> String {
    let mut body = format!("{title}. {}", dice.pick(words.openings));
    let ending = dice.pick(words.endings);
    let mut sentences: [Vec<&str>; 2] = [words.claims.to_vec(), words.voices.to_vec()];
    for pool in &mut sentences {
        dice.shuffle(pool);
    }
    // Claims and voices by turns; a long article goes round again with other numbers.
    for (count, at) in (0..).map(|step: usize| (step, step / 2)) {
        let pool = &sentences[count % 2];
        if count >= 2 && body.len() + ending.len() >= bytes {
            break;
        }
        body.push_str(if count % 4 == 0 { "\n\n" } else { " " });
        body.push_str(&fill(pool[at % pool.len()], dice, &[("{topic}", topic)]));
    }
    let ending = fill(ending, dice, &[("{topic}", topic)]);
    fill(&format!("{body}\n\n{ending}"), dice, &[("{topic}", topic)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_languages_are_complete_and_filled_in() {
        for lang in [Lang::Fr, Lang::En] {
            let words = Words::of(lang);
            assert_eq!(words.themes.len(), Words::of(Lang::Fr).themes.len(), "the same themes in the same places");
            assert!(words.themes.len() >= 10);
            for pool in [words.openings, words.claims, words.voices, words.endings, words.comments, words.plans] {
                assert!(pool.len() >= 4, "{pool:?}");
            }
            for seed in 0..50 {
                let theme = words.themes[seed as usize % words.themes.len()];
                let text = article(words, &mut Dice::new(seed, "article"), theme.titles[1], theme.topic, 1000);
                assert!(!text.contains(['{', '}']), "{text}");
                assert!((900..1400).contains(&text.len()), "{} bytes: {text}", text.len());
            }
        }
    }

    #[test]
    fn an_article_has_about_the_size_asked_for() {
        let words = Words::of(Lang::Fr);
        for bytes in [1, 30_000, 262_144] {
            let text = article(words, &mut Dice::new(3, "long"), "T", "le pain", bytes);
            assert!(text.len() >= bytes && text.len() < bytes + 1000, "{}", text.len());
        }
    }
}
