//! SAN endpoints over a device in memory.
