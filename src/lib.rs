//! usherd: decides in real time who may take a concurrent-user licence.
pub mod cli;
pub mod daemon;
pub mod engine;
pub mod subscription;
