//! No node other than the client can tie the client's address to the routing key of its request; and a storing node cannot
//! tell which documents have one publisher.

mod documents;
mod requests;
mod shapes;
