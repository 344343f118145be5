//! What the bridge tells the arena engine: `arena.init` and news.
