//! MDLs: partial ones, chains, and lists in memory of the driver's own.
