//! What a judgement found wrong: counts by class, and the first examples of each.

use std::fmt::{self, Display};

use herald_protocol::SessionId;
use serde::{Deserialize, Serialize};

/// Examples kept of each class.
const EXAMPLES: usize = 5;

/// A way in which the promise can be broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// It never came, and nobody said so.
    Lost,
    /// It came again.
    Doubled,
    /// It came behind what follows it.
    Reordered,
    /// It is not the session's, or not what the log holds.
    Foreign,
    /// Something was said that would make a client skip what it has not seen: a wrong `prev`, a cursor too far ahead,
    /// another life of the stream without a word.
    Gap,
}

impl Class {
    /// Every class, in the order of the verdict.
    pub const ALL: [Self; 5] = [Self::Lost, Self::Doubled, Self::Reordered, Self::Foreign, Self::Gap];

    /// As it stands in the verdict.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Doubled => "doubled",
            Self::Reordered => "reordered",
            Self::Foreign => "foreign",
            Self::Gap => "gaps",
        }
    }
}

/// How often each class was found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// [`Class::Lost`]
    pub lost: u64,
    /// [`Class::Doubled`]
    pub doubled: u64,
    /// [`Class::Reordered`]
    pub reordered: u64,
    /// [`Class::Foreign`]
    pub foreign: u64,
    /// [`Class::Gap`]
    pub gaps: u64,
}

impl Counts {
    /// How often that class was found.
    #[must_use]
    pub const fn of(&self, class: Class) -> u64 {
        match class {
            Class::Lost => self.lost,
            Class::Doubled => self.doubled,
            Class::Reordered => self.reordered,
            Class::Foreign => self.foreign,
            Class::Gap => self.gaps,
        }
    }

    /// Everything together.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.lost + self.doubled + self.reordered + self.foreign + self.gaps
    }

    const fn of_mut(&mut self, class: Class) -> &mut u64 {
        match class {
            Class::Lost => &mut self.lost,
            Class::Doubled => &mut self.doubled,
            Class::Reordered => &mut self.reordered,
            Class::Foreign => &mut self.foreign,
            Class::Gap => &mut self.gaps,
        }
    }
}

/// One thing found, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Example {
    /// What it is.
    pub class: Class,
    /// Whose session.
    pub session: String,
    /// Who noticed: a client, or a source.
    pub who: String,
    /// The sequence it is about.
    pub seq: u64,
    /// In words.
    pub what: String,
}

impl Display for Example {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { class, session, who, seq, what } = self;
        write!(f, "{}: {session}, {who}, seq {seq}: {what}", class.as_str())
    }
}

/// What was found, by one judgement or by all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Findings {
    /// How often.
    pub counts: Counts,
    /// The first of each class.
    pub examples: Vec<Example>,
}

impl Findings {
    /// Counts one and keeps it as an example while there is room for its class. `what` is only asked for then.
    pub fn add(
        &mut self,
        class: Class,
        session: &SessionId,
        who: &(impl Display + ?Sized),
        seq: u64,
        what: impl FnOnce() -> String,
    ) {
        *self.counts.of_mut(class) += 1;
        if self.room_for(class) {
            let (session, who) = (session.to_string(), who.to_string());
            self.examples.push(Example { class, session, who, seq, what: what() });
        }
    }

    /// Takes everything of another.
    pub fn merge(&mut self, other: Self) {
        for class in Class::ALL {
            *self.counts.of_mut(class) += other.counts.of(class);
        }
        for example in other.examples {
            if self.room_for(example.class) {
                self.examples.push(example);
            }
        }
    }

    /// Whether nothing was found.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.counts.total() == 0
    }

    fn room_for(&self, class: Class) -> bool {
        self.examples.iter().filter(|example| example.class == class).count() < EXAMPLES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_counted_and_the_first_of_each_class_are_kept() {
        let session = SessionId::new("s").unwrap();
        let mut found = Findings::default();
        for seq in 0..100 {
            found.add(Class::Lost, &session, "client", seq, || format!("number {seq}"));
        }
        found.add(Class::Gap, &session, "client", 7, || "prev".into());
        let mut all = Findings::default();
        all.merge(found.clone());
        all.merge(found);
        assert_eq!((all.counts.lost, all.counts.gaps, all.counts.total()), (200, 2, 202));
        assert_eq!(all.examples.len(), EXAMPLES + 2);
        assert_eq!(all.examples[0].to_string(), "lost: s, client, seq 0: number 0");
        assert!(Findings::default().is_clean() && !all.is_clean());
    }
}
