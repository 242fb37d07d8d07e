//! Drivers that are not ours: small ones in C, each of which does what drivers of its kind do, from loading to unloading.

mod bed;
mod cryptography;
mod datagrams;
mod exceptions;
mod exports;
mod files;
mod library;
mod pages;
mod pnp;
mod wsk;
