//! The rules of the conversation and of everything around it, against models and exhaustively.

mod alternatives;
mod chain;
mod conversation;
mod endings;
mod factors;
mod interfaces;
mod memory;
mod pending;
mod policy;
mod responders;
mod results;
mod rounds;
mod scripts;
mod secrets;
mod selection;
mod stage;
