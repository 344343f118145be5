//! Places at which a process can be told to die, to prove that the others heal what it leaves: see [`herald_runtime::planted`].

herald_runtime::planted_bugs! {
    /// A join: the binding is there, the session does not list the client yet.
    DiesBound,
    /// A join: the session lists the client, the binding does not say so yet.
    DiesListed,
    /// A join that a leave has overtaken: the client is about to be taken out again.
    DiesOvertaken,
    /// A leave: the client is taken out, the binding is still there.
    DiesTakenOut,
    /// A leave: all is done, nobody has been told.
    DiesUnbound,
    /// A change is written, its status is not told yet.
    DiesUntold,
    /// A session is marked as destroyed, nobody has been told.
    DiesBurying,
}

/// Dies here, at once and without a word, if it is told to.
pub(crate) fn dies_at(bug: Bug) {
    if planted(bug) {
        std::process::abort();
    }
}
