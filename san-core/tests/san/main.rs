//! SAN endpoints, tested through their public face: events in, actions out.

mod accepting;
mod connecting;
mod ending;
mod hostile;
mod liveness;
mod memory;
mod model;
mod rig;
mod sessions;
mod world;
