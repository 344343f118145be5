//! Games on Game Masters, through bridges in this process, a real nats-server, a scripted Game Master, and whoever else it
//! takes: an arena engine, edges.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed step is a failed test")]

#[path = "games/bad_input.rs"]
mod bad_input;
#[path = "games/cap.rs"]
mod cap;
#[path = "games/failing.rs"]
mod failing;
#[path = "games/house.rs"]
mod house;
#[path = "games/init.rs"]
mod init;
#[path = "games/lies.rs"]
mod lies;
#[path = "games/life.rs"]
mod life;
#[path = "games/master.rs"]
mod master;
#[path = "games/news.rs"]
mod news;
#[path = "games/starts.rs"]
mod starts;
#[path = "games/taking.rs"]
mod taking;
