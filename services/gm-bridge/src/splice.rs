//! Replaces the session id in the Game Master's JSON, as bytes.
