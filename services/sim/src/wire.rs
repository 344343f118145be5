//! The two formats that `sim floor` and `sim load` read and write themselves, as slices, without a task or an allocation
//! per message: what they measure must not be their own work.

pub mod nats;
pub mod websocket;
