//! warren-tests
