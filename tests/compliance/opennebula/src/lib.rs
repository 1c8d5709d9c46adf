//! OpenNebula and Countersign, side by side: see `tests/drop_in`.
#![forbid(unsafe_code)]
