//! What stands for a client's id where the id itself can't: ids hold any characters, so they are never part of a subject or key.

use std::fmt::Write as _;

use ring::digest::{SHA256, digest};

/// The hexadecimal SHA-256 of a client's id.
pub(crate) fn of(client: &str) -> String {
    digest(&SHA256, client.as_bytes()).as_ref().iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a string never fails.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_key_of_a_client_is_a_word_whatever_its_id_holds() {
        assert_eq!(super::of("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        for id in ["a.b.*", "$KV", "x y/z", "🦀", ">"] {
            let key = super::of(id);
            assert!(key.len() == 64 && key.bytes().all(|byte| byte.is_ascii_hexdigit()), "{key}");
        }
    }
}
