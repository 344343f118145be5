//! One running action per session, fenced by the server.
