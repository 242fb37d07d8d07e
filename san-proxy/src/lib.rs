//! The user-mode side.
