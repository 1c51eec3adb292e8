//! See `warren_fuzz::local::http`.
#![cfg_attr(fuzzing, no_main)]

warren_fuzz::program!(warren_fuzz::local::http);
