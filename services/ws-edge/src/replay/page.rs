//! Reading a page of a session's past.

use std::{borrow::Cow, sync::Arc};

use herald_protocol::{
    Cursor, Epoch, Position, SessionId,
    frame::{Control, Tail, data_json},
};
use metrics::counter;

use super::{PageQuery, Unread};
use crate::{
    config::ReplayConfig,
    dialect::Dialect,
    event::Event,
    feed::{Past, is_foreign},
    history::{Extent, Holes, Proof},
    view::{View, cursor},
};

/// A page of events, as their reader sees them.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) epoch: Epoch,
    /// The last sequence of the stream when the page was read.
    pub(super) head: u64,
    /// What there is, in order.
    pub(super) items: Vec<Item>,
    /// Where to go on. At or above everything that was looked through.
    pub(super) next: Cursor,
    /// Whether there may be more behind that now.
    pub(super) more: bool,
}

/// What a page is made of.
#[derive(Debug, PartialEq)]
pub(super) enum Item {
    /// An event, as JSON.
    Event(Vec<u8>),
    /// Between these sequences something may be missing. What is kept between them follows all the same.
    Gap(Control),
}

/// A page being filled.
struct Sheet<'a> {
    view: &'a View,
    query: &'a PageQuery,
    items: Vec<Item>,
    /// How many events and bytes there is room for.
    left: usize,
    bytes_left: usize,
    /// Events that may still be looked through.
    looks_left: usize,
    /// Whoever asks wants all that is kept.
    whole: bool,
    /// Something of the session was found, shown or not, or is missing.
    found: bool,
    at: u64,
}

/// The events behind `after`, as many as fit, of a stream that is [`settled`].
pub(super) async fn read(
    past: &Past,
    session: &SessionId,
    view: &Arc<View>,
    query: &PageQuery,
    (after, proof): (Position, &Proof),
    limits: &ReplayConfig,
) -> Result<Page, Unread> {
    let epoch = proof.epoch.ok_or(Unread::InDoubt)?;
    let head = proof.extent.last;
    let mut sheet = Sheet {
        view,
        query,
        items: Vec::new(),
        left: query.limit,
        bytes_left: limits.max_bytes.as_usize(),
        looks_left: limits.max_events,
        whole: after == Position::Seq(0),
        found: false,
        at: 0,
    };
    sheet.begin(after, epoch, &proof.extent);
    while sheet.at < head && sheet.has_room() {
        let answer = past.page(session, view, sheet.at, head).await?;
        let (Some(page), true) = (answer.page(), answer.proof.epoch == Some(epoch)) else {
            return Err(Unread::InDoubt);
        };
        let asked = sheet.at;
        sheet.miss(asked, page.through, &answer.proof.extent);
        let from = sheet.at;
        for event in page.events.iter().filter(|event| event.seq > from) {
            if !sheet.has_room() {
                break;
            }
            sheet.take(event);
        }
        if sheet.has_room() {
            sheet.at = sheet.at.max(page.through);
        }
    }
    if !sheet.found && past.first(session, &view.roots).await?.is_none() {
        return Err(Unread::Nothing);
    }
    Ok(Page { epoch, head, next: cursor(epoch, sheet.at), more: sheet.at < head, items: sheet.items })
}

/// What the stream holds; asked once more where a place is beyond its end: a leader just elected may answer from behind. Takes
/// its time, and so nobody's turn.
pub(super) async fn settled(past: &Past, after: Position) -> Result<Arc<Proof>, Unread> {
    let proof = past.proof().await?;
    let epoch = proof.epoch.ok_or(Unread::InDoubt)?;
    if is_foreign(after, epoch) || after.seq() <= proof.extent.last {
        return Ok(proof);
    }
    tokio::time::sleep(crate::feed::LOOK_AGAIN).await;
    let again = past.proof().await?;
    if again.epoch == Some(epoch) { Ok(again) } else { Err(Unread::InDoubt) }
}

impl Sheet<'_> {
    const fn has_room(&self) -> bool {
        self.left > 0 && self.bytes_left > 0 && self.looks_left > 0
    }

    /// Finds the place to begin at.
    fn begin(&mut self, after: Position, epoch: Epoch, extent: &Extent) {
        let first = extent.first.saturating_sub(1);
        let foreign = is_foreign(after, epoch);
        self.at = match after {
            // Who asks for what there is misses nothing of what was before.
            Position::Seq(0) => first,
            at if foreign || at.seq() > extent.last => {
                self.gap(1, first, if foreign { "epoch" } else { "beyond" });
                first
            }
            at => at.seq(),
        };
    }

    /// Says what may be missing of a page behind `asked`, up to `through`.
    fn miss(&mut self, asked: u64, through: u64, extent: &Extent) {
        let trimmed = extent.first.saturating_sub(1);
        if trimmed > asked {
            self.gap(asked + 1, trimmed, "trimmed");
            self.at = trimmed;
        }
        if let (true, Holes::Beginning(lost)) = (std::mem::take(&mut self.whole), &extent.holes) {
            // Also where that was trimmed: of a fork it can be known.
            self.gap(1, *lost, "removed");
            return;
        }
        // What is kept between the holes is there all the same: who reads a page is not made to forget it.
        if let Some(last) = extent.holes.last_in(self.at, through) {
            self.gap(self.at + 1, last, "removed");
        }
    }

    fn gap(&mut self, from: u64, to: u64, reason: &'static str) {
        counter!("herald_gaps_total", "reason" => reason).increment(1);
        self.found |= reason == "removed" || reason == "trimmed";
        self.items.push(Item::Gap(Control::Gap { from, to, reason }));
    }

    fn take(&mut self, event: &Event) {
        self.found = true;
        self.looks_left -= 1;
        self.at = event.seq;
        let parts = event.parts();
        let asked = self.query.types.is_empty()
            || self.query.types.iter().any(|topics| topics.matches(parts.root, parts.topic));
        if !asked || !self.view.shows(event) {
            return;
        }
        let Some(head) = self.view.head(event) else { return };
        let text = match self.view.dialect {
            // Bare payloads may be any text.
            Dialect::Raw => data_json(&event.payload).map(Cow::into_owned).unwrap_or_default(),
            _ => head.finish(Tail::plain(event.seq, event.ts_ms)),
        };
        self.left -= 1;
        self.bytes_left = self.bytes_left.saturating_sub(text.len());
        self.items.push(Item::Event(text));
    }
}

#[cfg(test)]
mod tests {
    use async_nats::Subject;
    use bytes::Bytes;

    use super::*;
    use crate::view::{Encoding, ViewOptions};

    fn view() -> View {
        View {
            roots: vec!["gm".into()],
            hidden: vec!["gm.secret".parse().unwrap()],
            snapshot: vec![],
            dialect: Dialect::Event,
            encoding: Encoding::Plain,
            veils: vec![],
            options: ViewOptions::default(),
        }
    }

    fn sheet<'a>(view: &'a View, query: &'a PageQuery) -> Sheet<'a> {
        Sheet {
            view,
            query,
            items: vec![],
            left: query.limit,
            bytes_left: 80,
            looks_left: 9,
            whole: false,
            found: false,
            at: 0,
        }
    }

    fn event(topic: &str, seq: u64) -> Event {
        Event::parse(Subject::from(format!("gm.s.{topic}")), seq, 9, Bytes::from_static(b"{\"a\":1}")).unwrap()
    }

    fn extent(first: u64, last: u64, holes: Holes) -> Extent {
        Extent { first, last, holes }
    }

    fn gaps(sheet: &Sheet<'_>) -> Vec<(u64, u64, &'static str)> {
        let gap = |item: &Item| match item {
            Item::Gap(Control::Gap { from, to, reason }) => Some((*from, *to, *reason)),
            _ => None,
        };
        sheet.items.iter().filter_map(gap).collect()
    }

    #[test]
    fn what_is_hidden_or_not_asked_for_takes_no_room_but_is_looked_at() {
        let (view, query) = (view(), PageQuery { limit: 5, types: vec!["gm.phase".parse().unwrap()] });
        let mut sheet = sheet(&view, &query);
        for (topic, seq) in [("secret", 3), ("_action", 4), ("state", 5), ("phase", 6)] {
            sheet.take(&event(topic, seq));
        }
        let text = br#"{"event":"gm.phase","data":{"a":1},"seq":6,"ts":9}"#;
        assert_eq!(sheet.items, [Item::Event(text.to_vec())]);
        assert_eq!((sheet.left, sheet.looks_left, sheet.at, sheet.has_room()), (4, 5, 6, true));
        sheet.take(&event("phase", 7));
        assert!(!sheet.has_room(), "the last one may pass the bytes");
    }

    #[test]
    fn a_place_of_another_life_or_beyond_the_end_begins_behind_a_gap() {
        let (view, query, epoch) = (view(), PageQuery { limit: 5, types: vec![] }, Epoch::new(7));
        for (after, at, told) in [
            ("0", 2, vec![]),
            ("5", 5, vec![]),
            ("00000007-9", 9, vec![]),
            ("00000007-0", 0, vec![]),
            ("00000008-4", 2, vec![(1, 2, "epoch")]),
            ("00000007-10", 2, vec![(1, 2, "beyond")]),
        ] {
            let mut sheet = sheet(&view, &query);
            sheet.begin(after.parse().unwrap(), epoch, &extent(3, 9, Holes::None));
            assert_eq!((sheet.at, gaps(&sheet)), (at, told), "{after}");
        }
    }

    #[test]
    fn what_is_missing_of_a_page_is_told_and_the_rest_is_there() {
        let (view, query) = (view(), PageQuery { limit: 5, types: vec![] });
        for (asked, extent, at, told) in [
            (2, extent(3, 9, Holes::None), 2, vec![]),
            (1, extent(5, 9, Holes::None), 4, vec![(2, 4, "trimmed")]),
            (2, extent(3, 9, Holes::Upto(6)), 2, vec![(3, 6, "removed")]),
            (6, extent(3, 9, Holes::Upto(6)), 6, vec![]),
            (1, extent(4, 9, Holes::At([5, 8].into())), 3, vec![(2, 3, "trimmed"), (4, 8, "removed")]),
        ] {
            let mut sheet = sheet(&view, &query);
            sheet.at = asked;
            sheet.miss(asked, 9, &extent);
            assert_eq!((sheet.at, gaps(&sheet)), (at, told), "behind {asked}");
        }
    }
}
