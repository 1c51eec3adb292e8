//! See `warren_fuzz::machines::upload`.
#![cfg_attr(fuzzing, no_main)]

warren_fuzz::program!(warren_fuzz::machines::upload);
