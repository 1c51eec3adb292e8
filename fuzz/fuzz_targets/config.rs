//! See `warren_fuzz::local::config`.
#![cfg_attr(fuzzing, no_main)]

warren_fuzz::program!(warren_fuzz::local::config);
