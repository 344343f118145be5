//! The configuration of gm-bridge.
