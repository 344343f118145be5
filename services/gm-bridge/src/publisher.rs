//! The only writer of `gm.*` events.
