//! See `warren_fuzz::keys::stream`.
#![cfg_attr(fuzzing, no_main)]

warren_fuzz::program!(warren_fuzz::keys::stream);
