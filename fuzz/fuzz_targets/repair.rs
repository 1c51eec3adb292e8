//! See `warren_fuzz::machines::repair`.
#![cfg_attr(fuzzing, no_main)]

warren_fuzz::program!(warren_fuzz::machines::repair);
