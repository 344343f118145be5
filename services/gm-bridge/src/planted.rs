//! Bugs planted in gm-bridge to prove that they are found: see [`herald_runtime::planted`].

herald_runtime::planted_bugs! {
    /// An event without acknowledgement is taken for stored.
    AcknowledgementIgnored,
    /// Events are published without the sequence that their action expects.
    FenceLeftOut,
}
