//! The records of sessions.
