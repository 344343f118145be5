//! Users in subjects: their ids are anything (`auth0|5f7c`, an e-mail address), a subject's words are not.

use std::fmt;

use ring::digest::{SHA256, digest};

/// How many characters a token has: 128 bits, 5 in each.
const LONG: usize = 26;
/// Base32 (RFC 4648) in lower case.
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// The word that stands for a user in a subject (`campaign.<sid>.user.<token>.hand`): the first 16 bytes of the SHA-256 of the
/// user's id, in base32 without padding, lower case. 26 characters, the same for everybody who makes it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct UserToken([u8; LONG]);

impl UserToken {
    /// That of a user.
    #[must_use]
    pub fn of(user: &str) -> Self {
        let hash = digest(&SHA256, user.as_bytes());
        let (mut token, mut bits, mut have, mut at) = ([b'a'; LONG], 0_u32, 0, 0);
        for byte in hash.as_ref().iter().take(16) {
            bits = (bits << 8) | u32::from(*byte);
            have += 8;
            while have >= 5 {
                have -= 5;
                token[at] = ALPHABET[(bits >> have) as usize & 31];
                at += 1;
            }
        }
        // 3 of 128 bits are left.
        token[at] = ALPHABET[(bits << (5 - have)) as usize & 31];
        Self(token)
    }

    /// The token as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Its letters are those of the alphabet.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for UserToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for UserToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UserToken({self})")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_token_is_the_one_that_other_languages_make() {
        // python3: base64.b32encode(hashlib.sha256(user).digest()[:16]).decode().rstrip("=").lower()
        for (user, token) in [
            ("ann", "jgiv4dl5jnac4max2ailyhaoqm"),
            ("auth0|5f7c", "myw5bjmwll5c7rcshem7oywb7q"),
            ("Zoë Ångström", "3ep7565fjvwbbijvzg5aiw5uye"),
        ] {
            assert_eq!(UserToken::of(user).as_str(), token, "{user}");
        }
    }

    proptest! {
        #[test]
        fn whoever_it_is_the_token_is_one_word(user in "\\PC{0,80}") {
            let token = UserToken::of(&user);
            prop_assert_eq!(token.as_str().len(), LONG);
            prop_assert!(token.as_str().bytes().all(|byte| ALPHABET.contains(&byte)));
            prop_assert_ne!(token, UserToken::of(&format!("{user}x")));
        }
    }
}
