//! The Game Master's HTTP and SSE interface; the only user of reqwest.
