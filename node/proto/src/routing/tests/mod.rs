//! The router among others: many routers in memory, honest and not.

mod hostile;
mod inserting;
mod joining;
mod load;
mod network;
mod ring;
mod sequences;
mod waiting;
