//! Which session plays on which Game Master.
