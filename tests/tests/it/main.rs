//! The tests of the whole, in the order of the data: real workerd, real PostgreSQL, real sockets.

mod api;
mod crash;
mod deliver;
mod handshake;
mod queue;
mod replay;
mod request;
mod retry;
mod route;
mod send;
mod settings;
mod store;
mod verify;
mod whole;
