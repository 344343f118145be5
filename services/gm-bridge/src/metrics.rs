//! The metrics of gm-bridge.
