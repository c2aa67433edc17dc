//! The whole service in one process, spoken to over real HTTP.

mod admin;
mod gateway;
mod stripe;
mod support;
