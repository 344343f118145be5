//! Bugs planted in ws-edge to prove that they are found: see [`herald_runtime::planted`].

herald_runtime::planted_bugs! {
    /// A cursor is taken for the next sequence to show in place of the last one shown.
    ResumeOffByOne,
    /// What the ring holds is sent before the last page of what came earlier.
    SeamReversed,
    /// A cursor of another life of the stream is read as one of this life.
    EpochIgnored,
    /// A ring drops its oldest frames and forgets to say so.
    RingEvictsSilently,
    /// `prev` names the last event of the session, whether the view shows it or not.
    PrevWrong,
    /// Now and then an event is put into another session's rings.
    AnotherSession,
    /// Who comes back within the ring gets the event at its cursor again.
    DuplicateAfterReconnect,
    /// A read from a replica is complete because it ended; and the replica lags, as in [`Bug::LaggingReplica`].
    HistoryEndedEarly,
    /// No bug, but what one needs to be seen: direct gets are answered by a replica that lacks the end.
    LaggingReplica,
}
