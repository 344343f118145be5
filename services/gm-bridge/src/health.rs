//! What `/health` answers.
