//! Who somebody is, and where.

use std::sync::Arc;

use herald_protocol::{
    SessionId,
    presence::{Person, PersonId},
};
use ring::digest::{Context, SHA256};

/// A session, and the root it belongs to: another game may have one of the same name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RoomId {
    /// The first of its route's roots.
    pub root: Arc<str>,
    /// The session.
    pub session: SessionId,
}

/// The id of a user in a role: the same by every connection and edge.
#[must_use]
pub fn of_user(user: &str, role: Option<&str>) -> PersonId {
    // Told apart from a connection, and a user without a role from one whose role has no letters.
    hash(&[b"user", user.as_bytes(), role.map_or(&b""[..], |_| &b"as"[..]), role.unwrap_or_default().as_bytes()])
}

/// The id of nobody known: of their connection, which it does not tell.
#[must_use]
pub fn of_connection(connection: &str) -> PersonId {
    hash(&[b"connection", connection.as_bytes()])
}

/// Somebody, as others see them.
#[must_use]
pub fn person(
    connection: &str,
    user: Option<&Arc<str>>,
    role: Option<&Arc<str>>,
    name: Option<&Arc<str>>,
    since: u64,
) -> Person {
    let id = user.map_or_else(|| of_connection(connection), |user| of_user(user, role.map(|role| &**role)));
    Person { id, user: user.cloned(), role: role.cloned(), name: name.cloned(), since }
}

fn hash(parts: &[&[u8]]) -> PersonId {
    let mut context = Context::new(&SHA256);
    for part in parts {
        // With its length in front of it no part goes over into the next.
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part);
    }
    let mut first = [0; 16];
    first.copy_from_slice(&context.finish().as_ref()[..16]);
    PersonId::new(u128::from_le_bytes(first))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_person_is_a_user_in_a_role_and_nobody_known_is_a_connection() {
        let ids = [
            of_user("ann", None),
            of_user("ann", Some("")),
            of_user("ann", Some("dm")),
            of_user("anndm", None),
            of_user("ann", Some("player")),
            of_connection("ann"),
            of_connection("abc"),
        ];
        assert_eq!(HashSet::from(ids).len(), ids.len());
        let (user, role): (Arc<str>, Arc<str>) = ("ann".into(), "dm".into());
        let tabs = ["c1", "c2"].map(|tab| person(tab, Some(&user), Some(&role), None, 5));
        assert_eq!((tabs[0].id, &tabs[0]), (of_user("ann", Some("dm")), &tabs[1]), "two tabs are one");
        assert_ne!(person("c1", None, None, None, 5).id, person("c2", None, None, None, 5).id);
    }
}
