//! See `warren_fuzz::wire::records`.
#![cfg_attr(fuzzing, no_main)]

warren_fuzz::program!(warren_fuzz::wire::records);
