//! See `warren_fuzz::wire::descriptor`.
#![cfg_attr(fuzzing, no_main)]

warren_fuzz::program!(warren_fuzz::wire::descriptor);
