//! Takes the place of the crates under `windows`, of which a Linux build of wdk-build needs nothing.
