//! The whole service in one process, spoken to over real HTTP.

mod admin;
mod authz;
mod gateway;
mod stripe;
mod support;
