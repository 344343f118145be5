//! The four indices of the dashboard and what they add up to.

use std::ops::Add;

use herald_protocol::record::NewsKind;
use serde::Serialize;

use crate::dice::Dice;

/// Each from 0 to 100, or what is added to each. The names are the wire format.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[allow(missing_docs, reason = "the names are the wire format, described in the contract")]
pub struct Indices {
    pub credibilite: f64,
    pub rage: f64,
    pub complotisme: f64,
    pub esperance_democratique: f64,
}

impl Indices {
    /// Where every game begins.
    pub const START: Self = Self { credibilite: 30.0, rage: 10.0, complotisme: 15.0, esperance_democratique: 85.0 };

    /// What a news of a kind does: the real gives a little hope, the fake takes much, satire costs a little of everything.
    #[must_use]
    pub fn impact(kind: NewsKind, dice: &mut Dice) -> Self {
        let mut draw = |low: f64, high: f64| dice.halves(low..=high);
        match kind {
            NewsKind::Real => Self {
                credibilite: draw(3.0, 6.0),
                rage: draw(-4.0, -1.0),
                complotisme: draw(-4.0, -2.0),
                esperance_democratique: draw(3.0, 5.0),
            },
            NewsKind::Fake => Self {
                credibilite: draw(-9.0, -5.0),
                rage: draw(8.0, 14.0),
                complotisme: draw(7.0, 12.0),
                esperance_democratique: draw(-18.0, -12.0),
            },
            NewsKind::Satirical => Self {
                credibilite: draw(-5.0, -2.0),
                rage: draw(2.0, 6.0),
                complotisme: draw(2.0, 5.0),
                esperance_democratique: draw(-3.0, -1.0),
            },
        }
    }

    /// The same done to each.
    #[must_use]
    pub fn map(self, each: impl Fn(f64) -> f64) -> Self {
        Self {
            credibilite: each(self.credibilite),
            rage: each(self.rage),
            complotisme: each(self.complotisme),
            esperance_democratique: each(self.esperance_democratique),
        }
    }

    /// What a choice makes of them: its impact, a crowd that shouts louder than the news, and the scale's ends.
    #[must_use]
    pub fn after(self, impact: Self, amplifiers: u32) -> Self {
        let crowd = f64::from(amplifiers) * 0.5;
        let heated = Self {
            rage: if impact.rage > 0.0 { crowd } else { 0.0 },
            complotisme: if impact.complotisme > 0.0 { crowd } else { 0.0 },
            ..Self::default()
        };
        (self + impact + heated).map(|value| value.clamp(0.0, 100.0))
    }

    /// How far from zero, all told.
    #[must_use]
    pub fn weight(self) -> f64 {
        self.credibilite.abs() + self.rage.abs() + self.complotisme.abs() + self.esperance_democratique.abs()
    }

    /// The one number they add up to, 0 to 100. The recorded games obey it.
    #[must_use]
    pub fn decerebration(self) -> f64 {
        ((self.credibilite + self.rage + self.complotisme - self.esperance_democratique) / 3.0).clamp(0.0, 100.0)
    }
}

impl Add for Indices {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            credibilite: self.credibilite + other.credibilite,
            rage: self.rage + other.rage,
            complotisme: self.complotisme + other.complotisme,
            esperance_democratique: self.esperance_democratique + other.esperance_democratique,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_the_one_of_the_recorded_game() {
        let sum = |credibilite, rage, complotisme, esperance_democratique| {
            Indices { credibilite, rage, complotisme, esperance_democratique }.decerebration()
        };
        assert_eq!(sum(30.0, 10.0, 15.0, 85.0), 0.0);
        assert_eq!(sum(22.0, 29.5, 32.5, 76.0), 2.666_666_666_666_666_5);
        assert_eq!(sum(23.5, 39.0, 43.0, 0.0), 35.166_666_666_666_664);
    }

    #[test]
    fn they_never_leave_their_scale() {
        let far = Indices { credibilite: -200.0, rage: 300.0, complotisme: 99.0, esperance_democratique: -90.0 };
        let after = Indices::START.after(far, 4);
        assert_eq!(after, Indices { credibilite: 0.0, rage: 100.0, complotisme: 100.0, esperance_democratique: 0.0 });
    }
}
