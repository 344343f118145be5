//! Which of the proposed news a player chooses.

use std::str::FromStr;

use herald_protocol::record::NewsKind;

use crate::dice::Dice;

/// Which news to choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pick {
    /// Always this one.
    Always(NewsKind),
    /// Drawn from the seed.
    Lot,
}

impl FromStr for Pick {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "lot" => Ok(Self::Lot),
            kind => NewsKind::parse(kind).map(Self::Always).ok_or("expected real, fake, satirical or lot".into()),
        }
    }
}

impl Pick {
    /// The choice of a turn.
    pub fn draw(self, dice: &mut Dice) -> NewsKind {
        match self {
            Self::Always(kind) => kind,
            Self::Lot => [NewsKind::Real, NewsKind::Fake, NewsKind::Satirical][dice.index(3)],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn picks_are_kinds_or_the_lot() {
        assert_eq!("fake".parse(), Ok(Pick::Always(NewsKind::Fake)));
        assert_eq!("lot".parse(), Ok(Pick::Lot));
        assert!("none".parse::<Pick>().is_err());
        assert_eq!(Pick::Always(NewsKind::Real).draw(&mut Dice::new(1, "pick")), NewsKind::Real);
    }
}
