//! warren-keys
