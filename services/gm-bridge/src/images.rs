//! The Game Master's pictures.
