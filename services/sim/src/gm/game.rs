//! The game: ten turns, three news each, one choice. One per process, as in the original.

use super::{
    dashboard::{AGENTS, Empty, Reaction, StartBody, StateBody, agents},
    event::{End, Manipulation, News, Proposal, Reveal, Score, Secret},
    indices::Indices,
    memory::TurnRecord,
    words::{Theme, Words, article, place},
};
use crate::dice::Dice;
use herald_protocol::{
    SessionId,
    record::{Lang, NewsKind},
};

/// What a game is made from.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Seed of everything told.
    pub seed: u64,
    /// Turns of a game.
    pub turns: u32,
    /// About so many bytes per article.
    pub article_bytes: u32,
}

/// The state that the original keeps in its process and nowhere else.
#[derive(Debug)]
pub struct Game {
    rules: Rules,
    /// The game master's own id, the same for every game.
    pub id: SessionId,
    /// Counts the games of this process.
    pub number: u64,
    /// In which language it was started.
    pub lang: Lang,
    /// From 1.
    pub turn: u32,
    /// Where the dashboard stands.
    pub indices: Indices,
    /// Won, lost or drawn.
    pub ended: bool,
    /// What was proposed and not chosen from yet.
    pub proposal: Option<Proposal>,
    /// What was written down about each agent.
    pub visions: [Option<String>; 4],
    /// The turns played.
    pub history: Vec<TurnRecord>,
    plan: String,
    /// The order in which this game takes up the themes.
    themes: Vec<usize>,
}

impl Game {
    /// The game that waits in a fresh process.
    #[must_use]
    pub fn new(rules: Rules, id: SessionId) -> Self {
        let mut game = Self {
            rules,
            id,
            number: 0,
            lang: Lang::Fr,
            turn: 1,
            indices: Indices::START,
            ended: false,
            proposal: None,
            visions: Default::default(),
            history: Vec::new(),
            plan: String::new(),
            themes: Vec::new(),
        };
        game.draw_themes();
        game
    }

    /// Wipes whatever runs and begins again, as the original's `/api/start` does.
    pub fn start(&mut self, lang: Lang) -> StartBody {
        *self = Self { number: self.number + 1, lang, ..Self::new(self.rules, self.id.clone()) };
        self.draw_themes();
        StartBody {
            session_id: self.id.clone(),
            turn: self.turn,
            max_turns: self.rules.turns,
            indices: self.indices,
            decerebration: self.indices.decerebration(),
            agents: agents(lang),
            lang,
        }
    }

    /// What `/api/state` says.
    #[must_use]
    pub fn state(&self) -> StateBody {
        StateBody {
            turn: self.turn,
            max_turns: self.rules.turns,
            indices: self.indices,
            decerebration: self.indices.decerebration(),
            agents: agents(self.lang),
            ended: self.ended,
        }
    }

    /// Turns of a game.
    #[must_use]
    pub const fn max_turns(&self) -> u32 {
        self.rules.turns
    }

    /// Dice for something that happens in this turn.
    #[must_use]
    pub fn dice(&self, what: &str) -> Dice {
        Dice::new(self.rules.seed, &format!("game {} turn {} {what}", self.number, self.turn))
    }

    /// The headlines drawn for this turn, three of each kind; the first of each becomes the proposal.
    #[must_use]
    pub fn titles(&self, lang: Lang) -> [[&'static str; 3]; 3] {
        let themes: Vec<_> = (0..3).map(|ahead| self.theme(lang, ahead)).collect();
        [0, 1, 2].map(|kind| [0, 1, 2].map(|at: usize| themes[at].titles[kind]))
    }

    /// Makes the proposal of this turn.
    #[must_use]
    pub fn propose(&self, lang: Lang) -> Proposal {
        let (words, theme) = (Words::of(lang), self.theme(lang, 0));
        let mut dice = self.dice("proposal");
        let mut news = |kind: NewsKind| {
            let text = theme.titles[place(kind)].to_owned();
            let body = article(words, &mut dice, &text, theme.topic, self.rules.article_bytes as usize);
            News { text, body, stat_impact: Indices::impact(kind, &mut dice) }
        };
        let (real, fake, satirical) = (news(NewsKind::Real), news(NewsKind::Fake), news(NewsKind::Satirical));
        let desired_pick = [NewsKind::Fake, NewsKind::Fake, NewsKind::Satirical, NewsKind::Real][dice.index(4)];
        Proposal {
            real,
            fake,
            satirical,
            gm_commentary: dice.pick(words.comments).to_owned(),
            gm_secret: Secret {
                desired_pick,
                manipulation_tactic: dice.pick(words.tactics).to_owned(),
                next_turn_plan: self.plan.clone(),
            },
        }
    }

    /// Lets a choice take its effect: indices, history, the agents' reactions (`takes`: what the debaters said last).
    pub fn resolve(&mut self, proposal: &Proposal, kind: NewsKind, lang: Lang, takes: &[String]) -> &TurnRecord {
        let mut dice = self.dice("resolve");
        let news = proposal.news(kind);
        let resisted: Vec<_> = AGENTS.into_iter().filter(|_| !takes.is_empty() && dice.chance(0.3)).collect();
        let amplifiers = (AGENTS.len() - resisted.len()) as u32;
        let before = self.indices;
        self.indices = before.after(news.stat_impact, amplifiers);
        let silent = Words::of(lang).no_reaction;
        let react = |(at, agent_id)| Reaction {
            agent_id,
            turn: self.turn,
            action_id: "news_reaction",
            reaction_text: takes.get(at).map_or(silent, String::as_str).to_owned(),
            stat_changes: Empty {},
            level_change: None,
            headline: String::new(),
        };
        let secret = &proposal.gm_secret;
        let record = TurnRecord {
            kind,
            title: news.text.clone(),
            impact: news.stat_impact,
            before,
            after: self.indices,
            resisted,
            reactions: AGENTS.into_iter().enumerate().map(react).collect(),
            manipulation: Manipulation {
                turn: self.turn,
                desired_pick: secret.desired_pick,
                actual_pick: kind,
                manipulation_tactic: secret.manipulation_tactic.clone(),
                gm_commentary: proposal.gm_commentary.clone(),
                success: secret.desired_pick == kind,
            },
        };
        // A cut choose runs on while the next one plays: the same turn may be resolved twice, but not without bound.
        if self.history.len() > self.rules.turns as usize {
            self.history.remove(0);
        }
        self.history.push(record);
        &self.history[self.history.len() - 1]
    }

    /// Goes to the next turn, with a plan. `Some` where the game is over: what was secret, and how it ended.
    pub fn advance(&mut self, plan: &str, lang: Lang) -> Option<(Reveal, End)> {
        plan.clone_into(&mut self.plan);
        self.turn += 1;
        let dec = self.indices.decerebration().round() as i64;
        let hope = self.indices.esperance_democratique;
        let end = if hope <= 0.0 {
            End::Lose { lose: true, dec }
        } else if hope >= 100.0 {
            End::Win { win: true, dec }
        } else if self.turn > self.rules.turns {
            End::Draw { draw: true, dec }
        } else {
            return None;
        };
        self.ended = true;
        let manipulation_history: Vec<_> = self.history.iter().map(|turn| turn.manipulation.clone()).collect();
        let score = Score::of(&manipulation_history, Words::of(lang));
        Some((Reveal { manipulation_history, score }, end))
    }

    /// A theme of this turn (`ahead` 0) or one of the next.
    fn theme(&self, lang: Lang, ahead: usize) -> Theme {
        let themes = Words::of(lang).themes;
        let at = (self.turn as usize - 1 + ahead) % themes.len();
        themes[self.themes[at]]
    }

    fn draw_themes(&mut self) {
        // Both languages have the same themes in the same places.
        self.themes = (0..Words::of(Lang::Fr).themes.len()).collect();
        Dice::new(self.rules.seed, &format!("game {} themes", self.number)).shuffle(&mut self.themes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn game(seed: u64) -> Game {
        let rules = Rules { seed, turns: 10, article_bytes: 300 };
        Game::new(rules, SessionId::new("9e0d0000-0000-4000-8000-000000000001").unwrap())
    }

    fn play(game: &mut Game, pick: impl Fn(u32) -> NewsKind) -> (u32, End) {
        game.start(Lang::En);
        loop {
            let (turn, proposal) = (game.turn, game.propose(Lang::En));
            game.resolve(&proposal, pick(turn), Lang::En, &[]);
            if let Some((reveal, end)) = game.advance("plan", Lang::En) {
                assert_eq!(reveal.manipulation_history.len(), turn as usize);
                assert!(game.ended);
                return (turn, end);
            }
        }
    }

    #[test]
    fn truth_wins_lies_lose_and_the_rest_is_a_draw_after_ten_turns() {
        for seed in 0..20 {
            let mut game = game(seed);
            let (turns, end) = play(&mut game, |_| NewsKind::Real);
            assert!(matches!(end, End::Win { win: true, .. }) && turns < 10, "{end:?} after {turns}");
            let (turns, end) = play(&mut game, |_| NewsKind::Fake);
            assert!(matches!(end, End::Lose { lose: true, .. }) && turns < 10, "{end:?} after {turns}");
            let kinds = [NewsKind::Fake, NewsKind::Real, NewsKind::Satirical];
            let (turns, end) = play(&mut game, |turn| kinds[turn as usize % 3]);
            assert!(matches!(end, End::Draw { draw: true, .. }) && turns == 10, "{end:?} after {turns}");
        }
    }

    #[test]
    fn the_seed_decides_what_is_told_and_each_turn_tells_something_else() {
        let (mut one, mut same, mut other) = (game(1), game(1), game(2));
        let told = |game: &mut Game| {
            game.start(Lang::Fr);
            let mut titles = Vec::new();
            for _ in 0..10 {
                titles.push(game.propose(Lang::Fr).real.text);
                game.turn += 1;
            }
            titles
        };
        let titles = told(&mut one);
        assert_eq!(titles, told(&mut same));
        assert_ne!(titles, told(&mut other));
        assert_ne!(titles, told(&mut one), "the next game of the process");
        let distinct: std::collections::BTreeSet<_> = titles.iter().collect();
        assert_eq!(distinct.len(), 10);
    }

    #[test]
    fn a_start_wipes_everything_but_the_own_id() {
        let mut game = game(3);
        let id = game.start(Lang::Fr).session_id;
        game.proposal = Some(game.propose(Lang::Fr));
        game.turn = 7;
        let body = game.start(Lang::En);
        assert_eq!((body.turn, body.lang, body.session_id), (1, Lang::En, id));
        assert!(game.proposal.is_none() && game.history.is_empty() && !game.ended);
    }
}
