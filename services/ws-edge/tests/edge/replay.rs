//! A session's past by request, and played again.

mod pages;
mod timed;
