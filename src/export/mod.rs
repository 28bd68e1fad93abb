//! The way out: `/metrics` in three formats, the page, JSON, probes.
//!
//! A slow or hostile client costs the exporter's own thread only (`server`), or the engine's runtime
//! if it mounts the `router`.

mod alias;
mod family;
mod negotiate;
mod overview;
mod protobuf;
mod routes;
mod server;
mod text;

pub use routes::Exposition;
pub(crate) use routes::{Exporter, exposition, router};
pub(crate) use server::Server;
