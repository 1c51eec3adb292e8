//! warren-storage
