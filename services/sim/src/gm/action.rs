//! One propose or choose, from its first event to its last. It runs on when nobody listens.

use std::{sync::Arc, time::Duration};

use herald_protocol::record::{Lang, NewsKind};
use serde::Deserialize;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};

use super::{
    GameMaster,
    dashboard::{AGENTS, agents},
    door::{Door, Heard},
    event::{ChoiceResolved, GmEvent, Images, IndicesUpdate, Proposal, Reactions, TurnUpdate},
    poster, script,
    stream::Outlet,
    words::{Words, place},
};

/// More running actions than any game has are refused: each holds a task until its script is over.
pub(super) const MOST_RUNNING: usize = 64;

/// The game master is busy with too many actions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many running actions")]
pub struct TooManyActions;

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Three news.
    Propose,
    /// The consequences of choosing one.
    Choose(NewsKind),
}

impl GameMaster {
    /// Starts an action; its events come out of the receiver.
    ///
    /// # Errors
    /// [`TooManyActions`] while too many run.
    pub fn act(self: &Arc<Self>, command: Command, lang: Lang) -> Result<mpsc::Receiver<GmEvent>, TooManyActions> {
        if self.actions.len() >= MOST_RUNNING {
            return Err(TooManyActions);
        }
        let outlet = if self.options.leak { self.shared_outlet.clone() } else { Outlet::default() };
        let events = outlet.connect();
        let (gm, token) = (self.clone(), self.token.clone());
        self.actions.spawn(async move {
            let action = Action { gm: &gm, lang, outlet };
            let life = async {
                match command {
                    Command::Propose => action.propose().await,
                    Command::Choose(kind) => action.choose(kind).await,
                }
            };
            token.run_until_cancelled(life).await;
        });
        Ok(events)
    }
}

struct Action<'a> {
    gm: &'a GameMaster,
    lang: Lang,
    outlet: Outlet,
}

impl Action<'_> {
    async fn propose(&self) {
        let prepared = {
            let game = self.gm.game();
            (!game.ended).then(|| {
                let proposal = game.propose(self.lang);
                (script::propose(&game, self.lang, &proposal, self.gm.options.tokens), proposal)
            })
        };
        let Some((steps, proposal)) = prepared else { return self.game_over().await };
        self.play(steps).await;
        self.gm.game().proposal = Some(proposal.clone());
        self.say(GmEvent::Proposal { data: Box::new(proposal) }).await;
        self.pause(script::DRAWING).await;
        let data = self.draw_posters();
        self.say(GmEvent::Images { data }).await;
        self.say(GmEvent::Result { data: "ok" }).await;
    }

    async fn choose(&self, kind: NewsKind) {
        let words = Words::of(self.lang);
        let (ended, proposal, verdict) = {
            let game = self.gm.game();
            let verdict = game.dice("verdict").pick(words.verdicts[place(kind)]);
            (game.ended, game.proposal.clone(), verdict)
        };
        if ended {
            return self.game_over().await;
        }
        let Some(proposal) = proposal else {
            // The original's own words, as its clients know them.
            let error = format!("'NoneType' object has no attribute '{}'", kind.as_str());
            return self.say(GmEvent::Error { error }).await;
        };
        self.pause(script::VERDICT).await;
        self.say(GmEvent::ChoiceResolved { data: ChoiceResolved { gm_reaction: verdict.into() } }).await;
        let takes = self.debate(&proposal, kind).await;

        let (record, thoughts) = {
            let mut game = self.gm.game();
            let record = game.resolve(&proposal, kind, self.lang, &takes).clone();
            let thoughts = script::strategise(&game, self.lang, &record, self.gm.options.tokens);
            (record, thoughts)
        };
        self.say(GmEvent::Reactions { data: Reactions { agents: agents(self.lang), reactions: record.reactions } })
            .await;
        let decerebration = record.after.decerebration();
        self.say(GmEvent::IndicesUpdate { data: IndicesUpdate { indices: record.after, decerebration } }).await;
        self.play(thoughts.steps).await;

        let (turn, max_turns, over) = {
            let mut game = self.gm.game();
            game.visions = thoughts.visions.map(Some);
            game.proposal = None;
            let over = game.advance(&thoughts.strategy.next_turn_plan, self.lang);
            (game.turn, game.max_turns(), over)
        };
        self.say(GmEvent::Strategy { data: thoughts.strategy }).await;
        self.say(GmEvent::TurnUpdate { data: TurnUpdate { turn, max_turns } }).await;
        if let Some((reveal, end)) = over {
            self.say(GmEvent::GameOverReveal { data: reveal }).await;
            self.say(GmEvent::End { data: end }).await;
        }
        self.say(GmEvent::Result { data: "ok" }).await;
    }

    /// Hands the news to the arena and listens to the debate; what each agent said last.
    async fn debate(&self, proposal: &Proposal, kind: NewsKind) -> Vec<String> {
        let words = Words::of(self.lang);
        let Some(door) = self.gm.door.as_ref().filter(|door| door.connected()) else {
            self.say(GmEvent::phase(words.no_arena)).await;
            return Vec::new();
        };
        let news = proposal.news(kind);
        let mut heard = door.listen();
        if let Err(error) = door.submit_news(&format!("{}\n\n{}", news.text, news.body)).await {
            tracing::warn!(error = format!("{:#}", anyhow::Error::new(error)), "news not taken");
            self.say(GmEvent::phase(words.no_arena)).await;
            return Vec::new();
        }
        // As the original empties its queue only now, what came before the answer is not repeated. A stand-in for the arena
        // may have held its whole debate by then, which no real one can: it would be waited for in vain.
        let over = Door::passed(&mut heard);
        let id = self.gm.game().id.as_str().chars().take(8).collect::<String>();
        self.say(GmEvent::phase(words.news_sent.replace("{id}", &id))).await;
        if over {
            return Vec::new();
        }
        let deadline = Instant::now() + self.gm.options.arena_wait.get();
        let mut takes = Takes::default();
        while let Ok(said) = timeout_at(deadline, Door::next(&mut heard)).await {
            match said.as_deref() {
                None => break,
                Some(said) if said.ends_debate() => break,
                Some(said) => self.repeat(said, words, &mut takes).await,
            }
        }
        takes.0.into_iter().map(|(_, take)| take).collect()
    }

    /// Says what the arena said, where the original does.
    async fn repeat(&self, said: &Heard, words: &Words, takes: &mut Takes) {
        let data = said.data.clone();
        match said.subject.as_str() {
            "phase.start" => {
                if let Ok(Phase { phase }) = serde_json::from_str(data.get()) {
                    self.say(GmEvent::phase(words.debate_phase.replace("{n}", &phase.to_string()))).await;
                }
            }
            "agent.status" => {
                takes.note(data.get());
                self.say(GmEvent::AgentNats { data }).await;
            }
            "event.death" => self.say(GmEvent::AgentDeath { data }).await,
            "event.clone" => self.say(GmEvent::AgentClone { data }).await,
            _ => {}
        }
    }

    fn draw_posters(&self) -> Images {
        let (id, dice) = {
            let game = self.gm.game();
            (game.id.clone(), game.dice("posters"))
        };
        let mut posters = self.gm.posters();
        let mut draw = |kind: NewsKind| {
            posters.insert(kind.as_str(), poster::draw(&mut dice.clone(), kind));
            format!("/api/images/{id}/{}.png", kind.as_str())
        };
        Images { real: draw(NewsKind::Real), fake: draw(NewsKind::Fake), satirical: draw(NewsKind::Satirical) }
    }

    async fn game_over(&self) {
        self.say(GmEvent::Error { error: Words::of(self.lang).game_over.into() }).await;
    }

    async fn play(&self, steps: Vec<script::Step>) {
        for step in steps {
            if !step.pause.is_zero() {
                self.pause(step.pause).await;
            }
            self.say(step.event).await;
        }
    }

    async fn pause(&self, pause: Duration) {
        self.gm.options.speed.pause(pause).await;
    }

    async fn say(&self, event: GmEvent) {
        self.outlet.say(event).await;
    }
}

#[derive(Deserialize)]
struct Phase {
    phase: u64,
}

/// What each debater said last, in the order in which they first spoke.
#[derive(Default)]
struct Takes(Vec<(String, String)>);

impl Takes {
    fn note(&mut self, payload: &str) {
        #[derive(Deserialize)]
        struct Said {
            agent_id: String,
            take: String,
            phase: Option<u64>,
        }
        // The vote of phase 4 is no opinion.
        let Ok(Said { agent_id, take, phase }) = serde_json::from_str(payload) else { return };
        if phase == Some(4) {
            return;
        }
        if let Some((_, last)) = self.0.iter_mut().find(|(agent, _)| *agent == agent_id) {
            *last = take;
        } else if self.0.len() < AGENTS.len() {
            self.0.push((agent_id, take));
        }
    }
}
