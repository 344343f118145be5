//! Topics that only some may see: those in a role, or one user.
//!
//! A rule of a route says who sees a topic. For somebody who comes in it becomes nothing, where they see all of it, or a [`Veil`],
//! which is a part of their view: so it holds wherever a view does, live, in history, in a snapshot and for `prev`.

use std::{fmt, str::FromStr};

use herald_protocol::{Name, TopicPattern, UserToken};
use serde::{Deserialize, Serialize};

use super::Topics;

/// What stands for the word of a user in a rule.
const USER: &str = "{user}";
/// Between topics and those who see them, and between two of those.
const FOR: &str = " for ";
const OR: &str = " or ";
const ROLE: &str = "role:";

/// Who sees some topics, written `<root>.<topic pattern> for <who>`, where `<who>` is `role:<role>`, or, where the pattern has
/// the word `{user}`, `user`; several with `or` between them: `campaign.user.{user}.> for user or role:dm`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Visible {
    /// The topics of all users.
    topics: Topics,
    /// Their pattern as it is written.
    pattern: Box<str>,
    /// Whether each user sees their own.
    user: bool,
    roles: Vec<Name>,
}

/// A text that is no such rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidVisible {
    /// It has not the form.
    #[error(
        "expected '<root>.<topic pattern> for <who>', with `role:<role>` or `user` for <who>, several joined by ' or '"
    )]
    Form,
    /// It speaks of a user whom no topic names, or of one who does not see it.
    #[error("`user` needs the word `{{user}}` among its topics, and `{{user}}` needs somebody who sees it")]
    User,
}

/// Topics that somebody does not see.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Veil {
    topics: Topics,
    /// Of these they do.
    own: Option<TopicPattern>,
}

impl Visible {
    /// The root of its topics.
    #[must_use]
    pub const fn root(&self) -> &Name {
        &self.topics.root
    }

    /// What it hides from somebody; `None`: nothing.
    #[must_use]
    pub fn veil(&self, user: Option<&str>, role: Option<&str>) -> Option<Veil> {
        if role.is_some_and(|role| self.roles.iter().any(|known| known.as_str() == role)) {
            return None;
        }
        let token = user.filter(|_| self.user).map(UserToken::of);
        let own = token.and_then(|token| TopicPattern::parse(&with(&self.pattern, token.as_str())).ok());
        Some(Veil { topics: self.topics.clone(), own })
    }
}

impl Veil {
    /// Whether somebody does not see that topic.
    #[must_use]
    pub fn hides(&self, root: &str, topic: &str) -> bool {
        self.topics.matches(root, topic) && !self.own.as_ref().is_some_and(|own| own.matches(topic))
    }
}

/// The pattern with that in the place of the user.
fn with(pattern: &str, user: &str) -> String {
    let words: Vec<_> = pattern.split('.').map(|word| if word == USER { user } else { word }).collect();
    words.join(".")
}

impl FromStr for Visible {
    type Err = InvalidVisible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (topics, who) = text.split_once(FOR).ok_or(InvalidVisible::Form)?;
        let (root, pattern) = topics.split_once('.').ok_or(InvalidVisible::Form)?;
        let topics: Topics = format!("{root}.{}", with(pattern, "*")).parse().map_err(|_| InvalidVisible::Form)?;
        if with(pattern, "").contains(['{', '}']) {
            return Err(InvalidVisible::Form);
        }
        let (mut user, mut roles) = (false, Vec::new());
        for who in who.split(OR) {
            match who.strip_prefix(ROLE) {
                Some(role) => roles.push(Name::new(role).map_err(|_| InvalidVisible::Form)?),
                None if who == "user" => user = true,
                None => return Err(InvalidVisible::Form),
            }
        }
        if user && !pattern.split('.').any(|word| word == USER) {
            return Err(InvalidVisible::User);
        }
        Ok(Self { topics, pattern: pattern.into(), user, roles })
    }
}

impl fmt::Display for Visible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}{FOR}", self.topics.root, self.pattern)?;
        let roles = self.roles.iter().map(|role| format!("{ROLE}{role}"));
        let who: Vec<_> = self.user.then(|| "user".to_owned()).into_iter().chain(roles).collect();
        f.write_str(&who.join(OR))
    }
}

impl TryFrom<String> for Visible {
    type Error = InvalidVisible;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Visible> for String {
    fn from(rule: Visible) -> Self {
        rule.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rule(text: &str) -> Visible {
        text.parse().unwrap()
    }

    #[test]
    fn rules_are_read_as_they_are_written() {
        for good in [
            "table.dm.> for role:dm",
            "table.dm.* for role:dm or role:owner",
            "table.user.{user}.> for user",
            "table.user.{user}.hand for user or role:dm",
            "table.user.{user}.> for role:dm",
        ] {
            assert_eq!(rule(good).to_string(), good);
        }
        for bad in [
            "",
            "table.dm.>",
            "table.dm.> for ",
            "table.dm.> for dm",
            "table.dm.> for role:",
            "table.dm.> for role:DM",
            "table.dm.> for role:dm and role:x",
            "table.> for role:dm or",
            "table for role:dm",
            "TABLE.x for role:dm",
            "table.x{user}.y for user",
            "table.{users}.y for user",
            "table.{user}..y for user",
        ] {
            assert_eq!(bad.parse::<Visible>(), Err(InvalidVisible::Form), "{bad}");
        }
        assert_eq!("table.x for user".parse::<Visible>(), Err(InvalidVisible::User));
    }

    #[test]
    fn a_role_sees_its_topics_and_nobody_else_does() {
        let dm = rule("table.dm.> for role:dm");
        assert_eq!(dm.veil(None, Some("dm")), None);
        for role in [None, Some("player"), Some("DM"), Some("")] {
            let veil = dm.veil(Some("dm"), role).unwrap();
            assert!(veil.hides("table", "dm.note") && veil.hides("table", "dm.a.b"), "{role:?}");
            assert!(!veil.hides("table", "dm") && !veil.hides("chat", "dm.note") && !veil.hides("table", "note"));
        }
    }

    #[test]
    fn a_user_sees_their_own_and_no_other_s() {
        let hand = rule("table.user.{user}.> for user or role:dm");
        let (ann, bob) = (UserToken::of("ann"), UserToken::of("bob"));
        let veil = hand.veil(Some("ann"), Some("player")).unwrap();
        assert!(!veil.hides("table", &format!("user.{ann}.hand")) && veil.hides("table", &format!("user.{bob}.hand")));
        assert!(veil.hides("table", "user.ann.hand"), "the id itself is no token");
        let nobody = hand.veil(None, None).unwrap();
        assert!(nobody.hides("table", &format!("user.{ann}.hand")));
        assert_eq!(hand.veil(Some("ann"), Some("dm")), None);
        // Only roles: users see nothing of it, their own neither.
        let of_roles = rule("table.user.{user}.> for role:dm").veil(Some("ann"), None).unwrap();
        assert!(of_roles.hides("table", &format!("user.{ann}.hand")));
    }

    proptest! {
        #[test]
        fn whoever_it_is_what_is_another_user_s_is_hidden(one in "\\PC{1,20}", other in "\\PC{1,20}", end in "[a-z]{1,5}") {
            let veil = rule("t.u.{user}.* for user").veil(Some(&one), None).unwrap();
            let topic = format!("u.{}.{end}", UserToken::of(&other));
            prop_assert_eq!(veil.hides("t", &topic), one != other);
        }
    }
}
