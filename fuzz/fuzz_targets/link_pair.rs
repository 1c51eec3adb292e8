//! See `warren_fuzz::machines::link_pair`.
#![cfg_attr(fuzzing, no_main)]

warren_fuzz::program!(warren_fuzz::machines::link_pair);
