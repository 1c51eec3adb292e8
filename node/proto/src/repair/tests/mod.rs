//! Small networks of routers and repair machines.

mod absence;
mod any;
mod churn;
mod hostile;
mod network;
