//! The HTTP interface, served over `http.gm`.
