//! The tests of the whole, in the order of the data: real workerd, real PostgreSQL, real sockets.

mod api;
mod chaos;
mod crash;
mod deliver;
mod explain;
mod handshake;
mod history;
mod keys;
mod pace;
mod quarantine;
mod queue;
mod replay;
mod replay_memory;
mod replay_stopped;
mod replicas;
mod request;
mod retry;
mod route;
mod secrets;
mod send;
mod settings;
mod stats;
mod store;
mod verify;
mod whole;
