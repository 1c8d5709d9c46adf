//! The backends as a portal meets them: whole conversations, over real files and a real store.

mod accounts;
mod change;
mod file;
mod stage;
