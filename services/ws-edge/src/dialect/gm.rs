//! The dialect of the Game Master's own socket: arena events alone, in the envelope its code reads.

use herald_protocol::subject::ARENA;

use super::json;

/// What an agent's output is called here.
const AGENT_STATUS: &str = "agent.status";

/// Whether the Game Master sees such an event.
pub(super) fn shows(root: &str, topic: &str) -> bool {
    root == ARENA && agent(topic) != Some("status")
}

/// `{"subject":T,"data":P` of an arena event with the JSON text `data`.
pub(super) fn head(topic: &str, data: &[u8]) -> Vec<u8> {
    if agent(topic) == Some("output") { open(AGENT_STATUS, &with_take(data)) } else { open(topic, data) }
}

/// What kind of agent event a topic is: the last token of `agent.<aid>.<kind>`.
fn agent(topic: &str) -> Option<&str> {
    let (id, kind) = topic.strip_prefix("agent.")?.split_once('.')?;
    (!id.is_empty() && !kind.contains('.')).then_some(kind)
}

fn open(subject: &str, data: &[u8]) -> Vec<u8> {
    // 64: the fixed parts and a tail.
    let mut head = Vec::with_capacity(subject.len() + data.len() + 64);
    head.extend_from_slice(b"{\"subject\":");
    json::push_string(&mut head, subject);
    head.extend_from_slice(b",\"data\":");
    head.extend_from_slice(data);
    head
}

/// The payload with its `content` once more as `take`, which is where the Game Master looks.
fn with_take(data: &[u8]) -> Vec<u8> {
    let members = json::members(data, 0..data.len()).unwrap_or_default();
    let (Some(content), Some(last)) = (json::last(data, &members, "content"), members.last()) else {
        return data.to_vec();
    };
    let mut splice = json::Splice::new(data);
    splice.insert(last.value.end, [b",\"take\":", &data[content.value.clone()]].concat());
    splice.finish()
}
