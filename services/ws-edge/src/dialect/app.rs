//! The dialect of the published React frontend, which reads its relay's frames one level too high.

use std::ops::Range;

use herald_protocol::{
    frame::event_head,
    subject::{ARENA, GM},
};

use super::json::{self, Member, Splice};

/// Events of the Game Master that the frontend does read under `data`.
pub(crate) const AS_THEY_ARE: [&str; 3] = ["reactions", "proposal", "images"];

/// Pictures of the agents, by name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Avatars {
    /// Lower-case name and URL, by name.
    pictures: Vec<(String, String)>,
}

impl Avatars {
    /// The pictures `files` (`pavel.png` is Pavel's), served under the path `base`. `None` where there is not one.
    #[must_use]
    pub fn new<'a>(base: &str, files: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let picture = |file: &str| {
            let (name, _) = file.rsplit_once('.')?;
            Some((name.to_lowercase(), format!("{}/{file}", base.trim_end_matches('/'))))
        };
        let mut pictures: Vec<_> = files.into_iter().filter_map(picture).collect();
        pictures.sort_unstable();
        pictures.dedup_by(|later, first| later.0 == first.0);
        (!pictures.is_empty()).then_some(Self { pictures })
    }

    /// The picture of an agent. Who has none of their own gets always the same one of the others'.
    #[must_use]
    pub fn url(&self, name: &str) -> &str {
        let name = name.to_lowercase();
        let at = self.pictures.binary_search_by(|(known, _)| known.as_str().cmp(&name)).unwrap_or_else(|_| {
            // FNV-1a: the same on every edge and after every restart, which std's hasher does not promise.
            let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
            });
            (hash >> 32) as usize % self.pictures.len()
        });
        &self.pictures[at].1
    }
}

/// An open frame of the event with the JSON text `data`.
pub(super) fn head(root: &str, topic: &str, data: &[u8], avatars: Option<&Avatars>) -> Vec<u8> {
    match root {
        GM => match unwrapped(topic, data) {
            Some(inner) => event_head(root, topic, &inner),
            None => event_head(root, topic, data),
        },
        ARENA => {
            let pictured = avatars.map(|avatars| pictured(data, avatars));
            named(root, topic, pictured.as_deref().unwrap_or(data))
        }
        _ => event_head(root, topic, data),
    }
}

/// The object under `data` with the event's `type`. `None`: the event stays as it is.
fn unwrapped(topic: &str, event: &[u8]) -> Option<Vec<u8>> {
    if AS_THEY_ARE.contains(&topic) {
        return None;
    }
    let members = json::members(event, 0..event.len())?;
    let inner = &event[json::last(event, &members, "data")?.value.clone()];
    let inner_members = json::members(inner, 0..inner.len())?;
    if json::last(inner, &inner_members, "type").is_some() {
        return Some(inner.to_vec());
    }
    let mut piece = if inner_members.is_empty() { b"\"type\":".to_vec() } else { b",\"type\":".to_vec() };
    match json::last(event, &members, "type") {
        Some(event_type) => piece.extend_from_slice(&event[event_type.value.clone()]),
        None => json::push_string(&mut piece, topic),
    }
    let mut splice = Splice::new(inner);
    // Behind the last member, or behind the brace of an empty object.
    splice.insert(inner_members.last().map_or(1, |last| last.value.end), piece);
    Some(splice.finish())
}

/// `{"event":"arena.<topic>","subject":"<topic>","data":<data>`.
fn named(root: &str, topic: &str, data: &[u8]) -> Vec<u8> {
    // 112: the fixed parts and a tail.
    let mut head = Vec::with_capacity(root.len() + 2 * topic.len() + data.len() + 112);
    head.extend_from_slice(b"{\"event\":");
    json::push_string(&mut head, &format!("{root}.{topic}"));
    head.extend_from_slice(b",\"subject\":");
    json::push_string(&mut head, topic);
    head.extend_from_slice(b",\"data\":");
    head.extend_from_slice(data);
    head
}

/// The payload with a picture beside each agent's name.
fn pictured(data: &[u8], avatars: &Avatars) -> Vec<u8> {
    let mut work = Pictures { data, avatars, splice: Splice::new(data) };
    if let Some(members) = json::members(data, 0..data.len()) {
        work.agent(&members);
        work.beside(&members, "parent_name", "parent_avatar_url");
        work.beside(&members, "child_name", "child_avatar_url");
        for list in ["agents", "graveyard"] {
            for element in work.list(&members, list) {
                if let Some(agent) = json::members(data, element) {
                    work.beside(&agent, "name", "avatar_url");
                }
            }
        }
        for element in work.list(&members, "survivors") {
            work.survivor(element);
        }
    } else {
        for element in json::elements(data, 0..data.len()).unwrap_or_default() {
            if let Some(members) = json::members(data, element) {
                work.agent(&members);
            }
        }
    }
    work.splice.finish()
}

struct Pictures<'a> {
    data: &'a [u8],
    avatars: &'a Avatars,
    splice: Splice<'a>,
}

impl Pictures<'_> {
    fn list(&self, members: &[Member], name: &str) -> Vec<Range<usize>> {
        let list = json::last(self.data, members, name);
        list.and_then(|list| json::elements(self.data, list.value.clone())).unwrap_or_default()
    }

    fn agent(&mut self, members: &[Member]) {
        self.beside(members, "agent_name", "avatar_url");
    }

    /// Adds the picture of the agent whose name is the member `name`, unless there is one.
    fn beside(&mut self, members: &[Member], name: &str, url: &str) {
        let Some(member) = json::last(self.data, members, name) else { return };
        if json::last(self.data, members, url).is_some() {
            return;
        }
        let Some(name) = json::string(self.data, member.value.clone()) else { return };
        let mut piece = format!(",\"{url}\":").into_bytes();
        json::push_string(&mut piece, self.avatars.url(&name));
        self.splice.insert(member.value.end, piece);
    }

    /// A survivor that is a bare name becomes an object; its text stays as it was written.
    fn survivor(&mut self, element: Range<usize>) {
        let Some(name) = json::string(self.data, element.clone()) else { return };
        let mut piece = [b"{\"name\":", &self.data[element.clone()], b",\"avatar_url\":"].concat();
        json::push_string(&mut piece, self.avatars.url(&name));
        piece.push(b'}');
        self.splice.replace(element, piece);
    }
}
