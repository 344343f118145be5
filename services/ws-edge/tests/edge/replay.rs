//! A session's past by request, and played again.

mod forks;
mod pages;
mod timed;
