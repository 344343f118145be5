//! Cuts secrets out of the Game Master's events, as bytes.
