//! What can be set, where it may be set, and what is in force.

pub(crate) mod database_variable;
pub(crate) mod edit;
pub(crate) mod file;
pub(crate) mod keys;
pub(crate) mod layer;
pub(crate) mod project;
pub(crate) mod proxy_variables;
pub(crate) mod read;
pub(crate) mod values;
