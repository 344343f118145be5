//! Whoever behaves is judged clean, and every single fault is found, as what it is.

mod cases;
mod model;
mod mutations;
