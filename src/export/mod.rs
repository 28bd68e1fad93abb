//! placeholder
use crate::scope::{Shared, StartError};
use std::sync::Arc;
pub(crate) struct Server;
impl Server {
    pub(crate) fn start(_a: std::net::SocketAddr, _s: Arc<Shared>) -> Result<Server, StartError> { Ok(Server) }
    pub(crate) fn local_addr(&self) -> std::net::SocketAddr { todo!() }
    pub(crate) fn stop(&mut self, _p: std::time::Duration) {}
}
pub(crate) fn router(_s: Arc<Shared>) -> axum::Router { axum::Router::new() }
